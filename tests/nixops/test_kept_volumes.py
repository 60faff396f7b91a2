"""Volumes in NixOps's state, seen without NixOps: their record, their journal, and which machine comes first."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from nixops_proxmox.errors import SpecError, StateError, StateTooNew
from nixops_proxmox.kinds.volume.facts import Volume, VolumeFacts, VolumePhase
from nixops_proxmox.nixops2.book import KeptVolumeRecord
from nixops_proxmox.nixops2.network import NixopsRecord
from nixops_proxmox.nixops2.volumes import NixopsVolumes, holders_before, refuse_wrong_volumes
from nixops_proxmox.spec import VolumeSpec, parse_machine

DATA = VolumeSpec(name="data", storage="local-lvm", size=1 << 30, protect=False)
FACTS = VolumeFacts(serial="npv-0", vmid=900000, machine="db")


class Kept:
    """What `volume.ProxmoxVolumeState` is to it."""

    def __init__(self, record: KeptVolumeRecord | None = None) -> None:
        self.record = record or KeptVolumeRecord()

    def write(self, record: KeptVolumeRecord) -> None:
        self.record = KeptVolumeRecord.from_json(record.to_json())


def definitions(**volumes: tuple[str, ...]) -> dict[str, Any]:
    """Machines and their volumes, as NixOps evaluates them, with one volume `data`."""
    proxmox = {
        "disks": [{"storage": "local-lvm", "size": "1G"}],
        "install": {"iso": "local:iso/x.iso"},
        "network": [{"bridge": "vmbr0"}],
    }
    machines = {
        name: SimpleNamespace(spec=parse_machine(name, {"proxmox": {**proxmox, "volumes": list(has)}}))
        for name, has in volumes.items()
    }
    return {**machines, "data": SimpleNamespace(spec=DATA), "key": SimpleNamespace()}


def test_a_record_comes_back_as_it_was_written() -> None:
    record = KeptVolumeRecord(VolumePhase.PARKED, FACTS, DATA)
    assert KeptVolumeRecord.from_json(record.to_json()) == record
    with pytest.raises(StateTooNew, match="the volume's record is of version 9"):
        KeptVolumeRecord.from_json({"version": 9})
    with pytest.raises(StateError, match="the volume's record is damaged"):
        KeptVolumeRecord.from_json({"version": 1, "phase": "nowhere"})


def test_what_happens_to_a_volume_is_in_its_own_book_and_in_the_history() -> None:
    kept = {"data": Kept()}
    record = NixopsRecord("shop", {}, nullcontext, volumes=NixopsVolumes("shop", "0f0e", lambda: kept))
    volume = Volume("shop", "data")
    journal = record.journal()
    attempt = journal.begin(volume, "Create the volume", "parked")
    journal.commit(attempt, volume.moved(VolumePhase.PARKED, FACTS))
    (stored,) = record.stored("volume")
    assert (stored.phase, stored.facts["serial"]) == ("parked", "npv-0")
    assert [(entry.kind, entry.name) for entry in record.history()] == [("volume", "data")]
    assert record.identity == "0f0e" and record.stored("medium") == []


def test_only_a_verb_that_may_forgets_a_volume() -> None:
    kept = {"data": Kept()}
    with pytest.raises(StateError, match="nothing deletes it here"):
        NixopsVolumes("shop", "0f0e", lambda: kept).forget("data")
    NixopsVolumes("shop", "0f0e", lambda: kept, lambda name: kept.clear()).forget("data")
    assert not kept


def test_a_machine_that_lets_go_of_a_volume_comes_before_the_one_that_gets_it() -> None:
    both = definitions(db=(), spare=("data",))
    assert holders_before(both, {"data": "db"}, "spare") == {"db"}
    assert holders_before(both, {"data": "db"}, "db") == set()
    assert holders_before(both, {"data": "gone"}, "spare") == set(), "it is not described"
    assert holders_before(None, {"data": "db"}, "spare") == set()


def test_an_exchange_is_refused_because_each_would_wait_for_the_other() -> None:
    exchange = definitions(db=("mail",), spare=("data",))
    with pytest.raises(SpecError, match="in a circle"):
        holders_before(exchange, {"data": "db", "mail": "spare"}, "db")


def test_a_volume_that_is_not_described_is_told_with_the_option() -> None:
    refuse_wrong_volumes(definitions(db=("data",)))
    with pytest.raises(SpecError, match=r"db\.deployment\.proxmox\.volumes\[0\]: there is no volume date"):
        refuse_wrong_volumes(definitions(db=("date",)))
    with pytest.raises(SpecError, match="data is attached to db already"):
        refuse_wrong_volumes(definitions(db=("data",), spare=("data",)))
