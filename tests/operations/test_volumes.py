"""Where a file is put, what is sent, and what is recorded, on storages in memory and with a real state."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.operations.volumes import Put, Volumes
from nixops_proxmox.pve.api.answers import ClusterResources, StorageSeen
from nixops_proxmox.state import open_state
from tests.kinds.benches import Media, Storage
from tests.kinds.machine.cluster import Fuse

LOCAL = StorageSeen("local", "pve1", True, False, frozenset({"iso"}), total=100)


@dataclass
class Hypervisor:
    """As much of it as putting a file needs."""

    storage: Storage = field(default_factory=Storage)
    places: tuple[StorageSeen, ...] = (LOCAL,)

    @property
    def media(self) -> Media:
        return Media(self.storage, Fuse())

    def wait_for_task(self, upid: str) -> None:
        self.media.wait(upid)

    def resources(self) -> ClusterResources:
        return ClusterResources(0.0, storages=self.places)


@pytest.fixture
def iso(tmp_path: Path) -> Path:
    path = tmp_path / "my nixos.iso"
    path.write_bytes(b"0123456789")
    return path


def volumes(hypervisor: Hypervisor, record: Any = None) -> Volumes:
    return Volumes(hypervisor, "lab", record)


def test_a_file_is_sent_once_without_a_record_too(iso: Path) -> None:
    hypervisor = Hypervisor()
    volume = "local:iso/my_nixos-84d89877f0d4041e.iso"
    assert volumes(hypervisor).put(iso, "iso") == Put(volume, "pve1", uploaded=True)
    assert volumes(hypervisor).put(iso, "iso") == Put(volume, "pve1", uploaded=False)
    assert hypervisor.storage.uploads == 1 and hypervisor.storage.files == {volume: 10}


def test_a_part_of_a_file_is_sent_again(iso: Path) -> None:
    hypervisor = Hypervisor()
    volume = volumes(hypervisor).ensure(iso, "local", "iso")
    hypervisor.storage.files[volume] = 3
    assert volumes(hypervisor).put(iso, "iso").uploaded
    assert hypervisor.storage.files == {volume: 10}


def test_the_record_of_a_deployment_keeps_it(iso: Path, tmp_path: Path) -> None:
    hypervisor = Hypervisor()
    with open_state(str(tmp_path / "state.sqlite")) as state:
        record = state.deployment("demo")
        put = volumes(hypervisor, record).put(iso, "iso")
        volumes(hypervisor, record).put(iso, "iso")
        (stored,) = record.stored("medium")
        assert (stored.phase, stored.facts["values"]["volume"]) == ("present", put.volume)
        (entry,) = record.history()
        assert (entry.kind, entry.outcome.value, len(entry.tasks)) == ("medium", "done", 1)
