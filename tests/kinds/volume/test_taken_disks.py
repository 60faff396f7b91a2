"""A disk of a machine becomes a volume, and a run that broke anywhere on the way leaves neither two nor none."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from nixops_proxmox.errors import PveOutcomeUnknown, SpecError, StateError
from nixops_proxmox.kinds.volume.facts import VolumePhase
from nixops_proxmox.model import Machine, Spot
from nixops_proxmox.operations.taking import refuse_to_take
from nixops_proxmox.spec import VolumeSpec, parse_machine
from tests.kinds import shelves
from tests.kinds.benches import VolumeBench
from tests.kinds.machine.cluster import Crash, Fuse

BANGS: dict[str, Callable[[], BaseException]] = {"crash": Crash, "unknown": lambda: PveOutcomeUnknown("lost")}
NAME = "local-lvm:vm-100-disk-1"
DISK = Spot(shelves.MACHINE, "scsi1", NAME, 10 << 30, marked=True)


def bench() -> VolumeBench:
    """A machine with a disk of its own, with data."""
    made = VolumeBench()
    made.shelves.vms[100].disks["scsi1"] = shelves.Disk("root1", 10 << 30, 77, NAME)
    return made


def where(one: VolumeBench) -> tuple[int, str, int]:
    ((vmid, slot, disk),) = one.shelves.disks()
    return vmid, slot, disk.data


@pytest.mark.parametrize("bang", BANGS)
def test_the_disk_stays_where_it_is_and_keeps_its_data_whatever_breaks(bang: str) -> None:
    one = bench()
    for at in range(100):
        one, fuse = bench(), Fuse(at, BANGS[bang])
        with suppress(Crash, PveOutcomeUnknown):
            one.pursue(VolumePhase.ATTACHED, fuse, disk=DISK)
        if fuse.count <= at:
            assert at >= 4, "the sweep must have walked a whole run"
            break
        with suppress(StateError):  # a run that knows nothing of the disk makes no second one beside it
            one.pursue(VolumePhase.ATTACHED, disk=DISK)
        assert where(one) == (100, "scsi1", 77) and one.shelves.made == 0
        assert one.record.thing.phase is VolumePhase.ATTACHED
    assert where(one) == (100, "scsi1", 77)
    one.pursue(VolumePhase.PARKED)
    vmid, _, data = where(one)
    assert one.shelves.vms[vmid].parker and data == 77


def test_a_deploy_after_a_crash_makes_no_second_volume() -> None:
    for at in range(100):
        one, fuse = bench(), Fuse(at)
        with suppress(Crash):
            one.pursue(VolumePhase.ATTACHED, fuse, disk=DISK)
        if fuse.count <= at:
            return
        if not one.shelves.disks():
            continue  # not marked yet: it is still the machine's own disk
        with suppress(StateError):
            one.pursue(VolumePhase.ATTACHED)
        assert where(one) == (100, "scsi1", 77) and one.shelves.made == 0


PROXMOX = {
    "disks": [{"storage": "local-lvm", "size": "1G"}],
    "install": {"iso": "local:iso/x.iso"},
    "network": [{"bridge": "vmbr0"}],
}
DATA = VolumeSpec(name="data", storage="local-lvm", size=10 << 30)


@pytest.mark.parametrize(
    ("volume", "slot", "disk", "has", "says"),
    [
        (DATA, "scsi1", None, ["data"], "no disk there"),
        (DATA, "virtio1", DISK, ["data"], "a volume is a SCSI disk"),
        (DATA, "scsi0", DISK, ["data"], "still has it as one of"),
        (DATA, "scsi1", DISK, [], "does not describe the volume data"),
        (DATA.model_copy(update={"storage": "ceph"}), "scsi1", DISK, ["data"], "described on ceph"),
        (DATA.model_copy(update={"size": 1 << 30}), "scsi1", DISK, ["data"], "described with 1G"),
    ],
)
def test_what_cannot_become_the_volume_is_refused(
    volume: VolumeSpec, slot: str, disk: Spot | None, has: list[str], says: str
) -> None:
    fits = parse_machine("db", {"proxmox": {**PROXMOX, "volumes": ["data"]}})
    refuse_to_take(DATA, "scsi1", DISK, Machine("demo", "db"), fits)
    spec = parse_machine("db", {"proxmox": {**PROXMOX, "volumes": has}})
    with pytest.raises(SpecError, match=says):
        refuse_to_take(volume, slot, disk, Machine("demo", "db"), spec)
