"""Snapshots and backups of machines: taken, listed, gone back to; how a backup is restored is in `restoring`."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from nixops_proxmox.errors import NeedsWord, NotFound
from nixops_proxmox.lifecycle.steps.hardware import get_vm
from nixops_proxmox.model import Facts, Machine, Phase, Power
from nixops_proxmox.pve.answers import SnapshotSeen, StorageSeen
from nixops_proxmox.pve.hypervisor import PveHypervisor
from nixops_proxmox.pve.identity import uuid_of
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.wiring.pursuit import Pursuit

MARK = "nixops-proxmox "  # before the machine's UUID in an archive's notes


@dataclass(frozen=True)
class Archive:
    """`ours`: its notes have the machine's UUID; others are of a guest that had the same VMID, perhaps of this one:
    what is in them tells. `shared`: every node can read it."""

    volume: str
    node: str
    size: int  # bytes
    created: int  # epoch
    ours: bool
    shared: bool = False


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
    prove_snapshot(hypervisor, pursuit, name)
    ran = get_vm(pursuit.world, machine).power is Power.RUNNING

    def post(node: str) -> str:
        return hypervisor.client.roll_back(node, machine.facts.vmid, name)

    hypervisor.run_task("qmrollback", machine.facts, post, f"{machine.name}: going back to the snapshot {name}")
    machine = changed(pursuit, machine.facts, f"went back to the snapshot {name}")
    return pursuit.to(Phase.READY) if ran else machine


def prove_snapshot(hypervisor: PveHypervisor, pursuit: Pursuit, name: str) -> None:
    """Only looks. Raises NotFound, or NeedsWord if going back to it would make another machine of the VM."""
    machine = pursuit.machine
    _require_snapshot(hypervisor, pursuit, name)
    vm = get_vm(pursuit.world, machine)
    uuid = uuid_of(hypervisor.client.get_config(vm.node, vm.vmid, snapshot=name).values)
    if uuid != machine.facts.uuid.lower():
        raise NeedsWord(
            f"{machine.name}: the snapshot {name} was taken when VM {vm.vmid} had another UUID"
            f" ({uuid or 'none'}): it is of another machine, and nothing was done",
            hint="go back to another snapshot; or roll back in PVE, and give the VM the UUID"
            f" {machine.facts.uuid} again (`qm set {vm.vmid} --smbios1 uuid=…`)",
        )


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
                found[node, volume.volid] = Archive(
                    volume.volid, place.node, volume.size, volume.created, ours, place.shared
                )
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


def changed(pursuit: Pursuit, facts: Facts, what: str) -> Machine:
    """The disks hold something else now: which system, only the machine itself can tell."""
    facts = replace(facts, system="", generation=0, boot_id="", installer_keys=(), endpoint=None)
    vm = pursuit.world.hypervisor.find_vm(facts)
    if vm is not None and facts.volumes:
        facts = replace(facts, volumes=pursuit.world.hypervisor.volumes(vm))
    runs = vm is not None and vm.power is Power.RUNNING
    return pursuit.record(pursuit.machine.moved(Phase.RUNNING if runs else Phase.STOPPED, facts), what)
