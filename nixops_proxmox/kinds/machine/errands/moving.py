"""A machine taken to another hypervisor: left there as a backup, restored here, and only then destroyed there."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from typing_extensions import override

from nixops_proxmox.errors import NotFound, StateError, TaskFailed
from nixops_proxmox.kinds.machine.copies import without_copies
from nixops_proxmox.kinds.machine.errand import Errand, by_power, ran, unsettled
from nixops_proxmox.kinds.machine.errands.restoring import noting_remains, without_remains
from nixops_proxmox.kinds.machine.left import Left, with_left, without_left
from nixops_proxmox.kinds.machine.lives import life_of
from nixops_proxmox.kinds.machine.ports import Hypervisor
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.kinds.machine.steps.hardware import SHUTDOWN, get_vm
from nixops_proxmox.model import Archive, Facts, Machine, Phase, Power, Vm
from nixops_proxmox.spelling import Verb, command

STORAGE, NEWEST, THERE = "storage", "newest", "there"


class Leave(Errand):
    """Stop the machine and back it up, to be restored elsewhere"""

    task = "vzdump"

    def __init__(
        self,
        target: str,
        storage: str,
        *,
        let_go: Callable[[], None],
        started_since: Callable[[Machine, int], bool],
        arrange: Callable[[Machine, Archive], Facts],
    ) -> None:
        """`let_go` removes what wants the machine here. `started_since`: the VM was started after that time (epoch).
        `arrange`: the facts of the machine at its new place, by its backup."""
        self.subject, self._target, self._storage = f"on {target}", target, storage
        self._let_go, self._started_since, self._arrange = let_go, started_since, arrange

    @override
    def remember(self, world: World, machine: Machine) -> Mapping[str, str]:
        if machine.phase is not Phase.STOPPED:
            life_of(world.spec).next_move(
                machine, Phase.STOPPED
            )  # one that is not installed yet, or is lost, does not go
        get_vm(world, machine)
        newest = max((one.created for one in world.hypervisor.saves.archives(machine.facts)), default=0)
        return {**ran(world, machine), STORAGE: self._storage, NEWEST: str(newest)}

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: a backup that an earlier try made is taken only if the VM was not started since; at worst
        there is one more."""
        attempt.doubt(unsettled(machine), attempt.facts)
        if get_vm(world, machine).power is Power.RUNNING:
            world.hypervisor.shut_down_vm(machine.facts, attempt.note_task, SHUTDOWN)
        self._let_go()
        archive = self._find_made(world, attempt.thing)
        if archive is None:
            world.hypervisor.saves.back_up(machine.facts, attempt.facts.errand[STORAGE], "stop", attempt.note_task)
            archive = self._find_made(world, attempt.thing)
        if archive is None:
            raise NotFound(
                f"{machine.name}: the backup succeeded, but no storage shows it, or the VM was started meanwhile",
                hint="the same command begins again",
            )
        world.hypervisor.retire_vm(get_vm(world, machine))
        return self._arrange(attempt.thing, archive)

    def _find_made(self, world: World, machine: Machine) -> Archive | None:
        since = int(machine.facts.errand[NEWEST])
        new = [one for one in world.hypervisor.saves.archives(machine.facts) if one.ours and one.created > since]
        return new[-1] if new and not self._started_since(machine, new[-1].created) else None

    @override
    def lands(self, world: World, machine: Machine) -> Phase:
        """Where it is now, it is only a backup yet."""
        return Phase.LOST


