"""Snapshots and backups of machines: taken, listed, gone back to; a machine is never given another one's disks."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from nixops_proxmox.errors import NotFound, StateError
from nixops_proxmox.lifecycle.steps.hardware import get_vm
from nixops_proxmox.model import Facts, Machine, Phase, Power
from nixops_proxmox.pve.answers import SnapshotSeen, StorageSeen
from nixops_proxmox.pve.hypervisor import PveHypervisor
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.wiring.pursuit import Pursuit

MARK = "nixops-proxmox "  # before the machine's UUID in an archive's notes


@dataclass(frozen=True)
class Archive:
    """`ours`: its notes have the machine's UUID; others are of a guest that had the same VMID, perhaps of this one."""

    volume: str
    node: str
    size: int  # bytes
    created: int  # epoch
    ours: bool


# Snapshots


def list_snapshots(hypervisor: PveHypervisor, pursuit: Pursuit) -> tuple[SnapshotSeen, ...]:
    """The oldest first."""
    vm = get_vm(pursuit.world, pursuit.machine)
    return hypervisor.client.describe_snapshots(vm.node, vm.vmid)


def take_snapshot(
    hypervisor: PveHypervisor, pursuit: Pursuit, name: str, *, description: str = "", ram: bool = False
) -> Machine:
    """Of all disks at one moment; `ram`: and of the memory."""
    machine = pursuit.machine
    get_vm(pursuit.world, machine)

    def post(node: str) -> str:
        return hypervisor.client.create_snapshot(node, machine.facts.vmid, name, description=description, ram=ram)

    hypervisor.run_task("qmsnapshot", machine.facts, post, f"{machine.name}: taking the snapshot {name}")
    return pursuit.record(machine, f"took the snapshot {name}")


def delete_snapshot(hypervisor: PveHypervisor, pursuit: Pursuit, name: str) -> Machine:
    machine = pursuit.machine
    _require_snapshot(hypervisor, pursuit, name)

    def post(node: str) -> str:
        return hypervisor.client.delete_snapshot(node, machine.facts.vmid, name)

    hypervisor.run_task("qmdelsnapshot", machine.facts, post, f"{machine.name}: deleting the snapshot {name}")
    return pursuit.record(machine, f"deleted the snapshot {name}")


def return_to_snapshot(hypervisor: PveHypervisor, pursuit: Pursuit, name: str) -> Machine:
    """What was written since is lost. PVE switches the machine off; it runs afterwards if it ran before."""
    machine = pursuit.machine
    _require_snapshot(hypervisor, pursuit, name)
    ran = get_vm(pursuit.world, machine).power is Power.RUNNING

    def post(node: str) -> str:
        return hypervisor.client.roll_back(node, machine.facts.vmid, name)

    hypervisor.run_task("qmrollback", machine.facts, post, f"{machine.name}: going back to the snapshot {name}")
    machine = _changed(pursuit, machine.facts, f"went back to the snapshot {name}")
    return pursuit.to(Phase.READY) if ran else machine


def _require_snapshot(hypervisor: PveHypervisor, pursuit: Pursuit, name: str) -> None:
    known = [snapshot.name for snapshot in list_snapshots(hypervisor, pursuit)]
    if name not in known:
        have = ", ".join(known) or "none"
        raise NotFound(f"{pursuit.machine.name}: there is no snapshot {name!r}", hint=f"it has: {have}")


# Backups


def list_archives(hypervisor: PveHypervisor, facts: Facts) -> tuple[Archive, ...]:
    """Every archive of the machine's VMID on every storage that takes backups, the oldest first."""
    found = {}
    for place in _backup_places(hypervisor):
        for volume in hypervisor.client.list_volumes(place.node, place.storage, "backup"):
            if volume.vmid == facts.vmid:
                ours = f"{MARK}{facts.uuid}" in volume.notes
                node = "" if place.shared else place.node
                found[node, volume.volid] = Archive(volume.volid, place.node, volume.size, volume.created, ours)
    return tuple(sorted(found.values(), key=lambda archive: (archive.created, archive.volume)))


