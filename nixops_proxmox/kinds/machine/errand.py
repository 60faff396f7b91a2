"""What a user asks of a machine beside the table: one act, carried out and journaled by the engine as a move is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace

from nixops_proxmox.core.table import label
from nixops_proxmox.kinds.machine.copies import without_copies
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.kinds.machine.steps.system import BootSystem
from nixops_proxmox.kinds.machine.table import INSTALLING
from nixops_proxmox.model import Facts, Machine, Phase, Power

WHAT, RAN = "what", "ran"  # in `Facts.errand`


class Errand(ABC):
    """Its docstring's first line is what users see. `subject`: what it is about, such as a snapshot's name.

    A run that is killed leaves what the errand remembers in `Facts.errand`. The same errand then goes on with that
    memory, and looks first whether its effect is there. Any other command waits for the errand's task, and begins with
    a look at the machine.
    """

    subject = ""
    task = ""  # the type of the PVE task that it starts
    disturbs = True  # the machine is another afterwards, or away for a while

    @property
    def what(self) -> str:
        """The errand's name, for people. A later run recognises the errand by it."""
        return f"{label(self)} {self.subject}".rstrip()

    def remember(self, world: World, machine: Machine) -> Mapping[str, str]:
        """Only looks, before anything is done or noted: raises what forbids the errand, and returns what a later run
        must know to go on with it."""
        del world, machine
        return {}

    def already(self, world: World, machine: Machine) -> Facts | None:
        """Only looks, and only after the errand was begun: the facts if its effect is there, else None."""
        del world, machine
        return None

    @abstractmethod
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts: ...

    def lands(self, world: World, machine: Machine) -> Phase:
        """The phase afterwards. `machine` still has the errand's memory, and the phase that was noted last."""
        del world
        return machine.phase


def unsettled(machine: Machine) -> Phase:
    """The phase to note before an effect that makes the record untrue: the next look finds the truth from there."""
    if machine.phase is Phase.LOST:
        return Phase.LOST
    return Phase.DEFINED if machine.phase in (Phase.DEFINED, *INSTALLING) else Phase.INSTALLED


def unknown_disks(facts: Facts) -> Facts:
    """The disks hold something else now. Only the machine itself can tell which system."""
    facts = without_copies(facts)
    return replace(facts, system="", generation=0, boot_id="", installer_keys=(), endpoint=None, sizes={})


def boot(world: World, attempt: Attempt) -> Facts:
    """Boot the installed system, unless it runs."""
    step = BootSystem()
    facts = step.already(world, attempt.thing)
    return facts if facts is not None else step.do(world, attempt.thing, attempt)


def by_power(world: World, machine: Machine) -> Phase:
    """Running or stopped, as a look shows. A machine that was never installed, or is gone, stays so."""
    vm = world.hypervisor.find_vm(machine.facts)
    if vm is None or machine.phase is Phase.DEFINED:
        return machine.phase
    return Phase.RUNNING if vm.power is Power.RUNNING else Phase.STOPPED


def with_volumes(world: World, facts: Facts) -> Facts:
    """PVE gives disks that come from a snapshot or a backup new names."""
    vm = world.hypervisor.find_vm(facts)
    return facts if vm is None or not facts.volumes else replace(facts, volumes=world.hypervisor.volumes(vm))


def ran(world: World, machine: Machine) -> Mapping[str, str]:
    """Whether the machine ran, to be remembered. An errand that was killed knows better than a look at what it left."""
    if RAN in machine.facts.errand:
        return {RAN: machine.facts.errand[RAN]}
    vm = world.hypervisor.find_vm(machine.facts)
    return {RAN: "yes" if vm is not None and vm.power is Power.RUNNING else "no"}
