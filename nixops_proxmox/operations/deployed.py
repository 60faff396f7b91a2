"""A deployment, opened: what the doors' verbs do, in terms of the core."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from nixops_proxmox.compose import NothingToBuild, Parts
from nixops_proxmox.core.graph import Ref, Wants, walk
from nixops_proxmox.errors import DeployError, NoPath, SpecError, StateError
from nixops_proxmox.fleet import Outcome, run_all
from nixops_proxmox.kinds.machine.plans import Plan
from nixops_proxmox.kinds.machine.ports import Builder, Journal
from nixops_proxmox.kinds.machine.shape import Permissions, World
from nixops_proxmox.kinds.registry import MACHINE
from nixops_proxmox.kinds.volume.facts import NAME as VOLUME
from nixops_proxmox.model import Effect, Endpoint, Facts, Machine, Phase, Power, Transfer
from nixops_proxmox.nixeval.build import drop_root
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.operations import migrating
from nixops_proxmox.operations.description import Description, describe, given
from nixops_proxmox.operations.downtime import find_downtime
from nixops_proxmox.operations.growing import find_growth
from nixops_proxmox.operations.keeping import Keeper, VolumeShown
from nixops_proxmox.operations.placing import explain_place, place_new, tell_standing
from nixops_proxmox.operations.plan_file import Promise, refuse_moved_world
from nixops_proxmox.operations.pursuit import Pursuit
from nixops_proxmox.operations.read_only import Checked, Planned, Removal, check_machine, describe_plan, plan_machine
from nixops_proxmox.operations.recovery import Recoverable, RecoverySearch, refuse_ambiguous
from nixops_proxmox.operations.systems import find_system_change, keep_system, since_boot
from nixops_proxmox.operations.units import find_units
from nixops_proxmox.options import Options
from nixops_proxmox.pve.api.terminal import Terminal, open_terminal
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor
from nixops_proxmox.pve.cluster.verdicts import Explanation
from nixops_proxmox.pve.wire.profiles import load_profile
from nixops_proxmox.spec import MachineSpec, NetworkSpec
from nixops_proxmox.spec.values import is_machine_name
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.state import open_state
from nixops_proxmox.state.record import DeploymentRecord

HARDWARE_AS_IT_IS = Permissions(adjust=False)  # for verbs that leave the hardware as it is


@contextmanager
def open_deployment(options: Options) -> Iterator["Deployed"]:
    """Open the state and, if there is a source, evaluate it; everything opened is closed on the way out."""
    with _opened(options) as (record, parts):
        description = None
        if options.source is not None:
            description = describe(
                options.deployment,
                options.source,
                profile=options.profile,
                client_key=parts.keys.client_key().public,
                roots=parts.roots,
                tell=parts.tell_building,
            )
        yield Deployed(options, record, parts, description)


@contextmanager
def open_given(
    options: Options, network: NetworkSpec, systems: Mapping[str, str] | None = None
) -> Iterator["Deployed"]:
    """Open a deployment for a door that has its own description. `systems` None: the door activates systems itself."""
    with _opened(options) as (record, parts):
        yield Deployed(options, record, parts, given(network, systems))


@contextmanager
def _opened(options: Options) -> Iterator[tuple[DeploymentRecord, Parts]]:
    with open_state(options.state) as state:
        record = state.deployment(options.deployment).only(options.only)
        with Parts(options, record) as parts:
            yield record, parts


class Deployed:
    """One deployment, with the parts that its verbs need."""

    def __init__(
        self, options: Options, record: DeploymentRecord, parts: Parts, description: Description | None = None
    ) -> None:
        self._options, self._parts, self._description = options, parts, description
        self.record = record
        self._recorded: list[Facts] | None = None
        self._keep()

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

    @property
    def _nix(self) -> Nix | None:
        return None if self._description is None else self._description.nix

    def remarks(self) -> list[str]:
        """What should be said about the description: Nix's warnings, old option names, machines of other backends."""
        if self.network is None:
            return []
        warnings = self._description.warnings if self._description is not None else ()
        foreign = [f"{name}: it belongs to another backend, so we do nothing with it" for name in self.network.foreign]
        return [*warnings, *self.network.warnings, *foreign]

    def described(self) -> list[str]:
        return [] if self.network is None else [spec.name for spec in self.network.machines]

    def forgotten(self) -> list[str]:
        """Machines that are recorded but no longer described."""
        described = self.described()
        return [m.name for m in self.record.machines() if m.name not in described and m.phase is not Phase.ABSENT]

    def changing(self, names: Sequence[str]) -> list[str]:
        """Those of the machines that get another system than the record says they have. Builds nothing."""
        if self._description is None:
            return []
        return self._description.changing(names, {one.name: one.facts.system for one in self.record.machines()})

    def _expect(self, names: Sequence[str]) -> None:
        """Only these systems will be needed."""
        if self._description is not None:
            self._description.expect(names)

    def spec(self, name: str) -> MachineSpec:
        """The machine's description; without one, what the record tells."""
        for spec in () if self.network is None else self.network.machines:
            if spec.name == name:
                return spec
        machine = self.record.machine(name)
        if machine.phase is Phase.ABSENT:
            raise SpecError(f"there is no machine {name!r} in the deployment {self.record.name!r}")
        return spec_of_record(machine)

    def _near_its_volumes(self, spec: MachineSpec) -> MachineSpec:
        """A new machine goes where the local storage is that has its volumes, unless the description says where."""
        if not spec.volumes or spec.node is not None or self.record.machine(spec.name).phase is not Phase.ABSENT:
            return spec
        node = ""
        with suppress(DeployError):  # no profile, no connection: the machine meets that itself
            node = self.volumes.find_node(spec.volumes)
        return spec.model_copy(update={"node": node}) if node else spec

    # What can be asked for.

    def deploy(
        self,
        names: Sequence[str],
        *,
        until: Phase | None = None,
        allow_recreate: bool = False,
        promised: Mapping[str, Promise] | None = None,
    ) -> list[Outcome]:
        """Bring machines to `ready`, whatever they stand in; always goes on where an earlier run stopped. `promised`:
        by name, what a saved plan said; a machine for which that does not hold any more is left alone."""
        self._refuse_undescribed(names)
        self._expect(self.changing(names))
        refused: dict[str, DeployError] = {}

        def work(name: str, lease: Any) -> Machine:
            if name in refused:
                raise refused[name]
            pursuit = self._pursuit(name, lease)
            before = pursuit.machine.facts.system

            def accept(plan: Plan, world: World) -> None:
                if promised is not None:
                    refuse_moved_world(name, promised[name], describe_plan(plan, world))

            machine = pursuit.deploy(until=until, allow_recreate=allow_recreate, accept=accept)
            if machine.facts.system != before:
                keep_system(self.record, self._nix, machine.facts.system)
            return machine

        def before(lease: Any) -> None:
            self._keep(lease)
            refused.update(self._place(names))

        return self._each(names, work, before=before, wants=self._wants(names))

    def stop(self, names: Sequence[str]) -> list[Outcome]:
        return self._to(Phase.STOPPED, names)

    def rescue(self, names: Sequence[str]) -> list[Outcome]:
        return self._to(Phase.RESCUE, names)

    def start(self, names: Sequence[str]) -> list[Outcome]:
        """Boot what is installed; nothing is changed or activated."""
        return self._to(Phase.READY, names)

    def reboot(self, names: Sequence[str], *, hard: bool = False) -> list[Outcome]:
        """Shut down (with `hard`, switch off) and boot again. This also applies what waits for a restart."""

        return self._each(names, lambda name, lease: self._pursuit(name, lease, HARDWARE_AS_IT_IS).reboot(hard=hard))

    def reinstall(self, names: Sequence[str]) -> list[Outcome]:
        """Install again, with the same VMID, UUID, MACs and host key. An installation that has begun just goes on."""
        self._refuse_undescribed(names)
        self._expect(names)

        return self._each(names, lambda name, lease: self._pursuit(name, lease).reinstall())

    def destroy(self, names: Sequence[str]) -> list[Outcome]:
        """Destroy VMs and disks, and forget the machines; a machine that was never made is fine."""

        def work(name: str, lease: Any) -> Machine:
            if self.record.machine(name).phase is Phase.ABSENT:
                return self.record.machine(name)
            spec = spec_of_record(self.record.machine(name), to_destroy=True)
            machine = self._pursuit(name, lease, HARDWARE_AS_IT_IS, spec).to(Phase.ABSENT)
            self.record.forget(name, lease)
            drop_root(self._parts.roots, name)
            return machine

        return self._each(names, work)

    def migrate(self, names: Sequence[str], target: str = "") -> list[Outcome]:
        """Migrate machines to the node, or each to the best one that nothing forbids."""

        def work(pursuit: Pursuit, hypervisor: PveHypervisor) -> Machine:
            tell_standing(self._everything(), pursuit.world.spec.profile, hypervisor)
            return migrating.migrate(pursuit, target)

        return self.work_on(names, work)

    def work_on(self, names: Sequence[str], work: Callable[[Pursuit, PveHypervisor], Machine]) -> list[Outcome]:
        """Anything else with machines that are recorded; hardware and system are left as they are."""
        return self._each(
            names, lambda name, lease: work(self._pursuit(name, lease, HARDWARE_AS_IT_IS), self.hypervisor_of(name))
        )

    def recover(self, found: Sequence[Recoverable]) -> list[Machine]:
        """Write down the machines that were found on the cluster and are not recorded."""
        machines = [one.machine for one in found if one.machine is not None]
        with self._lease() as lease:
            for machine in machines:
                self.record.journal(lease).record(machine, "recovered from its mark on the cluster")
        return machines

    # What can be looked at.

    def losses(self, name: str) -> tuple[str, ...]:
        """What a machine's end deletes beside the disks that we made, a line each."""
        return self.removal(name).losses

    def removals(self) -> list[Removal]:
        """What destroying the machines would do that are no longer described."""
        return [self.removal(name) for name in self.forgotten()]

    def removal(self, name: str) -> Removal:
        """What destroying a machine would take, and leave."""
        machine = self.record.machine(name)
        if not machine.facts.vmid or machine.phase in (Phase.ABSENT, Phase.RESERVED):
            return Removal(machine)
        try:
            hypervisor = self.hypervisor_of(name)
            vm = hypervisor.find_vm(machine.facts)
        except DeployError as error:
            return Removal(machine, (f"could not find out its other volumes: {error.message}",))
        if vm is None:
            return Removal(machine)
        kept = (
            *hypervisor.spared(vm),
            *(f"volume {volume}: parked first" for volume in self.volumes.attached(machine)),
        )
        return Removal(machine, tuple(hypervisor.losses(vm, machine)), kept)

    def read_only(self, name: str) -> Pursuit:
        """One machine, for verbs that change nothing: what they see is not recorded."""
        world = self._world(name, HARDWARE_AS_IT_IS, builds=False)
        return Pursuit(
            self.record.machine(name), world, self.record.journal(), leave=lambda: self._parts.guests.leave(name)
        )

    def hypervisor_of(self, name: str) -> PveHypervisor:
        return self._parts.hypervisor(self.record.machine(name).facts.profile or self.spec(name).profile)

    def recoverable(self, profiles: Sequence[str]) -> list[Recoverable]:
        """Every VM of the hypervisors that carries a mark, of this deployment and of others; touches none."""
        return refuse_ambiguous([one for profile in profiles for one in self._recoverable(profile)])

    def _recoverable(self, profile: str) -> list[Recoverable]:
        recorded = {machine.name: machine for machine in self.record.machines() if machine.phase is not Phase.ABSENT}
        specs = {name: self.spec(name) for name in self.described()}
        search = RecoverySearch(
            self.record.name, profile, self._parts.hypervisor(profile), self._parts.keys, self._parts.agent
        )
        return search.run(recorded, specs)

    def plan(self, names: Sequence[str], *, copy: bool = False) -> list[Planned]:
        """What `deploy` would do; looks, builds, and changes nothing. `copy`: copies new systems to the machines that
        run, and nothing else, so that they can say what becomes of their units."""
        with self._lease() if copy else nullcontext():
            return self._plan(names, copy=copy)

    def _plan(self, names: Sequence[str], *, copy: bool, along: Sequence[str] = ()) -> list[Planned]:
        """`along`: the machines that get their places together with these."""
        planned: dict[str, Planned] = {}
        self._expect(self.changing(names))
        refused = self._place(along or names, warn=True)

        def work(name: str) -> Machine:
            if name in refused:
                raise refused[name]
            machine = self.record.machine(name)
            world = self._world(name, self._options.permissions)
            found = plan_machine(machine, world)
            downtime = find_downtime(self.record.history(name)) if found.restart else None
            difference = find_system_change(self.record, self._nix, machine.facts.system, found.system)
            hurried = self._parts.hurried(world)
            units = find_units(machine, hurried, found.system, copy=copy) if found.meets_units else None
            planned[name] = replace(
                found,
                downtime=downtime,
                node=self._node_of_new(found),
                difference=since_boot(difference, {} if units is None else units.booted),
                units=units,
                grows=find_growth(machine, hurried, found.changes, found.world.get("power", "")),
            )
            return machine

        outcomes = run_all(names, work, jobs=self._options.jobs)
        return [
            planned.get(o.name) or Planned(o.name, self.record.machine(o.name).phase, error=o.error) for o in outcomes
        ]

    def _node_of_new(self, plan: Planned) -> str:
        if plan.effect is not Effect.NEW:
            return ""
        place = self._parts.hypervisor(self.spec(plan.name).profile).find_chosen_place(plan.name)
        return "" if place is None else place.node

    def plan_in_full(self, name: str, *, copy: bool = False) -> Planned:
        """The plan of one machine, and why it is made where it is made. One that has no place has this table, too."""
        with self._lease() if copy else nullcontext():
            (found,) = self._plan([name], copy=copy, along=self.described())
            return replace(found, placement=self.explain(name))

    def explain(self, name: str) -> Explanation:
        """Explain for each node whether the machine fits there, why not, and what speaks for it."""
        found = (self.record.machine(name), self.spec(name))
        return explain_place(found, self._everything(), self._parts.hypervisor)

    def foresee_migration(self, name: str, target: str = "") -> Transfer:
        """What `migrate` would do with the machine, and what forbids it."""
        spec = self.spec(name)
        tell_standing(self._everything(), spec.profile, self.hypervisor_of(name))
        return migrating.foresee(self.read_only(name), target)

    def check(self, names: Sequence[str]) -> list[Checked]:
        """What is true right now, from the cluster and from the guests themselves."""
        found: dict[str, Checked] = {}

        def work(name: str) -> Machine:
            world = self._parts.hurried(self._world(name, self._options.permissions))
            found[name] = check_machine(
                self.record.machine(name),
                world,
                described=name in self.described(),
                log=self.hypervisor_of(name),
                history=self.record.history(name),
            )
            return self.record.machine(name)

        outcomes = run_all(names, work, jobs=self._options.jobs)
        return [
            found.get(o.name)
            or Checked(o.name, self.record.machine(o.name).phase, problems=(o.error.message if o.error else "",))
            for o in outcomes
        ]

    def endpoints(self, name: str) -> tuple[list[str], Endpoint | None]:
        """Every address and why it was or was not chosen, a line each, and the winner; tries them now."""
        return self._parts.guests.explain(self._reachable(name), self.spec(name))

    def ssh_argv(self, name: str, command: Sequence[str] = ()) -> list[str]:
        """An `ssh` command line with the proven endpoint, the pinned host key and the right user key."""
        return self._parts.ssh_argv(self._reachable(name), self.spec(name), command)

    def scp_argv(self, name: str, sources: Sequence[str], target: str, *, recursive: bool = False) -> list[str]:
        """`NAME:path` in sources or target stands for the machine's path."""
        return self._parts.scp_argv(self._reachable(name), self.spec(name), sources, target, recursive=recursive)

    @contextmanager
    def terminal(self, name: str) -> Iterator[Terminal]:
        """The machine's serial terminal, through the hypervisor's API."""
        machine = self.record.machine(name)
        vm = self.hypervisor_of(name).find_vm(machine.facts)
        if vm is None or vm.power is not Power.RUNNING:
            raise NoPath(
                f"{name}: it does not run, so it has no console", hint=f"{command(Verb.START, name)} starts it"
            )
        profile = load_profile(machine.facts.profile or "default", path=self._options.profiles)
        with open_terminal(profile, vm.node, vm.vmid, vm.config) as terminal:
            yield terminal

    # How.

    def _reachable(self, name: str) -> Machine:
        machine = self.record.machine(name)
        if machine.phase in (Phase.ABSENT, Phase.RESERVED, Phase.DEFINED, Phase.LOST, Phase.STOPPED):
            raise NoPath(
                f"{name}: it is {machine.phase}, so you cannot log in to it",
                hint=f"{command(Verb.DEPLOY)} makes it reachable",
            )
        return machine

    def _to(self, goal: Phase, names: Sequence[str]) -> list[Outcome]:
        return self._each(names, lambda name, lease: self._pursuit(name, lease, HARDWARE_AS_IT_IS).to(goal))

    def _place(self, names: Sequence[str], *, warn: bool = False) -> dict[str, DeployError]:
        """Places for all new machines before the first is made; errors by name."""
        asked = [(self.record.machine(name), self._near_its_volumes(self.spec(name))) for name in names]
        return place_new(asked, self._everything(), self._parts.hypervisor, warn=warn)

    def _everything(self) -> list[tuple[Machine, MachineSpec]]:
        return [(self.record.machine(name), self.spec(name)) for name in self.described()]

    def _each(
        self,
        names: Sequence[str],
        work: Callable[[str, Any], Machine],
        *,
        before: Callable[[Any], object] | None = None,
        wants: Wants | None = None,
    ) -> list[Outcome]:
        """Work on the machines, in the order of `wants`; without it, side by side. Volumes among them are made first.
        `before` is given the lease."""

        def with_right(name: str) -> Machine:
            self._parts.right.check()  # where nothing is left to do, nothing else would check it
            return work(name, lease)

        with self._lease() as lease:
            (before or self._keep)(lease)
            outcomes: dict[Ref, Outcome] = {}

            def do_wave(refs: Sequence[Ref]) -> Mapping[Ref, DeployError | None]:
                volumes = [Ref(VOLUME, ref.name) for ref in refs if ref.kind == VOLUME]
                found = dict(zip(volumes, self._ensure([ref.name for ref in volumes]), strict=True))
                machines = [ref.name for ref in refs if ref.kind == MACHINE]
                for outcome in run_all(machines, with_right, jobs=self._options.jobs, ended=self._options.ended):
                    found[Ref(MACHINE, outcome.name)] = outcome
                outcomes.update(found)
                return {ref: outcome.error for ref, outcome in found.items()}

            ended = walk({Ref(MACHINE, name): () for name in names} if wants is None else wants, do_wave)
            for ref, error in ended.items():
                if ref not in outcomes and error is not None:
                    outcomes[ref] = Outcome(ref.name, 0.0, error=error)
                    self._options.ended(outcomes[ref])
        failed = [outcome for ref, outcome in outcomes.items() if ref.kind == VOLUME and outcome.error is not None]
        return [*failed, *(outcomes[Ref(MACHINE, name)] for name in names)]

    # Volumes.

    def _keep(self, lease: Any = None) -> None:
        """From here on, volumes may be changed; without a lease, only looked at."""
        self.volumes = Keeper(
            self.record,
            () if self.network is None else self.network.volumes,
            self._parts.hypervisor,
            self._parts.clock,
            self._options.reporter,
            lease,
        )

    def _wants(self, names: Sequence[str]) -> Wants:
        """What each machine needs to be there before it: its volumes, and the machine that has to let go of one. With
        all machines, the volumes that none of them has belong to it too."""
        wants: dict[Ref, set[Ref]] = {Ref(MACHINE, name): set() for name in names}
        for name in names:
            for volume in self.spec(name).volumes:
                wants.setdefault(Ref(VOLUME, volume), set())
                wants[Ref(MACHINE, name)].add(Ref(VOLUME, volume))
                before = self.volumes.volume(volume).facts.machine
                if before in names and before != name:
                    wants[Ref(MACHINE, name)].add(Ref(MACHINE, before))
        if set(self.described()) <= set(names) and self.network is not None:
            for spec in self.network.volumes:
                wants.setdefault(Ref(VOLUME, spec.name), set())
        return wants

    def _ensure(self, volumes: Sequence[str]) -> list[Outcome]:
        """Make those volumes that are not there. Where is known: the machines have their places."""
        wanted_by = self.attachments()
        found = []
        for volume in volumes:
            began, error = time.monotonic(), None
            machine = wanted_by.get(volume, "")
            try:
                self._parts.right.check()
                self.volumes.ensure(volume, self._node_of(machine), machine)
            except DeployError as raised:
                error = raised
            found.append(Outcome(f"volume {volume}", time.monotonic() - began, error=error))
        return found

    def list_volumes(self) -> list[VolumeShown]:
        """All volumes, described or recorded, as they are now."""
        return self.volumes.look(self.attachments())

    def park_volume(self, name: str) -> None:
        """Move it out of the VM of a machine that is stopped."""
        with self._lease() as lease:
            self._keep(lease)
            self.volumes.park(name)

    def delete_volume(self, name: str) -> None:
        """With its data. NeedsPermission if it is protected, or a machine's VM has it."""
        with self._lease() as lease:
            self._keep(lease)
            self.volumes.delete(name)

    def adopt_volume(self, name: str) -> None:
        """Record a described volume that the cluster has."""
        with self._lease() as lease:
            self._keep(lease)
            self.volumes.adopt(name)

    def attachments(self) -> dict[str, str]:
        """The machine that describes it, by volume."""
        machines = () if self.network is None else self.network.machines
        return {volume: machine.name for machine in machines for volume in machine.volumes}

    def _node_of(self, name: str) -> str:
        """Where the machine is, or will be made; empty: no machine, or it has no place."""
        if not name:
            return ""
        place = self._parts.hypervisor(self.spec(name).profile).find_chosen_place(name)
        return self.record.machine(name).facts.node if place is None else place.node

    @contextmanager
    def _lease(self) -> Iterator[Any]:
        """The right to change the deployment. The parts check it again before each effect."""
        with (
            self.record.lease(break_lock=self._options.break_lock) as lease,
            self._parts.right.held(lambda: self.record.prove(lease)),
        ):
            yield lease

    def _pursuit(
        self, name: str, lease: Any, permissions: Permissions | None = None, spec: MachineSpec | None = None
    ) -> Pursuit:
        """With `permissions`: a verb that leaves hardware and system as they are."""
        world = self._world(name, permissions or self._options.permissions, spec, builds=permissions is None)
        journal = self.record.journal(lease)
        machine = self._kept(self.record.machine(name), journal)
        return Pursuit(machine, world, journal, leave=lambda: self._parts.guests.leave(name))

    def _world(
        self, name: str, permissions: Permissions, spec: MachineSpec | None = None, *, builds: bool = True
    ) -> World:
        builder: Builder = NothingToBuild()
        if builds and self._description is not None:
            builder = self._description.builder(self._parts)
        spec = spec or self._near_its_volumes(self.spec(name))
        return self._parts.world(spec, permissions, builder, self.volumes, partial(self._recorded_vmids, spec.profile))

    def _recorded_vmids(self, profile: str) -> list[int]:
        """As they were when this was first asked: those made since, the hypervisor knows itself."""
        if self._recorded is None:
            self._recorded = [machine.facts for machine in self.record.machines()]
        return [facts.vmid for facts in self._recorded if facts.profile == profile]

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


def spec_of_record(machine: Machine, *, to_destroy: bool = False) -> MachineSpec:
    """What the record tells. An older version recorded whatever name stood in a VM's notes: of such a machine
    nothing is done, except that it is destroyed."""
    profile = machine.facts.profile or "default"
    if is_machine_name(machine.name):
        return MachineSpec(name=machine.name, profile=profile)
    if to_destroy:
        return MachineSpec(name="nameless", profile=profile)
    raise StateError(
        f"{machine.name!a} is recorded, but no machine can have that name: an older version took it from a VM's notes",
        hint=f"{command(Verb.DESTROY, '--uuid', machine.facts.uuid)} destroys it;"
        f" {command(Verb.DESTROY, '--forget', '--uuid', machine.facts.uuid)} removes only its record",
    )
