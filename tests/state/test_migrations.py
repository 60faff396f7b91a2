from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect

from nixops_proxmox.errors import StateError, StateTooNew
from nixops_proxmox.state import State, open_state
from nixops_proxmox.state.blobs import BlobStore
from nixops_proxmox.state.database import reading, writing
from nixops_proxmox.state.locks import LockStore
from nixops_proxmox.state.migrations import MIGRATIONS, find_version, is_current, migrate
from tests.pace import patience

from .conftest import start_python

NOW = len(MIGRATIONS) + 1


def add_colour(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE machines ADD COLUMN colour TEXT")


def add_smell(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE machines ADD COLUMN smell TEXT")


def columns(state: State) -> set[str]:
    with reading(state.engine) as connection:
        return {column["name"] for column in inspect(connection).get_columns("machines")}


def test_an_earlier_version_is_brought_forward_step_by_step_and_once(state: State) -> None:
    for migrations in ([], [add_colour], [add_colour, add_smell], [add_colour, add_smell]):
        with writing(state.engine) as connection:
            migrate(connection, [*MIGRATIONS, *migrations])
    assert {"colour", "smell"} <= columns(state)
    with reading(state.engine) as connection:
        assert find_version(connection) == NOW + 2


def test_the_first_versions_leases_become_leases_of_machines_too(url: str) -> None:
    with open_state(url) as state:
        state.deployment("net")
    with open_state(url) as state, writing(state.engine) as connection:
        connection.exec_driver_sql("DROP TABLE leases")
        connection.exec_driver_sql("CREATE TABLE leases (deployment_id INTEGER PRIMARY KEY, token TEXT)")
        connection.exec_driver_sql("UPDATE schema_version SET version = 1")
    with open_state(url) as state:
        deployment = state.deployment("net")
        with deployment.only("web").lease(), deployment.only("db").lease():
            assert deployment.held() is not None


def test_the_second_versions_state_gets_a_place_for_files_of_others(url: str) -> None:
    with open_state(url) as state, writing(state.engine) as connection:
        for table in ("blobs", "locks"):
            connection.exec_driver_sql(f"DROP TABLE {table}")
        connection.exec_driver_sql("UPDATE schema_version SET version = 2")
    with open_state(url) as state:
        assert BlobStore(state).write("nixops", bytes(range(256)), after=0) == 1
        assert BlobStore(state).read("nixops").content == bytes(range(256))
        LockStore(state).release("nixops", LockStore(state).take("nixops", "nixops deploy"))


def test_a_migration_that_fails_leaves_everything_as_it_was(state: State) -> None:
    def explode(connection: Connection) -> None:
        raise StateError("boom")

    with pytest.raises(StateError, match="boom"), writing(state.engine) as connection:
        migrate(connection, [*MIGRATIONS, add_colour, explode])
    assert "colour" not in columns(state)
    with reading(state.engine) as connection:
        assert is_current(connection)


def test_a_newer_version_is_refused_before_anything_is_touched(url: str) -> None:
    with open_state(url) as state, writing(state.engine) as connection:
        migrate(connection, [*MIGRATIONS, add_colour])
    with pytest.raises(StateTooNew, match=f"version {NOW + 1}, ours {NOW}"):
        open_state(url)


def test_tables_without_their_version_are_an_error(url: str) -> None:
    with open_state(url) as state, writing(state.engine) as connection:
        connection.exec_driver_sql("DELETE FROM schema_version")
    with pytest.raises(StateError, match="lost its version"):
        open_state(url)


OPEN = """
import sys
from nixops_proxmox.state import open_state
print("ready", flush=True); sys.stdin.readline()
with open_state(sys.argv[1]) as state:
    state.deployment("net")
"""


def test_several_first_runs_at_once_make_one_database(url: str, tmp_path: Path) -> None:
    runs = [start_python(OPEN, url) for _ in range(4)]
    for run in runs:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
    told = [run.communicate("go\n", timeout=patience(60))[0] for run in runs]
    assert [run.returncode for run in runs] == [0] * 4, told
    with open_state(url) as state:
        assert state.deployments() == ["net"]
