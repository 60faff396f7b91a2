"""A machine's record as one JSON value: what goes in comes out, and every change is written at once."""

import json
from dataclasses import replace
from ipaddress import ip_address

import pytest

from nixops_proxmox.errors import CommandFailed, StateError, StateTooNew
from nixops_proxmox.model import Address, Endpoint, Facts, Machine, Phase, Reach
from nixops_proxmox.nixops2.book import KEPT, Book, MachineRecord
from nixops_proxmox.spec import parse_machine
from nixops_proxmox.state import AttemptOutcome

SPEC = parse_machine(
    "web",
    {"proxmox": {"disks": [{"storage": "local", "size": 8}], "network": [{"bridge": "vmbr0", "ipv4": "10.0.0.2/24"}]}},
)
FACTS = Facts(
    uuid="u",
    vmid=105,
    addresses=(Address(ip_address("10.0.0.2"), Reach.PRIVATE, "eth0", "aa"),),
    endpoint=Endpoint("fd00::1", 2222, "me", "jump"),
)
MACHINE = Machine("shop", "web")


def make(record: MachineRecord | None = None) -> tuple[Book, list[MachineRecord]]:
    written: list[MachineRecord] = []
    times = iter(range(1, 1000))
    return Book(record or MachineRecord(), written.append, now=lambda: float(next(times))), written


def test_what_is_recorded_comes_back_through_json() -> None:
    book, written = make(
        MachineRecord(spec=SPEC, winners={"here": Endpoint("10.0.0.2")}, hardware={"round": 0, "fileSystems": {}})
    )
    key = book.begin(MACHINE, "Reserve", "reserved")
    book.commit(key, MACHINE.moved(Phase.RESERVED, FACTS))
    book.keep(backups={"2026": {"kind": "vzdump"}})
    assert MachineRecord.from_json(json.loads(json.dumps(written[-1].to_json()))) == written[-1]
    assert written[-1].machine("shop", "web") == MACHINE.moved(Phase.RESERVED, FACTS)


def test_every_event_is_written_and_a_prefix_of_them_is_a_valid_record() -> None:
    book, written = make()
    key = book.begin(MACHINE, "Create", "defined")
    book.note(key, MACHINE.moved(Phase.ABSENT, replace(FACTS, task="UPID:1")))
    book.commit(key, MACHINE.moved(Phase.DEFINED, FACTS))
    assert [record.phase for record in written] == [Phase.ABSENT, Phase.ABSENT, Phase.DEFINED]
    assert [record.entries[-1].outcome for record in written] == [
        AttemptOutcome.RUNNING,
        AttemptOutcome.RUNNING,
        AttemptOutcome.DONE,
    ]
    assert written[1].facts.task == "UPID:1" and written[2].entries[-1].tasks == ("UPID:1",)


def test_a_failure_keeps_phase_and_facts() -> None:
    book, written = make(MachineRecord(Phase.DEFINED, FACTS))
    key = book.begin(MACHINE.moved(Phase.DEFINED, FACTS), "Boot", "installer")
    book.fail(key, CommandFailed("x" * 9000, status=1))
    assert (written[-1].phase, written[-1].facts) == (Phase.DEFINED, FACTS)
    assert written[-1].entries[-1].outcome is AttemptOutcome.FAILED and len(written[-1].entries[-1].error) < 3000
    with pytest.raises(StateError, match="not running"):
        book.commit(key, MACHINE)


def test_an_attempt_that_never_ended_was_interrupted() -> None:
    book, written = make()
    book.begin(MACHINE, "Create", "defined")
    again, _ = make(written[-1])
    assert again.record_now.entries[-1].outcome is AttemptOutcome.INTERRUPTED


def test_a_sighting_says_where_it_was_thought_to_be() -> None:
    book, written = make(MachineRecord(Phase.READY, FACTS))
    book.record(MACHINE.moved(Phase.LOST, FACTS), "seen: it is lost")
    assert (written[-1].entries[-1].phase_from, written[-1].phase) == ("ready", Phase.LOST)
    assert len(written) == 1


def test_history_is_bounded_and_its_numbers_never_come_again() -> None:
    book, written = make()
    for _ in range(KEPT + 5):
        book.commit(book.begin(MACHINE, "x", "ready"), MACHINE)
    assert len(written[-1].entries) == KEPT
    assert written[-1].entries[-1].id == KEPT + 5


def test_a_winner_is_written_only_when_it_changed() -> None:
    book, written = make()
    book.remember_winner("here", Endpoint("10.0.0.2"))
    book.remember_winner("here", Endpoint("10.0.0.2"))
    assert len(written) == 1


def test_records_of_the_future_and_of_nobody_are_refused() -> None:
    good = MachineRecord(Phase.READY, FACTS, SPEC).to_json()
    with pytest.raises(StateTooNew, match="version 2"):
        MachineRecord.from_json(good | {"version": 2})
    with pytest.raises(StateTooNew, match="cannot be read"):
        MachineRecord.from_json(good | {"spec": {**good["spec"], "colour": "red"}})
    with pytest.raises(StateError, match="damaged"):
        MachineRecord.from_json(good | {"phase": "elsewhere"})
    with pytest.raises(StateError, match="damaged"):
        MachineRecord.from_json({"version": 1})
