"""Snapshots and backups: taken, deleted, returned to."""

from collections.abc import Mapping

from typing_extensions import override

from nixops_proxmox.errors import NeedsPermission, NotFound, PveRefused
from nixops_proxmox.kinds.machine.errand import RAN, Errand, boot, by_power, ran, unknown_disks, unsettled, with_volumes
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.kinds.machine.steps.hardware import get_vm
from nixops_proxmox.model import Archive, Facts, Machine, Phase

STORAGE, NEWEST = "storage", "newest"


class TakeSnapshot(Errand):
    """Take the snapshot"""

    task = "qmsnapshot"
    disturbs = False

    def __init__(self, name: str, *, description: str = "", ram: bool = False) -> None:
        self.subject, self._description, self._ram = name, description, ram

    @override
    def remember(self, world: World, machine: Machine) -> Mapping[str, str]:
        if self.subject in world.hypervisor.saves.snapshots(get_vm_facts(world, machine)):
            raise PveRefused(
                f"{machine.name}: a snapshot {self.subject!r} already exists", hint="delete it, or choose another name"
            )
        return {}

    @override
    def already(self, world: World, machine: Machine) -> Facts | None:
        complete = world.hypervisor.saves.snapshots(machine.facts).get(self.subject, False)
        return machine.facts if complete else None

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: PVE takes no second snapshot of the same name."""
        world.hypervisor.saves.take_snapshot(
            machine.facts, self.subject, attempt.note_task, description=self._description, ram=self._ram
        )
        return attempt.facts


class DeleteSnapshot(Errand):
    """Delete the snapshot"""

    task = "qmdelsnapshot"
    disturbs = False

    def __init__(self, name: str) -> None:
        self.subject = name

    @override
    def remember(self, world: World, machine: Machine) -> Mapping[str, str]:
        require_snapshot(world, machine, self.subject)
        return {}

    @override
    def already(self, world: World, machine: Machine) -> Facts | None:
        return None if self.subject in world.hypervisor.saves.snapshots(machine.facts) else machine.facts

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: it is only done while a snapshot of that name is there."""
        world.hypervisor.saves.delete_snapshot(machine.facts, self.subject, attempt.note_task)
        return attempt.facts


class ReturnToSnapshot(Errand):
    """Return to the snapshot"""

    task = "qmrollback"

    def __init__(self, name: str) -> None:
        self.subject = name

    @override
    def remember(self, world: World, machine: Machine) -> Mapping[str, str]:
        prove_snapshot(world, machine, self.subject)
        world.volumes.refuse_rollback(machine, self.subject)
        return ran(world, machine)

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: it ends in the same snapshot, and all that is lost is what was written since."""
        attempt.doubt(unsettled(machine), unknown_disks(machine.facts))
        world.hypervisor.saves.return_to_snapshot(machine.facts, self.subject, attempt.note_task)
        attempt.note(with_volumes(world, attempt.facts))
        boots = attempt.facts.errand[RAN] == "yes" and attempt.thing.phase is Phase.INSTALLED
        return boot(world, attempt) if boots else attempt.facts

    @override
    def lands(self, world: World, machine: Machine) -> Phase:
        return by_power(world, machine)


class BackUp(Errand):
    """Back the machine up"""

    task = "vzdump"
    disturbs = False

    def __init__(self, storage: str = "", mode: str = "snapshot") -> None:
        """`storage`: where to, or empty, and one is chosen. `mode`: snapshot (the machine goes on), suspend or stop."""
        self.subject = f"to {storage}" if storage else ""
        self._storage, self._mode = storage, mode
        self.made: Archive | None = None

    @override
    def remember(self, world: World, machine: Machine) -> Mapping[str, str]:
        facts = get_vm_facts(world, machine)
        saves = world.hypervisor.saves
        newest = max((archive.created for archive in saves.archives(facts)), default=0)
        return {STORAGE: self._storage or saves.choose_storage(facts), NEWEST: str(newest)}

    @override
    def already(self, world: World, machine: Machine) -> Facts | None:
        since = int(machine.facts.errand[NEWEST])
        new = [one for one in world.hypervisor.saves.archives(machine.facts) if one.ours and one.created > since]
        self.made = new[-1] if new else None
        return machine.facts if new else None

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: an archive overwrites none. At worst there is one more."""
        storage = machine.facts.errand[STORAGE]
        world.hypervisor.saves.back_up(machine.facts, storage, self._mode, attempt.note_task)
        if self.already(world, attempt.thing) is None:
            raise NotFound(f"{machine.name}: the backup succeeded, but {storage} shows no new archive")
        return attempt.facts


class DeleteBackup(Errand):
    """Delete the backup"""

    disturbs = False

    def __init__(self, node: str, volume: str) -> None:
        self.subject, self._node = volume, node

    @override
    def already(self, world: World, machine: Machine) -> Facts | None:
        there = any(one.volume == self.subject for one in world.hypervisor.saves.archives(machine.facts))
        return None if there else machine.facts

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: a volume that is gone is an error that says so, and no other ever gets its name."""
        del machine
        world.hypervisor.saves.delete_archive(self._node, self.subject, attempt.note_task)
        return attempt.facts


def get_vm_facts(world: World, machine: Machine) -> Facts:
    """The facts of a machine whose VM is there. Raises NotFound otherwise."""
    get_vm(world, machine)
    return machine.facts


def require_snapshot(world: World, machine: Machine, name: str) -> None:
    known = world.hypervisor.saves.snapshots(get_vm_facts(world, machine))
    if name not in known:
        have = ", ".join(known) or "none"
        raise NotFound(f"{machine.name}: there is no snapshot {name!r}", hint=f"it has: {have}")


def prove_snapshot(world: World, machine: Machine, name: str) -> None:
    """Only looks. Raises NotFound, or NeedsPermission if going back to it would make another machine of the VM."""
    require_snapshot(world, machine, name)
    uuid = world.hypervisor.saves.uuid_in_snapshot(machine.facts, name)
    if uuid != machine.facts.uuid.lower():
        vmid = machine.facts.vmid
        raise NeedsPermission(
            f"{machine.name}: the snapshot {name} was taken when VM {vmid} had another UUID"
            f" ({uuid or 'none'}): it is of another machine, and nothing was done",
            hint="go back to another snapshot; or roll back in PVE, and give the VM the UUID"
            f" {machine.facts.uuid} again (`qm set {vmid} --smbios1 uuid=…`)",
        )
