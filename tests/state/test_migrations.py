"""Every earlier version's state is brought to today's tables. `version3.*.sql` was written by that version itself."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, inspect

from nixops_proxmox.errors import StateError, StateTooNew
from nixops_proxmox.model import Endpoint, Phase
from nixops_proxmox.state import AttemptOutcome, State, open_state
from nixops_proxmox.state.blobs import BlobStore
from nixops_proxmox.state.database import open_engine, parse_location, reading, writing
from nixops_proxmox.state.locks import LockStore
from nixops_proxmox.state.migrations import MIGRATIONS, find_version, is_current, migrate
from tests.pace import patience

from .conftest import start_python

NOW = len(MIGRATIONS) + 1
EARLIER = Path(__file__).parent


def write_earlier(url: str, *changes: str) -> None:
    """A state as the version with the tables of number 3 wrote it, and then `changes`."""
    engine = open_engine(parse_location(url))
    script = (EARLIER / f"version3.{engine.dialect.name}.sql").read_text()
    with writing(engine) as connection:
        for statement in [*script.splitlines()[1:], *changes]:
            connection.exec_driver_sql(statement)
    engine.dispose()


def add_colour(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE things ADD COLUMN colour TEXT")


def add_smell(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE things ADD COLUMN smell TEXT")


def columns(state: State) -> set[str]:
    with reading(state.engine) as connection:
        return {column["name"] for column in inspect(connection).get_columns("things")}


def test_an_earlier_version_is_brought_forward_step_by_step_and_once(state: State) -> None:
    for migrations in ([], [add_colour], [add_colour, add_smell], [add_colour, add_smell]):
        with writing(state.engine) as connection:
            migrate(connection, [*MIGRATIONS, *migrations])
    assert {"colour", "smell"} <= columns(state)
    with reading(state.engine) as connection:
        assert find_version(connection) == NOW + 2


def test_the_first_versions_leases_become_leases_of_machines_too(url: str) -> None:
    write_earlier(
        url,
        "DROP TABLE leases",
        "CREATE TABLE leases (deployment_id INTEGER PRIMARY KEY, token TEXT)",
        "UPDATE schema_version SET version = 1",
    )
    with open_state(url) as state:
        deployment = state.deployment("demo")
        with deployment.only("web").lease(), deployment.only("db").lease():
            assert deployment.held() is not None


def test_the_second_versions_state_gets_a_place_for_files_of_others(url: str) -> None:
    write_earlier(url, "DROP TABLE blobs", "DROP TABLE locks", "UPDATE schema_version SET version = 2")
    with open_state(url) as state:
        assert BlobStore(state).write("nixops", bytes(range(256)), after=0) == 1
        assert BlobStore(state).read("nixops").content == bytes(range(256))
        LockStore(state).release("nixops", LockStore(state).take("nixops", "nixops deploy"))


def test_the_third_versions_machines_are_things_of_their_kind_with_all_that_was_known(url: str) -> None:
    write_earlier(url)
    with open_state(url) as state:
        demo, other = state.deployment("demo"), state.deployment("other")
        assert {machine.name: machine.phase for machine in demo.machines()} == {
            "db": Phase.RESERVED,
            "web": Phase.READY,
        }
        assert (demo.machine("web").facts.vmid, demo.machine("web").facts.endpoint) == (100, Endpoint("10.0.0.3"))
        assert demo.machine("db").facts.task == "UPID:pve1:7:create_vm:"
        assert other.machine("web").phase is Phase.STOPPED
        assert state.find_name("CE68D0E4-adc9-4281-88b0-fec040c091c7") == ("demo", "web")
        assert demo.find_winner("web", "here") == Endpoint("10.0.0.3")
        assert BlobStore(state).read("nixops").content == b"content"


def test_the_third_versions_history_goes_on_where_it_ended(url: str) -> None:
    write_earlier(url)
    with open_state(url) as state:
        demo = state.deployment("demo")
        assert [entry.id for entry in demo.history()] == list(range(1, 11))
        assert {entry.kind for entry in demo.history()} == {"machine"}
        with demo.lease() as lease:
            last = demo.history("db")[-1]
            assert (last.outcome, last.tasks) == (AttemptOutcome.INTERRUPTED, ("UPID:pve1:7:create_vm:",))
            assert demo.journal(lease).begin(demo.machine("db"), "Create the VM and its disks", "defined") == 12


def test_the_fourth_versions_leases_become_leases_of_things_of_any_kind(url: str) -> None:
    write_earlier(url)
    engine = open_engine(parse_location(url))
    with writing(engine) as connection:
        migrate(connection, MIGRATIONS[:3])
        connection.exec_driver_sql(
            "INSERT INTO leases (deployment_id, machine, token, holder, since, heartbeat)"
            " VALUES (1, 'web', 'x', '{}', 1, 1)"
        )
    engine.dispose()
    with open_state(url) as state:
        demo = state.deployment("demo")
        assert demo.holders() == [], "leases do not outlive runs"
        with demo.only("web").lease(), demo.only("web", "volume").lease():
            assert [(held.scope.kind, held.scope.name) for held in demo.holders()] == [
                ("machine", "web"),
                ("volume", "web"),
            ]
        assert demo.machine("web").phase is Phase.READY


def test_a_state_that_was_brought_forward_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    """Else a later migration would work on one of them only."""
    write_earlier(str(tmp_path / "earlier.sqlite"))
    with open_state(str(tmp_path / "earlier.sqlite")) as earlier, open_state(str(tmp_path / "new.sqlite")) as new:
        assert tables(earlier) == tables(new)


def tables(state: State) -> dict[str, Any]:
    with reading(state.engine) as connection:
        seen = inspect(connection)
        return {
            name: (
                {
                    column["name"]: (
                        str(column["type"]).split("_")[0],
                        column["nullable"],
                        column["default"],
                    )
                    for column in seen.get_columns(name)
                },
                seen.get_pk_constraint(name)["constrained_columns"],
                [(index["name"], index["column_names"]) for index in seen.get_indexes(name)],
                [(key["constrained_columns"], key["referred_table"]) for key in seen.get_foreign_keys(name)],
            )
            for name in seen.get_table_names()
        }


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
