"""A backup put in the machine's place, and made the machine's own if it was not."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from typing_extensions import override

from nixops_proxmox.errors import StateError, TaskFailed
from nixops_proxmox.kinds.machine.errand import RAN, Errand, boot, by_power, ran, unknown_disks, unsettled, with_volumes
from nixops_proxmox.kinds.machine.lives import life_of
from nixops_proxmox.kinds.machine.ports import Hypervisor
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.kinds.machine.steps.hardware import SHUTDOWN, made_by_us, park_volumes
from nixops_proxmox.model import FAILED_RESTORE, RESTORING, Archive, Facts, Machine, Phase, Power, Vm
from nixops_proxmox.spelling import Verb, command


class Restore(Errand):
    """Restore the backup"""

    task = "qmrestore"

    def __init__(
        self,
        archive: Archive,
        uuid: str,
        *,
        fits: Callable[[Machine], None] = lambda _: None,
        read_key: Callable[[Machine], str] = lambda _: "",
    ) -> None:
        """`uuid`: of the VM that is in it. `fits` raises what forbids it. `read_key`: the host key that a machine tells
        that was another one."""
        self.subject, self._archive, self._uuid = archive.volume, archive, uuid
        self._fits, self._read_key = fits, read_key

    @override
    def remember(self, world: World, machine: Machine) -> Mapping[str, str]:
        if machine.phase not in (Phase.STOPPED, Phase.LOST):
            life_of(world.spec).next_move(machine, Phase.STOPPED)  # one that is not installed yet is not restored
        self._fits(machine)
        return ran(world, machine)

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: it overwrites only what was to be lost anyway, or what an earlier try left."""
        foreign = self._uuid != machine.facts.uuid.lower()
        facts = unknown_disks(machine.facts)
        attempt.doubt(unsettled(machine), _with_remains(facts, self._uuid) if foreign else facts)
        self._overwrite(world, attempt)
        self._prove(world, attempt)
        if foreign:
            return self._make_ours(world, attempt)
        attempt.doubt(Phase.INSTALLED, with_volumes(world, without_remains(attempt.facts)))
        return boot(world, attempt) if attempt.facts.errand[RAN] == "yes" else attempt.facts

    @override
    def lands(self, world: World, machine: Machine) -> Phase:
        return by_power(world, machine)

    def _overwrite(self, world: World, attempt: Attempt) -> None:
        """Our VM is asked to shut down. What an earlier try left is switched off."""
        facts = attempt.facts
        standing = find_standing(world.hypervisor, facts)
        if standing is None:
            attempt.note(replace(facts, node=self._archive.node))
        elif standing.power is Power.RUNNING and standing.uuid.lower() == facts.uuid.lower():
            world.hypervisor.shut_down_vm(facts, attempt.note_task, SHUTDOWN)
        elif standing.power is Power.RUNNING:
            world.hypervisor.stop_vm(replace(facts, uuid=standing.uuid), attempt.note_task)
        if standing is not None and standing.uuid.lower() == facts.uuid.lower():
            park_volumes(world, attempt.thing, attempt)
        over = standing.uuid if standing is not None else ""
        with noting_remains(attempt):
            world.hypervisor.saves.restore(attempt.facts, self._archive, attempt.note_task, over=over)

    def _prove(self, world: World, attempt: Attempt) -> None:
        """Check that what came back is what we looked at. If it is not, record that, so that the next restore may
        overwrite it."""
        facts, name = attempt.facts, attempt.thing.name
        if world.hypervisor.find_vm(replace(facts, uuid=self._uuid)) is not None:
            return
        uuid = world.hypervisor.uuid_at(facts.vmid)
        attempt.doubt(Phase.LOST, _with_remains(facts, uuid))
        raise StateError(
            f"{name}: the backup {self.subject} holds another machine, with"
            f" {f'the UUID {uuid}' if uuid else 'no UUID'}",
            hint=f"{command(Verb.RESTORE, name)} with one of its own backups overwrites it",
        )

    def _make_ours(self, world: World, attempt: Attempt) -> Facts:
        """Give the VM the machine's mark, and start it, because only the guest itself can tell its host key."""
        vm = world.hypervisor.give_mark(attempt.thing, self._uuid)
        facts = replace(without_remains(attempt.facts), macs=world.hypervisor.macs(vm), host_key="")
        attempt.doubt(Phase.INSTALLED, with_volumes(world, facts))
        world.hypervisor.start_vm(attempt.facts, attempt.note_task)
        return replace(attempt.facts, host_key=self._read_key(attempt.thing))


def find_standing(hypervisor: Hypervisor, facts: Facts) -> Vm | None:
    """Our VM, or what a restore that did not come to its end left there."""
    for known in made_by_us(facts):
        vm = hypervisor.find_vm(known)
        if vm is not None:
            return replace(vm, uuid=known.uuid)
    return None


def _with_remains(facts: Facts, uuid: str) -> Facts:
    return replace(facts, extra={**facts.extra, RESTORING: uuid})


def without_remains(facts: Facts) -> Facts:
    kept = {key: value for key, value in facts.extra.items() if key not in (RESTORING, FAILED_RESTORE)}
    return replace(facts, extra=kept)


@contextmanager
def noting_remains(attempt: Attempt) -> Iterator[None]:
    """PVE does not clean up after a restore that fails. The VM that it leaves bears no mark, so the task tells."""
    try:
        yield
    except TaskFailed:
        attempt.note(replace(attempt.facts, extra={**attempt.facts.extra, FAILED_RESTORE: attempt.facts.task}))
        raise
