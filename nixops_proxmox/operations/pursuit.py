"""What the doors' verbs mean for one machine, in goals of the table; the same for every door."""

from collections.abc import Callable
from dataclasses import replace

from nixops_proxmox.core.engine import wait_for_errand
from nixops_proxmox.errors import NeedsWord
from nixops_proxmox.kinds.machine.engine import pursue, run_errand
from nixops_proxmox.kinds.machine.errand import Errand
from nixops_proxmox.kinds.machine.errands.power import HardReboot, Reset
from nixops_proxmox.kinds.machine.ports import Journal
from nixops_proxmox.kinds.machine.shape import World
from nixops_proxmox.kinds.machine.steps.identity import refuse_unrecorded
from nixops_proxmox.kinds.machine.table import INSTALLING, LIFECYCLE, SETTLED
from nixops_proxmox.model import Machine, Phase
from nixops_proxmox.spec import MachineSpec, Source
from nixops_proxmox.spelling import Verb, command

UNDER_WAY = (Phase.RESERVED, Phase.DEFINED, *INSTALLING)  # being installed already


class Pursuit:
    """One machine, its world and its journal; `machine` is where it stands after the last goal."""

    def __init__(
        self, machine: Machine, world: World, journal: Journal, *, leave: Callable[[], None] = lambda: None
    ) -> None:
        self.machine, self.world = machine, world
        self._journal, self._leave = journal, leave

    def to(self, goal: Phase, *, until: Phase | None = None) -> Machine:
        reached = until or goal
        try:
            self.machine = pursue(
                goal, self.machine, self.world, self._journal, enough=lambda machine: machine.phase is reached
            )
        finally:
            self._leave()
        return self.machine

    def looked_at(self) -> Machine:
        """As the world shows it; recorded only when something follows."""
        wait_for_errand(self.world, self.machine)
        return LIFECYCLE.look(self.world, self.machine)

    def deploy(self, *, until: Phase | None = None, allow_recreate: bool = False) -> Machine:
        """To `ready`, whatever it stands in; a VM that is gone is made anew only by word."""
        if allow_recreate:
            self._allow(allow_recreate=True, lose_disks=True)
        refuse_moved(self.machine, self.world)
        if self.machine.phase is Phase.ABSENT:
            refuse_unrecorded(self.world, self.machine)
        self.world.builder.wanted_system(self.machine)  # fail before anything is made
        if allow_recreate and (seen := self.looked_at()).phase is Phase.LOST:
            refuse_unrecorded(self.world, seen)
            self.to(Phase.ABSENT)
        if asks_for_reinstall(self.machine, self.world):
            self.to(start_of_reinstall(self.world.spec))
        elif not self.world.words.allow_reboot:
            self._refuse_rescue()
        return self.to(Phase.READY, until=until)

    def _refuse_rescue(self) -> None:
        """Whoever works in there is not thrown out without a word. A VM that is gone is another matter."""
        if self.machine.phase is not Phase.RESCUE or self.looked_at().phase is not Phase.RESCUE:
            return
        name = self.machine.name
        raise NeedsWord(
            f"{name}: it is in rescue, and a deploy would end that",
            hint=f"{command(Verb.START, name)} boots its own system, as {command(Verb.DEPLOY, '--allow-reboot')} does",
        )

    def _allow(self, **words: bool) -> None:
        self.world = replace(self.world, words=replace(self.world.words, **words))

    def reinstall(self) -> Machine:
        """Install anew: same VMID, UUID, MACs and host key. One that is being installed already just goes on. Whoever
        calls this has told what goes with it."""
        self._allow(lose_disks=True)
        refuse_moved(self.machine, self.world)
        self.world.builder.wanted_system(self.machine)
        if self.machine.phase not in UNDER_WAY:
            self.to(start_of_reinstall(self.world.spec))
        return self.to(Phase.READY)

    def reboot(self, *, hard: bool = False) -> Machine:
        """Shut down (or, `hard`, switch off) and boot again, which also applies what waits for a restart."""
        if hard:
            self.run(HardReboot())
        else:
            self.to(Phase.STOPPED)
        return self.to(Phase.READY)

    def reset(self) -> None:
        """Switch off and on again, without waiting for the system."""
        self.run(Reset())

    def run(self, errand: Errand) -> Machine:
        """One act beside the table."""
        try:
            self.machine = run_errand(errand, self.machine, self.world, self._journal)
        finally:
            self._leave()
        return self.machine

    def record(self, machine: Machine, what: str) -> Machine:
        """Something that happened beside the table, such as a restored backup."""
        self._journal.record(machine, what)
        self.machine = machine
        return machine


def start_of_reinstall(spec: MachineSpec) -> Phase:
    """Where a reinstall begins: with the installer, or, where none is used, with a new VM of the same identity."""
    return Phase.DEFINED if spec.install.source is Source.ISO else Phase.RESERVED


def asks_for_reinstall(machine: Machine, world: World) -> bool:
    """The description's `install.generation` was raised since the machine was installed."""
    settled = machine.phase in (*SETTLED, Phase.RESCUE)
    return settled and world.spec.install.generation > machine.facts.asked


def refuse_moved(machine: Machine, world: World) -> None:
    """A machine stays on the hypervisor it was made on."""
    have, wanted = machine.facts.profile, world.spec.profile
    if have and have != wanted:
        raise NeedsWord(
            f"{machine.name}: it is on the hypervisor {have!r}, and the description says {wanted!r}",
            hint="machines cannot change their hypervisor: set `profile` back, or recreate the machine:"
            f" {command(Verb.DESTROY, machine.name)}, then {command(Verb.DEPLOY)}",
        )
