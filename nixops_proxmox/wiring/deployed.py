"""A deployment, opened: what the doors' verbs do, in terms of the core."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from nixops_proxmox.errors import DeployError, NeedsWord, NoPath, SpecError
from nixops_proxmox.fleet import Outcome, run_all
from nixops_proxmox.lifecycle.engine import pursue
from nixops_proxmox.lifecycle.ports import Builder, Journal
from nixops_proxmox.lifecycle.shape import Words, World, label
from nixops_proxmox.lifecycle.steps.hardware import find_changes
from nixops_proxmox.lifecycle.table import INSTALLING, LIFECYCLE, SETTLED
from nixops_proxmox.model import Endpoint, Machine, Phase, Power
from nixops_proxmox.spec import MachineSpec, NetworkSpec
from nixops_proxmox.state import Deployment, Lease, open_state
from nixops_proxmox.wiring.description import Description, describe, given
from nixops_proxmox.wiring.options import Options
from nixops_proxmox.wiring.parts import NothingToBuild, Parts
from nixops_proxmox.wiring.reports import Checked, Planned

LOOKING = Words(adjust=False)  # for verbs that leave the hardware as it is


@contextmanager
def open_deployment(options: Options) -> Iterator["Deployed"]:
    """Open the state and, if there is a source, evaluate it; everything opened is closed on the way out."""
    with _opened(options) as (record, parts):
        description = None
        if options.source is not None:
            description = describe(
                options.deployment, options.source, profile=options.profile, roots=parts.roots, tell=parts.tell_building
            )
        yield Deployed(options, record, parts, description)


@contextmanager
def open_given(
    options: Options, network: NetworkSpec, systems: Mapping[str, str] | None = None
) -> Iterator["Deployed"]:
    """For doors that bring their own description; `systems` None: they activate by their own means."""
    with _opened(options) as (record, parts):
        yield Deployed(options, record, parts, given(network, systems))


@contextmanager
def _opened(options: Options) -> Iterator[tuple[Deployment, Parts]]:
    with open_state(options.state) as state:
        record = state.deployment(options.deployment)
        with Parts(options, record) as parts:
            yield record, parts


class Deployed:
    """One deployment, with the parts that its verbs need."""

    def __init__(
        self, options: Options, record: Deployment, parts: Parts, description: Description | None = None
    ) -> None:
        self._options, self._parts, self._description = options, parts, description
        self.record = record

    # What there is.

    @property
    def network(self) -> NetworkSpec | None:
        return None if self._description is None else self._description.network

    def machines(self) -> list[Machine]:
        """Everything that is described or recorded, by name."""
        found = {machine.name: machine for machine in self.record.machines()}
        for name in self.described():
            found.setdefault(name, Machine(self.record.name, name))
        return [found[name] for name in sorted(found)]

    def described(self) -> list[str]:
        return [] if self.network is None else [spec.name for spec in self.network.machines]

    def forgotten(self) -> list[str]:
        """Machines that are recorded but no longer described."""
        described = self.described()
        return [m.name for m in self.record.machines() if m.name not in described and m.phase is not Phase.ABSENT]

    def spec(self, name: str) -> MachineSpec:
        """The machine's description; without one, what the record tells."""
        for spec in () if self.network is None else self.network.machines:
            if spec.name == name:
                return spec
        machine = self.record.machine(name)
        if machine.phase is Phase.ABSENT:
            raise SpecError(f"there is no machine {name!r} in the deployment {self.record.name!r}")
        return MachineSpec(name=name, profile=machine.facts.profile or "default")

    # What can be asked for.

    def deploy(
        self, names: Sequence[str], *, until: Phase | None = None, allow_recreate: bool = False
    ) -> list[Outcome]:
        """Bring machines to `ready`, whatever they stand in; always goes on where an earlier run stopped."""
        self._refuse_undescribed(names)

        def work(name: str, lease: Lease) -> Machine:
            world = self._world(name, self._options.words)
            self._refuse_moved(name, world.spec)
            world.builder.wanted_system(self.record.machine(name))  # fail before anything is made
            machine = self._looked_at(name, world)
            if machine.phase is Phase.LOST and allow_recreate:
                self._pursue(Phase.ABSENT, name, world, lease)
            elif machine.phase in (*SETTLED, Phase.RESCUE) and world.spec.install.generation > machine.facts.asked:
                self._pursue(Phase.DEFINED, name, world, lease)
            return self._pursue(Phase.READY, name, world, lease, until)

        return self._each(names, work)

    def stop(self, names: Sequence[str]) -> list[Outcome]:
        return self._to(Phase.STOPPED, names)

    def rescue(self, names: Sequence[str]) -> list[Outcome]:
        return self._to(Phase.RESCUE, names)

    def start(self, names: Sequence[str]) -> list[Outcome]:
        """Boot what is installed; nothing is changed or activated."""
        return self._to(Phase.READY, names)

    def reboot(self, names: Sequence[str], *, hard: bool = False) -> list[Outcome]:
        """Shut down (or, `hard`, switch off) and boot again, which also applies what waits for a restart."""

        def work(name: str, lease: Lease) -> Machine:
            world = self._world(name, LOOKING, builds=False)
            machine = self.record.machine(name)
            if hard:
                world.hypervisor.stop_vm(machine.facts, lambda _upid: None)
            else:
                self._pursue(Phase.STOPPED, name, world, lease)
            return self._pursue(Phase.READY, name, world, lease)

        return self._each(names, work)

    def reinstall(self, names: Sequence[str]) -> list[Outcome]:
        """Install anew: same VMID, UUID, MACs and host key. One that is being installed already just goes on."""
        self._refuse_undescribed(names)

        def work(name: str, lease: Lease) -> Machine:
            world = self._world(name, self._options.words)
            world.builder.wanted_system(self.record.machine(name))
            under_way = (Phase.RESERVED, Phase.DEFINED, *INSTALLING)
            if self._looked_at(name, world).phase not in under_way:
                self._pursue(Phase.DEFINED, name, world, lease)
            return self._pursue(Phase.READY, name, world, lease)

        return self._each(names, work)

    def destroy(self, names: Sequence[str]) -> list[Outcome]:
        """Destroy VMs and disks, and forget the machines; a machine that was never made is fine."""

        def work(name: str, lease: Lease) -> Machine:
            if self.record.machine(name).phase is Phase.ABSENT:
                return self.record.machine(name)
            machine = self._pursue(Phase.ABSENT, name, self._world(name, LOOKING, builds=False), lease)
            self.record.forget(name, lease)
            return machine

        return self._each(names, work)

    # What can be looked at.

    def plan(self, names: Sequence[str]) -> list[Planned]:
        """What `deploy` would do; looks, builds, and changes nothing."""
        planned: dict[str, Planned] = {}

        def work(name: str) -> Machine:
            world = self._world(name, self._options.words)
            self._refuse_moved(name, world.spec)
            machine = self._looked_at(name, world)
            planned[name] = self._plan(world, machine)
            return machine

        outcomes = run_all(names, work, jobs=self._options.jobs)
        return [
            planned.get(o.name) or Planned(o.name, self.record.machine(o.name).phase, error=o.error) for o in outcomes
        ]

    def _plan(self, world: World, machine: Machine) -> Planned:
        vm = world.hypervisor.find_vm(machine.facts) if machine.facts.vmid and machine.phase is not Phase.LOST else None
        changes = tuple(find_changes(world, vm, machine)) if vm is not None else ()
        wanted = world.builder.wanted_system(machine)
        reinstalls = machine.phase in (*SETTLED, Phase.RESCUE) and world.spec.install.generation > machine.facts.asked
        try:
            moves = [*LIFECYCLE.road(machine, Phase.DEFINED)] if reinstalls else []
            standing = machine.moved(Phase.DEFINED, machine.facts) if reinstalls else machine
            moves += LIFECYCLE.road(standing, Phase.READY)
        except NoPath as error:
            return Planned(machine.name, machine.phase, error=error)
        return Planned(
            machine.name,
            machine.phase,
            tuple(label(move.step) for move in moves),
            changes,
            wanted if wanted != machine.facts.system else "",
        )

    def check(self, names: Sequence[str]) -> list[Checked]:
        """What is true right now, from the cluster and from the guests themselves."""
        found: dict[str, Checked] = {}

        def work(name: str) -> Machine:
            found[name] = self._check(self.record.machine(name), self._world(name, self._options.words))
            return self.record.machine(name)

        outcomes = run_all(names, work, jobs=self._options.jobs)
        return [
            found.get(o.name)
            or Checked(o.name, self.record.machine(o.name).phase, problems=(o.error.message if o.error else "",))
            for o in outcomes
        ]

    def _check(self, machine: Machine, world: World) -> Checked:
        if machine.phase in (Phase.ABSENT, Phase.RESERVED):
            return Checked(machine.name, machine.phase, exists=False, problems=("it has not been made",))
        vm = world.hypervisor.find_vm(machine.facts)
        if vm is None:
            gone = f"VM {machine.facts.vmid} with its mark is gone"
            return Checked(machine.name, Phase.LOST, exists=False, running=False, problems=(gone,))
        changes = tuple(find_changes(world, vm, machine)) if machine.name in self.described() else ()
        if vm.power is Power.STOPPED:
            return Checked(machine.name, machine.phase, True, False, False, changes=changes, pending=vm.pending)
        reachable, system_ok, problems = self._check_guest(machine, world)
        return Checked(machine.name, machine.phase, True, True, reachable, system_ok, changes, vm.pending, problems)

    def _check_guest(self, machine: Machine, world: World) -> tuple[bool, bool | None, tuple[str, ...]]:
        if machine.phase not in (Phase.RUNNING, Phase.READY):
            return False, None, (f"it is {machine.phase}: deploy it",)
        try:
            shell = world.guest.system_shell(machine, world.spec)
            wanted = world.builder.wanted_system(machine) or machine.facts.system
            active = world.builder.active_system(shell) if wanted else ""
        except DeployError as error:
            return False, None, (error.message,)
        if active == wanted:
            return True, True, ()
        return True, False, (f"{active or 'an unknown system'} is active, and {wanted} is wanted",)

    def endpoints(self, name: str) -> tuple[list[str], Endpoint | None]:
        """Every address and why it was or was not chosen, a line each, and the winner; tries them now."""
        return self._parts.guests.explain(self._reachable(name), self.spec(name))

    def ssh_argv(self, name: str, command: Sequence[str] = ()) -> list[str]:
        """An `ssh` command line with the proven endpoint, the pinned host key and the right user key."""
        return self._parts.ssh_argv(self._reachable(name), self.spec(name), command)

    def scp_argv(self, name: str, sources: Sequence[str], target: str, *, recursive: bool = False) -> list[str]:
        """`NAME:path` in sources or target stands for the machine's path."""
        return self._parts.scp_argv(self._reachable(name), self.spec(name), sources, target, recursive=recursive)

    # How.

    def _reachable(self, name: str) -> Machine:
        machine = self.record.machine(name)
        if machine.phase in (Phase.ABSENT, Phase.RESERVED, Phase.DEFINED, Phase.LOST, Phase.STOPPED):
            raise NoPath(f"{name}: it is {machine.phase}, so there is nothing to log in to", hint="deploy it first")
        return machine

    def _to(self, goal: Phase, names: Sequence[str]) -> list[Outcome]:
        return self._each(
            names, lambda name, lease: self._pursue(goal, name, self._world(name, LOOKING, builds=False), lease)
        )

    def _each(self, names: Sequence[str], work: Callable[[str, Lease], Machine]) -> list[Outcome]:
        with self.record.lease(break_lock=self._options.break_lock) as lease:
            return run_all(names, lambda name: work(name, lease), jobs=self._options.jobs, ended=self._options.ended)

    def _world(self, name: str, words: Words, *, builds: bool = True) -> World:
        builder: Builder = NothingToBuild()
        if builds and self._description is not None:
            builder = self._description.builder(self._parts)
        return self._parts.world(self.spec(name), words, builder)

    def _looked_at(self, name: str, world: World) -> Machine:
        return LIFECYCLE.look(world, self.record.machine(name))

    def _pursue(self, goal: Phase, name: str, world: World, lease: Lease, until: Phase | None = None) -> Machine:
        journal = self.record.journal(lease)
        reached = until or goal
        try:
            return pursue(
                goal,
                self._kept(self.record.machine(name), journal),
                world,
                journal,
                enough=lambda m: m.phase is reached,
            )
        finally:
            self._parts.guests.leave(name)

    def _kept(self, machine: Machine, journal: Journal) -> Machine:
        """The machine with what the door wants in its facts; recorded at once where no move may follow."""
        extra = {**machine.facts.extra, **self._options.keep}
        if extra == dict(machine.facts.extra):
            return machine
        machine = machine.moved(machine.phase, replace(machine.facts, extra=extra))
        if machine.phase is not Phase.ABSENT:
            journal.record(machine, "the description changed")
        return machine

    def _refuse_undescribed(self, names: Sequence[str]) -> None:
        unknown = [name for name in names if name not in self.described()]
        if unknown:
            raise SpecError(f"not in the description: {', '.join(unknown)}")

    def _refuse_moved(self, name: str, spec: MachineSpec) -> None:
        """A machine stays on the hypervisor it was made on."""
        have = self.record.machine(name).facts.profile
        if have and have != spec.profile:
            raise NeedsWord(
                f"{name}: it is on the hypervisor {have!r}, and the description says {spec.profile!r}",
                hint="machines stay on their hypervisor: destroy it and deploy it anew, or change `profile` back",
            )
