"""Snapshots and backups of machines: taken, listed, returned to. `restoring` has how a backup is restored."""

from collections.abc import Sequence

from nixops_proxmox.errors import NotFound
from nixops_proxmox.kinds.machine.errands import saves
from nixops_proxmox.kinds.machine.steps.hardware import get_vm
from nixops_proxmox.model import Archive, Facts, Machine, Phase
from nixops_proxmox.operations.pursuit import Pursuit
from nixops_proxmox.pve.api.answers import SnapshotSeen
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor

# Snapshots


def list_snapshots(hypervisor: PveHypervisor, pursuit: Pursuit) -> tuple[SnapshotSeen, ...]:
    """The oldest first."""
    vm = get_vm(pursuit.world, pursuit.machine)
    return hypervisor.client.describe_snapshots(vm.node, vm.vmid)


def take_snapshot(pursuit: Pursuit, name: str, *, description: str = "", ram: bool = False) -> Machine:
    """Take a snapshot of all disks at one moment. `ram`: of the memory too."""
    return pursuit.run(saves.TakeSnapshot(name, description=description, ram=ram))


def delete_snapshot(pursuit: Pursuit, name: str) -> Machine:
    return pursuit.run(saves.DeleteSnapshot(name))


def return_to_snapshot(pursuit: Pursuit, name: str) -> Machine:
    """What was written since is lost. PVE switches the machine off. It runs afterwards if it ran before."""
    machine = pursuit.run(saves.ReturnToSnapshot(name))
    return pursuit.to(Phase.READY) if machine.phase is Phase.RUNNING else machine


def prove_snapshot(pursuit: Pursuit, name: str) -> None:
    """Only looks. Raises NotFound, or NeedsPermission if going back to it would make another machine of the VM."""
    saves.prove_snapshot(pursuit.world, pursuit.machine, name)


# Backups


def list_archives(hypervisor: PveHypervisor, facts: Facts) -> Sequence[Archive]:
    """Every archive of the machine's VMID on every storage that takes backups, the oldest first."""
    return hypervisor.saves.archives(facts)


def back_up(pursuit: Pursuit, *, storage: str = "", mode: str = "snapshot") -> Archive:
    """A copy of all disks (but those with `backup = false`) on a storage that takes backups. `mode`: snapshot (the
    machine goes on), suspend or stop."""
    errand = saves.BackUp(storage, mode)
    machine = pursuit.run(errand)
    if errand.made is None:
        raise NotFound(f"{machine.name}: its backup is not on the storage any more")
    return errand.made


def delete_backup(pursuit: Pursuit, node: str, volume: str) -> Machine:
    """NotFound if there is none."""
    return pursuit.run(saves.DeleteBackup(node, volume))