def back_up(hypervisor: PveHypervisor, pursuit: Pursuit, *, storage: str = "", mode: str = "snapshot") -> Archive:
    """A copy of all disks (but those with `backup = false`) on a storage that takes backups. `mode`: snapshot (the
    machine goes on), suspend or stop."""
    machine = pursuit.machine
    vm = get_vm(pursuit.world, machine)
    target = storage or _choose_storage(hypervisor, vm.node)
    before = {archive.volume for archive in list_archives(hypervisor, machine.facts)}
    notes = f"{{{{guestname}}}} {MARK}{machine.facts.uuid}"

    def post(node: str) -> str:
        return hypervisor.client.back_up(node, vm.vmid, target, mode=mode, notes=notes)

    hypervisor.run_task("vzdump", machine.facts, post, f"{machine.name}: backing up to {target}")
    new = [one for one in list_archives(hypervisor, machine.facts) if one.ours and one.volume not in before]
    if not new:
        raise NotFound(f"{machine.name}: the backup succeeded, but {target} shows no new archive")
    pursuit.record(machine, f"backed up as {new[-1].volume}")
    return new[-1]


def restore(hypervisor: PveHypervisor, pursuit: Pursuit, archive: str = "") -> Machine:
    """Everything is as it was in the archive, or in the newest of ours; the machine runs afterwards if it ran before.
    A machine whose VM is lost comes back with its identity."""
    chosen = _choose_archive(list_archives(hypervisor, pursuit.machine.facts), archive, pursuit.machine.name)
    before = pursuit.looked_at()
    ran = before.phase not in (Phase.STOPPED, Phase.LOST)
    machine = before if before.phase is Phase.LOST else pursuit.to(Phase.STOPPED)
    doing = f"{machine.name}: restoring {chosen.volume}"
    if before.phase is Phase.LOST:
        upid = hypervisor.client.restore_vm(chosen.node, machine.facts.vmid, chosen.volume)
        hypervisor.wait_for_task(upid)
        machine = machine.moved(machine.phase, replace(machine.facts, node=chosen.node))
    else:
        hypervisor.run_task(
            "qmrestore",
            machine.facts,
            lambda node: hypervisor.client.restore_vm(node, machine.facts.vmid, chosen.volume, force=True),
            doing,
        )
    if hypervisor.find_vm(machine.facts) is None:
        raise StateError(
            f"{doing}: what came back is another machine: it has another UUID",
            hint="the archive is of a guest that had this VMID; restore one that is marked as this machine's",
        )
    machine = _changed(pursuit, machine.facts, f"restored from {chosen.volume}")
    return pursuit.to(Phase.READY) if ran else machine


def _choose_archive(archives: tuple[Archive, ...], wanted: str, name: str) -> Archive:
    fitting = [one for one in archives if (one.volume == wanted if wanted else one.ours)]
    if not fitting:
        have = ", ".join(one.volume for one in archives) or "none"
        what = f"no backup {wanted!r} of it" if wanted else "no backup of it that is marked as its own"
        raise NotFound(f"{name}: there is {what}", hint=f"there are: {have}")
    return fitting[-1]


def _choose_storage(hypervisor: PveHypervisor, node: str) -> str:
    """Shared before local, then the most room."""
    fitting = [place for place in _backup_places(hypervisor) if place.shared or place.node == node]
    if not fitting:
        raise NotFound(
            f"no storage on {node} takes backups",
            hint=f"enable the content type for backups on one; {command(Verb.DOCTOR)} shows them",
        )
    return max(fitting, key=lambda place: (place.shared, place.free)).storage


def _backup_places(hypervisor: PveHypervisor) -> Iterator[StorageSeen]:
    """Of shared storages, one place is enough."""
    seen = set()
    for place in hypervisor.resources().storages:
        key = (place.storage, "" if place.shared else place.node)
        if place.available and "backup" in place.content and key not in seen:
            seen.add(key)
            yield place


def _changed(pursuit: Pursuit, facts: Facts, what: str) -> Machine:
    """The disks hold something else now: which system, only the machine itself can tell."""
    facts = replace(facts, system="", generation=0, boot_id="", installer_keys=(), endpoint=None)
    vm = pursuit.world.hypervisor.find_vm(facts)
    runs = vm is not None and vm.power is Power.RUNNING
    return pursuit.record(pursuit.machine.moved(Phase.RUNNING if runs else Phase.STOPPED, facts), what)
