"""What the table of machines is made of: their world, and one look at it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TypeAlias

from nixops_proxmox.core import table
from nixops_proxmox.kinds.machine.ports import (
    Builder,
    Clock,
    Courier,
    Escrow,
    FirstStages,
    Guest,
    HookRunner,
    Hypervisor,
    Images,
    KeyStore,
    Loader,
    Reporter,
    Unlocker,
    VolumeKeeper,
)
from nixops_proxmox.model import Facts, Machine, Phase, Vm
from nixops_proxmox.spec import MachineSpec, Sink
from nixops_proxmox.spelling import Verb, command


@dataclass(frozen=True)
class Permissions:
    """What the user allowed for this run."""

    allow_reboot: bool = False
    check: bool = False  # verify everything against the cluster instead of trusting the recorded state
    make_another: bool = False  # create a machine although an unrecorded VM bears its mark
    allow_recreate: bool = False  # recreate what is gone: a VM, or an empty disk beside one that was detached
    lose_disks: bool = False  # the user knows which volumes are lost with a VM
    adjust: bool = True  # find differences between the VM and the description, and correct them


def _no_other(name: str) -> tuple[Machine, MachineSpec]:
    raise NotImplementedError(name)


def _nobody_waits(machine: str) -> None:
    del machine


class NoEscrow:
    """The sinks of verbs and tests that install no encrypted disk."""

    def hand_over(self, sink: Sink, machine: Machine, name: str, volume: str, key: str) -> str:
        raise NotImplementedError(sink, machine.name, name, volume, len(key))

    def hand_over_header(self, sink: Sink, machine: Machine, name: str, volume: str, header: bytes) -> str:
        raise NotImplementedError(sink, machine.name, name, volume, len(header))

    def find_key(self, place: str) -> str | None:
        raise NotImplementedError(place)


class NoImages:
    """The images of verbs and tests that upload none."""

    def check(self, spec: MachineSpec) -> None:
        del spec

    def put(self, machine: Machine, spec: MachineSpec) -> MachineSpec:
        del machine
        return spec


class NoUnlocker:
    """The unlocker of verbs and tests that open no encrypted disk."""

    def unlock(self, machine: Machine, key: str, tell: Callable[[str], None]) -> bool:
        raise NotImplementedError(machine.name, len(key), tell)


class NoFirstStages:
    """The first stages of verbs and tests that none of them has to do with."""

    def unlock(self, machine: Machine, port: int, host_key: str, key: str, tell: Callable[[str], None]) -> bool | None:
        raise NotImplementedError(machine.name, port, host_key, len(key), tell)


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
    volumes: VolumeKeeper
    escrow: Escrow = field(default_factory=NoEscrow)
    unlocker: Unlocker = field(default_factory=NoUnlocker)
    first_stages: FirstStages = field(default_factory=NoFirstStages)
    images: Images = field(default_factory=NoImages)
    courier: Courier | None = None  # None: the verb does not know the description
    loader: Loader | None = None  # None: no system is tried by a boot
    hooks: HookRunner | None = None  # None: the verb runs no commands of the user's
    permissions: Permissions = Permissions()
    recorded: Callable[[], Collection[int]] = tuple  # VMIDs of all machines that the record knows
    serials_from: str = ""  # what a new machine's disks have their serials from, which Nix knows before
    others: Callable[[str], tuple[Machine, MachineSpec]] = _no_other  # machines of the same deployment, by name
    before_boot: Callable[[str], None] = (
        _nobody_waits  # called with the name of a machine that boots for the first time
    )

    def wait_for_task(self, upid: str) -> None:
        self.hypervisor.wait_for_task(upid)

    def find_task(self, facts: Facts, kind: str) -> str:
        return self.hypervisor.find_task(facts, kind)


Attempt: TypeAlias = table.Attempt[Machine, Facts]
Step: TypeAlias = table.Step[World, Machine, Facts]


@dataclass(frozen=True)
class Look:
    """One look at the world: our VM, or None if it is gone."""

    world: World
    machine: Machine
    vm: Vm | None


def see(world: World, machine: Machine) -> Look:
    """Only a plan of its hardware minds whether a machine runs that we never started."""
    power = world.permissions.adjust or has_run(machine)
    return Look(world, machine, world.hypervisor.find_vm(machine.facts, power=power))


def has_run(machine: Machine) -> bool:
    """We started it, as far as the record knows."""
    return machine.phase is not Phase.DEFINED


def hint_at(machine: Machine) -> str:
    """What to do where no way leads on."""
    if machine.phase is Phase.LOST:
        recreate, forget = command(Verb.DEPLOY, "--allow-recreate"), command(Verb.DESTROY, machine.name)
        return f"if the VM is really gone, {recreate} creates a new one, and {forget} removes the record"
    if machine.phase is Phase.ABSENT:
        return f"{command(Verb.DEPLOY)} makes it"
    return f"{command(Verb.LIFECYCLE)} shows the possible moves"
