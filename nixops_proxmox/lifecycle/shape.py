"""What the table is made of: steps, moves, sightings, and how they are looked up."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from nixops_proxmox.errors import DeployError, NoPath
from nixops_proxmox.lifecycle.ports import Builder, Clock, Guest, Hypervisor, KeyStore, Reporter
from nixops_proxmox.model import Facts, Machine, Phase, Vm
from nixops_proxmox.spec import MachineSpec, Source
from nixops_proxmox.spelling import Verb, command


@dataclass(frozen=True)
class Words:
    """What the user allowed by word for this run."""

    allow_reboot: bool = False
    check: bool = False  # trust nothing that can be looked at
    make_another: bool = False  # make a machine though an unrecorded VM bears its mark
    allow_recreate: bool = False  # make anew what is gone: a VM, or an empty disk beside one that was detached
    lose_disks: bool = False  # the user was told which volumes go with a VM
    adjust: bool = True  # look for differences between the VM and the description, and mend them


@dataclass(frozen=True)
class World:
    """Everything outside of the core, for one machine."""

    spec: MachineSpec
    hypervisor: Hypervisor
    guest: Guest
    builder: Builder
    keys: KeyStore
    clock: Clock
    reporter: Reporter
    words: Words = Words()
    recorded: Callable[[], Collection[int]] = tuple  # VMIDs of all machines that the record knows


class Attempt(Protocol):
    """The current try of a step: what must survive a crash in the middle of it is noted here."""

    @property
    def machine(self) -> Machine: ...

    @property
    def facts(self) -> Facts: ...

    def note(self, facts: Facts) -> None: ...

    def doubt(self, phase: Phase, facts: Facts) -> None:
        """Before an effect that makes the record untrue: note a phase and facts that hold whatever comes of it."""
        ...

    def note_task(self, upid: str) -> None: ...


class Step(Protocol):
    """One effect. Its docstring's first line is what users see. Safe to repeat by construction."""

    def already(self, world: World, machine: Machine) -> Facts | None:
        """Only looks: the facts if the step's effect is there, else None."""
        ...

    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts: ...


class Repeatable:
    """A step that looks while it acts: doing it again does no harm, so there is nothing to look for beforehand."""

    def already(self, world: World, machine: Machine) -> Facts | None:
        del world, machine
        return None


def label(step: object) -> str:
    """The sentence that users and the diagram show for a step."""
    return (step.__doc__ or type(step).__name__).strip().splitlines()[0].rstrip(".")


@dataclass(frozen=True)
class Move:
    """Asked for `goal` and standing in `standing`: take `step`, which leads to `to`; `turns` are expected refusals;
    `ways`: the ways to the first boot (`install.from`) that take it."""

    goal: Phase
    standing: Phase
    step: Step
    to: Phase
    turns: tuple[tuple[type[DeployError], Phase], ...] = ()
    ways: tuple[Source, ...] = tuple(Source)

    def turn(self, error: DeployError) -> Phase | None:
        return next((phase for kind, phase in self.turns if isinstance(error, kind)), None)


@dataclass(frozen=True)
class Seen:
    """One look at the world: our VM, or None if it is gone."""

    world: World
    machine: Machine
    vm: Vm | None


@dataclass(frozen=True)
class Sighting:
    """Our record says `standing`, but `sees` is true of the world: so it is `phase`."""

    standing: Phase
    sees: Callable[[Seen], bool]
    phase: Phase


@dataclass(frozen=True)
class Lifecycle:
    moves: tuple[Move, ...]
    sightings: tuple[Sighting, ...]

    def look(self, world: World, machine: Machine) -> Machine:
        """The machine as the world shows it; asks nothing of the world where no sighting is possible."""
        possible = [s for s in self.sightings if s.standing is machine.phase]
        if not possible:
            return machine
        seen = Seen(world, machine, world.hypervisor.find_vm(machine.facts))
        phase = next((s.phase for s in possible if s.sees(seen)), machine.phase)
        return machine.moved(phase, machine.facts)

    def find_move(self, standing: Phase, goal: Phase, way: Source = Source.ISO) -> Move | None:
        return next((m for m in self.moves if m.goal is goal and m.standing is standing and way in m.ways), None)

    def next_move(self, machine: Machine, goal: Phase, way: Source = Source.ISO) -> Move:
        move = self.find_move(machine.phase, goal, way)
        if move is None:
            raise NoPath(
                f"{machine.name}: it is {machine.phase}, and nothing leads from there to {goal}",
                hint=hint_at(machine),
            )
        return move

    def road(self, machine: Machine, goal: Phase, way: Source = Source.ISO) -> list[Move]:
        """The moves from where the machine stands to `goal`, as far as no turn is taken; raises NoPath."""
        moves: list[Move] = []
        standing = machine
        while standing.phase is not goal:
            move = self.next_move(standing, goal, way)
            if move in moves:
                raise NoPath(f"the table runs in a circle at {standing.phase} on the way to {goal}")
            moves.append(move)
            standing = standing.moved(move.to, standing.facts)
        return moves

    def goals(self) -> tuple[Phase, ...]:
        """The phases that can be asked for."""
        return tuple(dict.fromkeys(m.goal for m in self.moves))


def hint_at(machine: Machine) -> str:
    """What to do where no way leads on."""
    if machine.phase is Phase.LOST:
        anew, forget = command(Verb.DEPLOY, "--allow-recreate"), command(Verb.DESTROY, machine.name)
        return f"if the VM is really gone, {anew} makes a new one, and {forget} forgets it"
    if machine.phase is Phase.ABSENT:
        return f"{command(Verb.DEPLOY)} makes it"
    return f"{command(Verb.LIFECYCLE)} shows which way leads where"
