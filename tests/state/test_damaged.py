"""Every cell of the state, damaged in every way that SQLite allows: always one clear error, or nothing to notice."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import fields, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.errors import DeployError, StateError
from nixops_proxmox.model import Address, Endpoint, Facts, Machine, Phase, Reach
from nixops_proxmox.state import State, open_state
from nixops_proxmox.state.blobs import BlobStore
from nixops_proxmox.state.documents import Document
from nixops_proxmox.state.holder import this_process
from nixops_proxmox.state.locks import LockStore
from nixops_proxmox.state.schema import metadata

FACTS = Facts(
    uuid="5e0b9a44-8d0e-4f1e-9a3e-3f0a2c1b7d55",
    vmid=101,
    macs=("02:00:00:00:00:01",),
    addresses=(Address(ip_address("10.0.0.7"), Reach.PRIVATE),),
    endpoint=Endpoint("10.0.0.7"),
    extra={"a": "b"},
)
NONSENSE: dict[str, Any] = {
    "empty": "",
    "text": "nonsense",
    "zero": 0,
    "negative": -1,
    "huge": 1 << 62,
    "float": 1.5,
    "beyond": 1e30,
    "infinite": float("inf"),
    "bytes": b"\xff\x00",
    "no-utf8": "CAST(x'ff80' AS TEXT)",
    "json-null": "null",
    "json-list": "[1, null]",
    "json-object": '{"a": {"b": 1}}',
    "json-number": "1e999",
    "json-text": '"x"',
    "json-cut": '{"a":',
    "json-deep": "[" * 100_000,
    "surrogate": '{"host": "\\ud800"}',
}
UNREAD = {
    "id",
    "deployment_id",
    "kind",
    "name",
    "site",
    "document",
    "machine",
    "created",
    "changed",
    "won",
}  # or as keys only
CELLS = [(table.name, column.name) for table in metadata.sorted_tables for column in table.columns]


def fill(file: Path) -> None:
    with open_state(str(file)) as state:
        record = state.deployment("shop")
        journal = record.journal()
        machine = Machine("shop", "web", Phase.READY, FACTS)
        journal.record(machine, "Found")
        attempt = journal.begin(machine, "Start it", "ready")
        journal.note(attempt, machine.moved(Phase.READY, replace(FACTS, task="UPID:1")))
        record.remember_winner("web", "here", Endpoint("10.0.0.7"))
        Document(state, "doc").append("event", "1", [{"op": "add"}], lambda _: None)
        BlobStore(state).write("file", b"content", after=0)
        LockStore(state, who=lambda: replace(this_process(), pid=1, pid_started="")).take("file", "deploy")


def hold(file: Path) -> None:
    """A lease that nobody has released."""
    with open_state(str(file)) as state, state.deployment("shop").lease(), closing(sqlite3.connect(file)) as database:
        row = database.execute("SELECT * FROM leases").fetchone()
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(f"INSERT INTO leases VALUES ({', '.join('?' * len(row))})", row)


def verbs(state: State) -> Iterator[Callable[[], object]]:
    def take() -> None:
        with state.deployment("shop").lease(break_lock=True):
            pass

    def walk() -> None:
        journal = state.deployment("shop").journal()
        machine = state.deployment("shop").machine("web")
        journal.commit(journal.begin(machine, "Stop it", "stopped"), machine)

    yield lambda: [state.deployment(name).machines() for name in state.deployments()]
    yield lambda: state.find_machine(FACTS.uuid)
    yield lambda: [entry.to_json() for entry in state.deployment("shop").history()]
    yield lambda: state.deployment("shop").find_winner("web", "here")
    yield lambda: state.deployment("shop").held()
    yield lambda: _lock_from_elsewhere(state)
    yield lambda: Document(state, "doc").read()
    yield lambda: Document(state, "doc").append("event", "1", [], lambda _: None)
    yield lambda: BlobStore(state).write("file", b"x", after=BlobStore(state).read("file").version)
    yield lambda: LockStore(state).take("file", "deploy")
    yield lambda: LockStore(state).break_lock("file")
    yield walk
    yield take


def _lock_from_elsewhere(state: State) -> None:
    with state.deployment("shop").lease(who=lambda: replace(this_process(), host="elsewhere")):
        pass


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("state") / "state.sqlite"
    fill(file)
    hold(file)
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("PRAGMA journal_mode=DELETE")
    return file.read_bytes()


@pytest.mark.parametrize(("table", "column"), CELLS, ids=[".".join(cell) for cell in CELLS])
def test_a_damaged_cell_is_one_clear_error(tmp_path: Path, whole: bytes, table: str, column: str) -> None:
    noticed = 0
    for kind, value in NONSENSE.items():
        file = tmp_path / f"{kind}.sqlite"
        file.write_bytes(whole)
        with closing(sqlite3.connect(file)) as database, database:
            raw = kind == "no-utf8"
            with suppress(sqlite3.IntegrityError):  # SQLite refuses a few by itself
                sql = f"UPDATE OR IGNORE {table} SET {column} = {value if raw else '?'}"
                database.execute(sql, () if raw else (value,))
        try:
            with open_state(str(file)) as state:
                for verb in verbs(state):
                    try:
                        verb()
                    except DeployError as error:
                        noticed += 1
                        assert error.message.isprintable() or "\n" in error.message
        except DeployError as error:
            noticed += 1
            assert error.message
    assert noticed or column in UNREAD, "nobody looked"


def test_the_error_names_the_cell_and_the_way_out(tmp_path: Path, whole: bytes) -> None:
    file = tmp_path / "state.sqlite"
    file.write_bytes(whole)
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE leases SET since = 1e30")
    with open_state(str(file)) as state:
        with (
            pytest.raises(StateError, match=r"a lease's time cannot be 1e\+30") as caught,
            state.deployment("shop").lease(),
        ):
            pass
        assert "backup" in caught.value.hint
        with state.deployment("shop").lease(break_lock=True):
            assert state.deployment("shop").held()


@pytest.mark.parametrize(
    "facts",
    [
        {"vmid": "101"}, {"vmid": True}, {"vmid": 1e30}, {"uuid": 5}, {"macs": "02"}, {"macs": [5]}, {"addresses": {}},
        {"addresses": [{"ip": 7, "reach": "private"}]}, {"endpoint": {"host": 5}},
        {"extra": {"a": 1}}, {"endpoint": {"host": "a", "port": 99999}}, {"extra": []},
        {"endpoint": {"host": "a", "port": "22"}}, {"endpoint": {"hst": ""}},
    ],
)  # fmt: skip
def test_facts_of_another_kind_are_no_facts(facts: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError, KeyError)):
        Facts.from_json(facts)


def test_whole_facts_come_back() -> None:
    assert Facts.from_json(FACTS.to_json()) == FACTS


OF_KINDS: dict[type, Any] = {str: "x", int: 7, bool: True, tuple: ("x",), dict: {"x": "y"}}
ALL = Facts(
    **{
        one.name: OF_KINDS[type(getattr(Facts(), one.name))]
        for one in fields(Facts)
        if one.name not in ("addresses", "endpoint")
    },
    addresses=FACTS.addresses,
    endpoint=FACTS.endpoint,
)


def test_every_fact_comes_back() -> None:
    assert len(ALL.to_json()) == len(fields(Facts))
    assert Facts.from_json(json.loads(json.dumps(ALL.to_json()))) == ALL
