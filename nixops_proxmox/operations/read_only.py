"""What verbs that only look find out about one machine."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nixops_proxmox.errors import CommandFailed, DeployError, StateError
from nixops_proxmox.kinds.machine.encryption import lost_seal
from nixops_proxmox.kinds.machine.laid_out import LayoutChange, find_layout_change
from nixops_proxmox.kinds.machine.plans import Plan, foresee, plan_deploy, vm_in
from nixops_proxmox.kinds.machine.ports import Shell
from nixops_proxmox.kinds.machine.shape import World
from nixops_proxmox.kinds.machine.steps.encrypting import check_first_stage, check_headers
from nixops_proxmox.kinds.machine.steps.hardware import brief, find_changes
from nixops_proxmox.kinds.machine.steps.identity import refuse_unrecorded
from nixops_proxmox.kinds.machine.steps.keeping import refuse_other_keepers
from nixops_proxmox.kinds.machine.steps.one_boot import forgets_variables
from nixops_proxmox.kinds.machine.steps.system import find_waiting
from nixops_proxmox.kinds.machine.table import SETTLED
from nixops_proxmox.model import Change, Effect, Machine, Phase, Power, Vm
from nixops_proxmox.nixeval.rehearsal import Rehearsal
from nixops_proxmox.operations.drift import Drift, TaskLog, find_drift
from nixops_proxmox.operations.systems import SystemChange
from nixops_proxmox.pve.cluster.verdicts import Explanation
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.state import JournalEntry


@dataclass(frozen=True)
class Planned:
    """What a deploy would do to one machine."""

    name: str
    phase: Phase  # where it stands, looked at now
    moves: tuple[str, ...] = ()  # what will be done, a line each
    changes: tuple[Change, ...] = ()
    system: str = ""  # the system it would get, empty if it has it already
    error: DeployError | None = None
    stays: tuple[str, ...] = ()  # what the VM has, and the description does not say
    notes: tuple[str, ...] = ()  # what else to know, a sentence each
    lock: str = ""  # who holds the VM's lock now, and since when: a deploy waits for that
    effect: Effect = Effect.NOTHING
    restart: tuple[str, ...] = ()  # why a machine that runs is restarted; empty: it is not
    twice: bool = False  # it is restarted for the first of them, and again for what its new system leaves to a boot
    downtime: float | None = None  # seconds that its last restart took, if it is restarted; None: unknown
    world: Mapping[str, str] = field(default_factory=dict)  # what the plan holds for, by name
    node: str = ""  # where a new machine is made
    difference: SystemChange | None = None  # of the system from the one that it has; None: unknown, or the same
    placement: Explanation | None = None  # every node, where it was asked for
    grows: tuple[str, ...] = ()  # what grows in the guest with its disks, or does not, a line each
    hypervisor: str = ""  # the profile of the one that it is on, or will be
    units: Rehearsal | None = None  # what the new system does to the units that run; None: it meets none
    layout: LayoutChange | None = None  # of its disks, which a deploy does not make; None: they are as described
    tried: bool = False  # if its new system waits for a boot, that boot is the only one until it is confirmed
    forgets: bool = False  # but not with systemd-boot, because its firmware forgets what it is told
    snapshot: bool = False  # its disks get one first, until its new system is confirmed
    hooks: tuple[str, ...] = ()  # the user's commands that run beside that, a line each
    seal: str = (
        ""  # why the TPM will not unseal the disk's key after that; empty: it will, or it is none of its business
    )

    @property
    def meets_units(self) -> bool:
        """A new system takes the place of one that runs."""
        running = self.world.get("power") == Power.RUNNING
        return bool(self.system) and running and self.effect in (Effect.RESTART, Effect.CHANGE)


@dataclass(frozen=True)
class Removal:
    """A machine that is recorded and no longer described: what destroying it would take, and leave."""

    machine: Machine
    losses: tuple[str, ...] = ()  # volumes that go beside the disks that we made, a line each
    spared: tuple[str, ...] = ()  # volumes that stay, a line each


@dataclass(frozen=True)
class Checked:
    """What is true of one machine right now. None: could not be told."""

    name: str
    phase: Phase
    exists: bool | None = None
    running: bool | None = None
    reachable: bool | None = None
    system_ok: bool | None = None
    changes: tuple[Change, ...] = ()
    pending: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    drift: tuple[Drift, ...] = ()  # the changes, with who made them
    places: Mapping[str, str] = field(default_factory=dict)  # FILE:LINE by option, if it was changed by hand
    layout: LayoutChange | None = None  # of its disks; None: they are as described


def plan_machine(machine: Machine, world: World) -> Planned:
    """What `deploy` would do. Looks and builds, and changes nothing."""
    return describe_plan(plan_deploy(machine, world), world)


def describe_plan(plan: Plan, world: World) -> Planned:
    """What carrying out the plan would do."""
    if plan.blocked is not None:
        return Planned(plan.seen.name, plan.seen.phase, error=plan.blocked)
    seen, vm = plan.seen, vm_in(plan)
    changes = tuple(find_changes_now(world, vm, seen)) if vm is not None else ()
    stays = tuple(world.hypervisor.leftovers(vm, world.spec, seen)) if vm is not None else ()
    lock = world.hypervisor.lock_told(vm) if vm is not None else ""
    wanted = world.builder.wanted_system(seen)
    system = wanted if wanted != seen.facts.system else ""
    foreseen = foresee(plan, world, changes)
    return Planned(
        seen.name,
        seen.phase,
        foreseen.steps,
        changes,
        system,
        stays=stays,
        lock=lock,
        effect=foreseen.effect,
        restart=foreseen.restart,
        twice=foreseen.twice,
        tried=bool(system and world.spec.deploy.probation and world.loader is not None),
        forgets=forgets_variables(vm),
        snapshot=bool(system and world.spec.deploy.snapshot and seen.phase in SETTLED and len(plan.legs) == 1),
        world=describe_world(seen, vm),
        layout=find_layout_change(seen.facts, world.spec) if len(plan.legs) == 1 else None,
        seal=lost_seal(seen, changes) if len(plan.legs) == 1 else "",
    )


def describe_world(seen: Machine, vm: Vm | None) -> Mapping[str, str]:
    """All that a plan depends on of what was looked at, with digests for long values."""
    world = {"phase": str(seen.phase), "VMID": str(seen.facts.vmid), "UUID": seen.facts.uuid}
    if vm is not None:
        world |= {"power": str(vm.power), "lock": vm.lock}
        world |= dict(vm.config) | {f"{key} (running)": value for key, value in vm.active.items()}
    return {key: brief(value) for key, value in world.items() if value}


def find_changes_now(world: World, vm: Vm, machine: Machine) -> Iterator[Change]:
    """How the VM differs from the description. What is changed while it stands still needs no restart."""
    for change in find_changes(world, vm, machine):
        yield replace(change, restart=False) if vm.power is Power.STOPPED and not change.waiting else change


def check_machine(
    machine: Machine, world: World, *, described: bool, log: TaskLog | None = None, history: Sequence[JournalEntry] = ()
) -> Checked:
    """What is true right now, from the cluster and from the guest itself. `log`: PVE's tasks, to tell who
    changed what; `history`: our own."""
    if machine.phase is Phase.ABSENT:
        refuse_unrecorded(world, machine)
    if machine.phase in (Phase.ABSENT, Phase.RESERVED):
        return Checked(machine.name, machine.phase, exists=False, problems=("it does not exist yet",))
    vm = world.hypervisor.find_vm(machine.facts)
    if vm is None:
        gone = f"VM {machine.facts.vmid} with its mark is gone"
        return Checked(machine.name, Phase.LOST, exists=False, running=False, problems=(gone,))
    changes = tuple(find_changes(world, vm, machine)) if described else ()
    pending = find_waiting(vm, changes)
    drift = () if log is None else tuple(find_drift(changes, machine.facts, vm, log, history))
    layout = find_layout_change(machine.facts, world.spec) if described else None
    seen = Checked(machine.name, machine.phase, True, changes=changes, pending=pending, drift=drift, layout=layout)
    if vm.power is Power.STOPPED:
        return replace(seen, running=False, reachable=False)
    reachable, system_ok, problems = _check_guest(machine, world)
    return replace(seen, running=True, reachable=reachable, system_ok=system_ok, problems=problems)


def _what_next(machine: Machine) -> str:
    if machine.phase is Phase.RESCUE:
        return f"it is in rescue: {command(Verb.START, machine.name)} boots its disk"
    return f"it is {machine.phase}: {command(Verb.DEPLOY)} goes on"


def _check_slots(world: World, machine: Machine, shell: Shell) -> tuple[str, ...]:
    """A header that cannot be looked at is a problem of its own: the machine answers."""
    try:
        return (*check_headers(world, machine, shell), *check_first_stage(machine, shell))
    except CommandFailed as error:
        return (error.message,)


def _check_keepers(machine: Machine, world: World) -> tuple[str, ...]:
    try:
        refuse_other_keepers(world, machine)
    except StateError as error:
        return (error.message,)
    return ()


def _check_guest(machine: Machine, world: World) -> tuple[bool, bool | None, tuple[str, ...]]:
    """(reachable, its system is the wanted one, problems)"""
    if machine.phase not in (Phase.RUNNING, Phase.READY):
        return False, None, (_what_next(machine),)
    try:
        shell = world.guest.system_shell(machine, world.spec)
        slots = (*_check_slots(world, machine, shell), *_check_keepers(machine, world))
        wanted = world.builder.wanted_system(machine) or machine.facts.system
        if not wanted or world.builder.active_system(shell) == wanted:
            return True, True, slots
        return True, False, (world.builder.inactive_reason(shell, wanted), *slots)
    except DeployError as error:
        return False, None, (error.message,)
