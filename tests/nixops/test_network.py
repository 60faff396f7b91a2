"""NixOps's state as a deployment's record: one journal over all machines, each in its own book."""

import threading
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from nixops_proxmox.errors import CommandFailed, Locked, StateError
from nixops_proxmox.model import Endpoint, Facts, Machine, Phase
from nixops_proxmox.nixops2.book import MachineRecord
from nixops_proxmox.nixops2.holding import Holding, holding_of
from nixops_proxmox.nixops2.network import NixopsRecord


class Kept:
    """What `backend.ProxmoxState` is to it."""

    def __init__(self, record: MachineRecord | None = None) -> None:
        self.record = record or MachineRecord()
        self.writes = 0

    def write(self, record: MachineRecord) -> None:
        self.record, self.writes = record, self.writes + 1


def make(**kept: Kept) -> NixopsRecord:
    return NixopsRecord("shop", kept, nullcontext)


def test_machines_are_as_they_were_recorded() -> None:
    facts = Facts(vmid=105)
    record = make(web=Kept(MachineRecord(Phase.READY, facts)), db=Kept())
    assert record.machines() == [Machine("shop", "db"), Machine("shop", "web", Phase.READY, facts)]
    assert record.machine("elsewhere") == Machine("shop", "elsewhere")


def test_attempts_of_machines_at_once_do_not_meet() -> None:
    kept = {f"m{number}": Kept() for number in range(8)}
    record = make(**kept)
    journal = record.journal()
    barrier = threading.Barrier(len(kept))

    def work(name: str) -> None:
        machine = Machine("shop", name)
        barrier.wait()
        for vmid in range(20):
            key = journal.begin(machine, f"of {name}", "ready")
            journal.note(key, machine.moved(Phase.ABSENT, Facts(task=f"UPID:{name}:{vmid}")))
            journal.commit(key, machine.moved(Phase.READY, Facts(vmid=vmid)))

    threads = [threading.Thread(target=work, args=(name,)) for name in kept]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    for name, one in kept.items():
        assert {entry.label for entry in one.record.entries} == {f"of {name}"}
        assert all(task.startswith(f"UPID:{name}:") for entry in one.record.entries for task in entry.tasks)
        assert one.record.facts.vmid == 19 and one.writes == 60


def test_history_is_of_all_machines_in_the_order_of_time() -> None:
    record = make(web=Kept(), db=Kept())
    journal = record.journal()
    for name in ("web", "db", "web"):
        journal.commit(journal.begin(Machine("shop", name), "x", "ready"), Machine("shop", name))
    assert [entry.name for entry in record.history()] == ["web", "db", "web"]
    assert [entry.name for entry in record.history("web")] == ["web", "web"]
    assert len(record.history(limit=1)) == 1


def test_a_failure_is_in_the_machines_own_book() -> None:
    web, db = Kept(), Kept()
    journal = make(web=web, db=db).journal()
    journal.fail(journal.begin(Machine("shop", "web"), "x", "ready"), CommandFailed("no", status=1))
    assert web.record.entries[-1].error == "no" and db.writes == 0


def test_winners_are_remembered_with_the_machine() -> None:
    web = Kept()
    record = make(web=web)
    record.remember_winner("web", "here", Endpoint("10.0.0.2"))
    record.remember_winner("elsewhere", "here", Endpoint("10.0.0.3"))
    assert record.find_winner("web", "here") == Endpoint("10.0.0.2") == web.record.winners["here"]
    assert record.find_winner("elsewhere", "here") is None


def test_what_nixops_does_not_know_is_not_written_and_nixops_forgets_by_itself() -> None:
    record = make(web=Kept())
    with pytest.raises(StateError, match="does not know db"):
        record.journal().record(Machine("shop", "db"), "seen")
    with pytest.raises(StateError, match="NixOps keeps this record"):
        record.forget("web")


def test_a_record_that_was_changed_elsewhere_is_not_the_books() -> None:
    """Each verb opens its own books: what was recorded before is in them."""
    web = Kept(MachineRecord(Phase.READY, Facts(vmid=1)))
    make(web=web).journal().record(Machine("shop", "web", Phase.STOPPED, replace(web.record.facts)), "seen")
    assert make(web=web).machine("web").phase is Phase.STOPPED


def test_a_broken_lock_is_told_to_whoever_is_about_to_act() -> None:
    holding = Holding()
    record = NixopsRecord("shop", {}, nullcontext, holding.prove)
    with record.lease() as lease:
        record.prove(lease)

        def broken() -> None:
            raise Locked("broken")

        holding.began(lambda: None)
        record.prove(lease)
        holding.began(broken)
        with pytest.raises(Locked, match="broken"):
            record.prove(lease)
        holding.ended()
        with pytest.raises(Locked, match="released its lock"):
            record.prove(lease)


def test_the_lock_that_opened_the_state_is_the_one_that_is_asked() -> None:
    driver = SimpleNamespace(holding=Holding())
    assert holding_of(SimpleNamespace(lock=driver)) is driver.holding
    for other in (None, SimpleNamespace()):  # NixOps without a lock, and another's driver
        holding_of(SimpleNamespace(lock=other)).prove()
    driver.holding.ended()
    with pytest.raises(Locked):
        holding_of(SimpleNamespace(lock=driver)).prove()