class Arrive(Errand):
    """Restore the machine on its new hypervisor"""

    task = "qmrestore"

    def __init__(self, archive: Archive, left: Left) -> None:
        self.subject, self._archive, self._left = archive.volume, archive, left

    @override
    def already(self, world: World, machine: Machine) -> Facts | None:
        """Nothing else has our mark there: what PVE has restored is not restored over."""
        vm = world.hypervisor.find_vm(machine.facts)
        if vm is None or vm.lock == "create":
            return None
        facts = without_remains(machine.facts)
        facts = without_copies(with_left(facts, replace(self._left, archive="", storage="")))
        return replace(facts, node=vm.node, volumes=world.hypervisor.volumes(vm), applied={}, endpoint=None)

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: PVE gives a VMID once, and a machine that was restored is found before."""
        if self.already(world, machine) is None:
            saves = world.hypervisor.saves
            with noting_remains(attempt):
                saves.restore(machine.facts, self._archive, attempt.note_task, over="", storage=self._left.storage)
        facts = self.already(world, attempt.thing)
        if facts is None:
            raise StateError(
                f"{machine.name}: PVE restored {self.subject},"
                f" but {self._left.word} {machine.facts.vmid} does not bear its mark",
                hint=f"{command(Verb.MOVE, machine.name, '--to', self._left.profile)} takes the machine back",
            )
        return facts

    @override
    def lands(self, world: World, machine: Machine) -> Phase:
        return by_power(world, machine)


class _OfLeft(Errand):
    """About what it left behind"""

    def __init__(self, elsewhere: Hypervisor, left: Left) -> None:
        """`elsewhere`: the hypervisor of the old VM."""
        self.subject, self._elsewhere, self._left = f"({left.told()})", elsewhere, left


class DropLeft(_OfLeft):
    """Destroy what it left behind"""

    disturbs = False

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: only a VM with our mark is destroyed, and one that is gone needs nothing."""
        _finish_there(self._elsewhere, machine)
        facts = self._left.as_facts(machine.facts)
        self._elsewhere.destroy_vm(facts, lambda upid: _note_there(attempt, upid))
        return without_left(attempt.facts)


class GoBack(_OfLeft):
    """Destroy what is new, and take up what was left behind"""

    task = "qmdestroy"

    @override
    def remember(self, world: World, machine: Machine) -> Mapping[str, str]:
        self._get_old(machine)
        return {}

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: only a VM with our mark is destroyed, and the old one is not touched."""
        old = self._get_old(machine)
        world.hypervisor.destroy_vm(machine.facts, attempt.note_task)
        facts = self._left.as_facts(attempt.facts)
        return replace(facts, node=old.node, volumes=self._elsewhere.volumes(old), applied={})

    def _get_old(self, machine: Machine) -> Vm:
        vm = self._elsewhere.find_vm(self._left.as_facts(machine.facts))
        if vm is None:
            raise NotFound(
                f"{machine.name}: {self._left.told()}, which it left behind, is gone: there is no way back",
                hint=f"{command(Verb.MOVE, machine.name)} finishes the move",
            )
        return vm

    @override
    def lands(self, world: World, machine: Machine) -> Phase:
        return Phase.STOPPED


def _finish_there(elsewhere: Hypervisor, machine: Machine) -> None:
    """A task of another hypervisor is none that the machine's own world could wait for."""
    upid = machine.facts.errand.get(THERE, "")
    if upid:
        try:
            elsewhere.wait_for_task(upid)
        except (TaskFailed, NotFound):
            return  # the look that follows tells what it did


def _note_there(attempt: Attempt, upid: str) -> None:
    attempt.note(replace(attempt.facts, errand={**attempt.facts.errand, THERE: upid}))


def refuse_two(elsewhere: Hypervisor, machine: Machine, left: Left) -> None:
    """Before the new VM starts: the old one must stand still."""
    vm = elsewhere.find_vm(left.as_facts(machine.facts))
    if vm is not None and vm.power is Power.RUNNING:
        raise StateError(
            f"{machine.name}: {left.told()}, which it left behind, was started since: two {left.word}s with one"
            " identity must not run, and what was written there since is not in the backup",
            hint=f"{command(Verb.MOVE, machine.name, '--to', left.profile)} takes the machine back to it; or stop that"
            f" {left.word} in PVE, and {command(Verb.MOVE, machine.name)} goes on without what was written",
        )
