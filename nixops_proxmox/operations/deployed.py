"""What the doors' verbs do with a deployment, in terms of the core."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nixops_proxmox.compose import NothingToBuild, Parts
from nixops_proxmox.core.graph import Ref, Wants
from nixops_proxmox.core.table import label
from nixops_proxmox.errors import ConfigError, DeployError, NoPath, StateError
from nixops_proxmox.fleet import Outcome, run_all
from nixops_proxmox.kinds.container.steps import CreateContainer
from nixops_proxmox.kinds.machine.encrypted import foresee_installation
from nixops_proxmox.kinds.machine.keepers import find_unsafe
from nixops_proxmox.kinds.machine.plans import Plan
from nixops_proxmox.kinds.machine.shape import World
from nixops_proxmox.kinds.machine.steps.encrypting import slots_differ
from nixops_proxmox.kinds.machine.steps.hardware import CreateVm
from nixops_proxmox.kinds.names import MACHINE
from nixops_proxmox.kinds.resource import Stranger
from nixops_proxmox.model import Effect, Endpoint, Machine, Phase, Power, Transfer, Vm
from nixops_proxmox.nixeval.build import drop_root
from nixops_proxmox.nixeval.builder import image_root
from nixops_proxmox.operations import migrating
from nixops_proxmox.operations.addressing import Taking, describe_taking, recorded_for_systems
from nixops_proxmox.operations.adopting import Adoption, Examiner, Target, find_terraformed, with_ssh_witness
from nixops_proxmox.operations.description import describe, given
from nixops_proxmox.operations.downtime import find_downtime
from nixops_proxmox.operations.drift import Origin
from nixops_proxmox.operations.growing import find_growth
from nixops_proxmox.operations.hook_lines import find_hooks
from nixops_proxmox.operations.identity_verb import IdentityVerb
from nixops_proxmox.operations.images import Unused
from nixops_proxmox.operations.move_verb import MoveVerb
from nixops_proxmox.operations.open_deployment import HARDWARE_AS_IT_IS, spec_of_record
from nixops_proxmox.operations.placing import explain_place, tell_standing
from nixops_proxmox.operations.plan_file import SavedPlan, refuse_moved_thing, refuse_moved_world, without_new
from nixops_proxmox.operations.pursuit import Pursuit
from nixops_proxmox.operations.read_only import Checked, Planned, Removal, check_machine, describe_plan, plan_machine
from nixops_proxmox.operations.recorded import where_it_is
from nixops_proxmox.operations.recovery import Recoverable, RecoverySearch, refuse_ambiguous
from nixops_proxmox.operations.resources import ResourceShown
from nixops_proxmox.operations.systems import find_system_change, keep_system, since_boot
from nixops_proxmox.operations.units import find_units
from nixops_proxmox.operations.volume_verbs import VolumeVerbs
from nixops_proxmox.options import Options
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor
from nixops_proxmox.pve.cluster.verdicts import Explanation
from nixops_proxmox.pve.wire.profiles import Profile, load_profile
from nixops_proxmox.spec import NetworkSpec, parse_machine
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.state import open_state
from nixops_proxmox.state.record import DeploymentRecord

if TYPE_CHECKING:
    from nixops_proxmox.pve.api.displays import RemoteDisplay
    from nixops_proxmox.pve.api.terminal import Terminal


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
                taken=recorded_for_systems(record),
                serials={one.name: one.facts.serials_told for one in record.machines() if one.facts.uuid},
                build_on=options.build_on,
                adopted={one.name for one in record.machines() if one.facts.installed_by == "recovered"},
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
        record = state.deployment(options.deployment).only(options.only, options.kind)
        with Parts(options, record) as parts:
            yield record, parts


class Deployed(IdentityVerb, MoveVerb, VolumeVerbs):
    """One deployment: what can be done with its machines and volumes, and what can be looked at."""

    takings: Sequence[Taking] = ()  # what this run took from lists of MACs, or gave back

    def changing(self, names: Sequence[str]) -> list[str]:
        """Those of the machines that get another system than the record says they have. Builds nothing."""
        if self._description is None:
            return []
        return self._description.changing(names, {one.name: one.facts.system for one in self.record.machines()})

    def _expect(self, names: Sequence[str]) -> None:
        """Only these systems will be needed."""
        if self._description is not None:
            self._description.expect(names)

    # What can be asked for.

    def deploy(
        self,
        names: Sequence[str],
        *,
        until: Phase | None = None,
        allow_recreate: bool = False,
        promised: SavedPlan | None = None,
    ) -> list[Outcome]:
        """Bring machines to `ready`, whatever they stand in; always goes on where an earlier run stopped. `promised`:
        what a saved plan said; a machine or another thing for which that does not hold any more is left alone."""
        self._refuse_undescribed(names)
        self._foresee_addresses(self.addresses.lacking(names))
        foreseen = self.addresses.for_systems()
        self._expect(self.changing(names))
        refused: dict[str, DeployError] = {}
        rollouts = self.rollouts(names)
        watched = {name for rollout in rollouts for name in rollout.names}

        def work(name: str, lease: Any) -> Machine:
            if name in refused:
                raise refused[name]
            self._refuse_without_way(name)
            pursuit = self._pursuit(name, lease)
            before = pursuit.machine.facts.system

            def accept(plan: Plan, world: World) -> None:
                if promised is not None:
                    refuse_moved_world(name, promised.machines[name], describe_plan(plan, world))

            pursuit.deploy(until=until, allow_recreate=allow_recreate, accept=accept, hooks=True)
            machine = pursuit.end_with_hooks(prove=name in watched)
            if machine.facts.system != before:
                keep_system(self.record, self._nix, machine.facts.system)
            return machine

        def before(lease: Any) -> None:
            self._keep(lease)
            self.takings, errors = self.addresses.take(names, lease)
            refused.update(errors | self.addresses.refuse_doubles(names))
            taken = self.addresses.for_systems()
            for name in [name for name in names if taken.get(name) != foreseen.get(name)]:
                refused.setdefault(name, _taken_by_others(name))
            refused.update(self._place([name for name in names if name not in refused]))

        def ensure(ref: Ref) -> None:
            if promised is not None:
                refuse_moved_thing(ref, promised.things.get(str(ref)), self._describe_thing(ref))
            self._ensure(ref)

        wants = self._wants(names) if promised is None else without_new(self._wants(names), promised.things)
        return self._each(names, work, before=before, wants=wants, ensure=ensure, rollouts=rollouts)

    def stop(self, names: Sequence[str]) -> list[Outcome]:
        return self._to(Phase.STOPPED, names)

    def rescue(self, names: Sequence[str]) -> list[Outcome]:
        return self._to(Phase.RESCUE, names, wants=self._ways(names))

    def start(self, names: Sequence[str]) -> list[Outcome]:
        """Boot what is installed; nothing is changed or activated."""
        return self._to(Phase.READY, names, wants=self._ways(names))

    def reboot(self, names: Sequence[str], *, hard: bool = False) -> list[Outcome]:
        """Shut down (with `hard`, switch off) and boot again. This also applies what waits for a restart."""

        def work(name: str, lease: Any) -> Machine:
            return self._pursuit(name, lease, HARDWARE_AS_IT_IS).reboot(hard=hard)

        return self._each(names, work, wants=self._ways(names))

    def send_keys(self, names: Sequence[str]) -> list[Outcome]:
        """Write the keys of `deployment.keys` into running machines."""
        self._refuse_undescribed(names)
        from nixops_proxmox.kinds.machine.errands.sending import SendKeys

        return self.work_on(names, lambda pursuit, _: pursuit.run(SendKeys()))

    def rotate_identities(self, names: Sequence[str], *, by_agent: bool = False) -> list[Outcome]:
        """Give machines that run another host key. `by_agent`: SSH shows one that is not known any more."""
        from nixops_proxmox.kinds.machine.errands.identity import RotateIdentity

        return self.work_on(names, lambda pursuit, _: pursuit.run(RotateIdentity(by_agent=by_agent)))

    def unlock(self, names: Sequence[str]) -> list[Outcome]:
        """Open the encrypted disks of machines that wait for it in their first stage."""
        from nixops_proxmox.kinds.machine.errands.unlocking import Unlock

        return self.work_on(names, lambda pursuit, _: pursuit.run(Unlock()))

    def reinstall(self, names: Sequence[str]) -> list[Outcome]:
        """Install again, with the same VMID, UUID, MACs and host key. An installation that has begun just goes on."""
        self._refuse_undescribed(names)
        self._expect(names)

        def work(name: str, lease: Any) -> Machine:
            machine = self._pursuit(name, lease).reinstall()
            if machine.facts.container:
                self._tell_again(name)
            return machine

        return self._each(names, work, wants=self._ways(names))

    def _tell_again(self, name: str) -> None:
        """A container is made new by destroying it, and PVE forgets what it was told of it: HA, firewall, jobs."""
        for ref in reversed(self.resources.in_order_of_removal(self.resources.dependents(Ref(MACHINE, name)))):
            self.resources.refresh(ref)

    def destroy(self, names: Sequence[str], *, release: bool = False) -> list[Outcome]:
        """Destroy VMs and disks, and forget the machines; a machine that was never made is fine. Resources that want a
        machine go before it. `release`: also give back what they have taken from lists of MACs."""
        self.takings = []

        def work(name: str, lease: Any) -> Machine:
            machine = destroy(name, lease)
            if release:
                self.takings = [*self.takings, *self.addresses.give_back(name, lease)]
            return machine

        def destroy(name: str, lease: Any) -> Machine:
            if self.record.machine(name).phase is Phase.ABSENT:
                self._forget_identity(name, lease)
                self.resources.follow(name)  # a run may have been killed right before that
                return self.record.machine(name)
            for ref in self.resources.in_order_of_removal(self.resources.dependents(Ref(MACHINE, name))):
                self.resources.remove(ref)
            followers = self.resources.followers(name)
            self.finish_left(name, lease)
            spec = spec_of_record(self.record.machine(name), to_destroy=True)
            machine = self._pursuit(name, lease, HARDWARE_AS_IT_IS, spec).to(Phase.ABSENT)
            self.record.forget(name, lease)
            for root in (name, image_root(name)):
                drop_root(self._parts.roots, root)
            self.resources.follow(name)
            for ref in followers:
                self.resources.refresh(ref)
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

    def adopt(self, found: Sequence[Adoption]) -> list[Machine]:
        """Record the VMs as machines and mark them, which is the last that is written. A run that is killed before that
        leaves a machine that the next deploy marks."""
        from nixops_proxmox.kinds.machine.errands.marking import TakeOver

        adopted = []
        with self._lease() as lease:
            for one in found:
                if one.machine is None or one.problem:
                    raise StateError(f"{one.target.word}: it cannot be taken over: {one.problem}")
                machine = one.machine
                journal = self.record.journal(lease)
                journal.record(machine, f"taken over: VM {machine.facts.vmid}, which somebody else made")
                world = self._parts.world(spec_of_record(machine), HARDWARE_AS_IT_IS, NothingToBuild(), self.volumes)
                adopted.append(Pursuit(machine, world, journal).run(TakeOver()))
        return adopted

    # What can be looked at.

    def examine(
        self, profile: str, words: Sequence[str], *, called: str = "", pool: str = "", tfstate: Path | None = None
    ) -> list[Adoption]:
        """What taking over these VMs comes to. `called`: the name of the only machine; `pool`, `tfstate`: take theirs,
        too."""
        if called and (len(words) != 1 or pool or tfstate is not None):
            raise ConfigError("one name is for one VM", hint="name one VM with it, and nothing else")
        if not words and not pool and tfstate is None:
            raise ConfigError("no VM is named", hint="name VMs, or --pool, or --tfstate")
        hypervisor = self._parts.hypervisor(profile)
        search = RecoverySearch(
            self.record.name, profile, hypervisor, self._parts.keys, self._parts.agent, self.record.identity
        )
        examiner = Examiner(self.record.name, profile, hypervisor, search, self.record.machines())
        targets = [Target(word, called) for word in words]
        targets += examiner.in_pool(pool) if pool else []
        targets += find_terraformed(tfstate) if tfstate is not None else []
        found = [examiner.examine(target) for target in targets]
        return [with_ssh_witness(one, partial(self._look_for, one.options or {})) for one in found]

    def _look_for(self, options: Mapping[str, object], machine: Machine) -> tuple[list[str], Endpoint | None]:
        """Try every address of a machine that is not recorded."""
        return self._parts.guests.explain(machine, parse_machine(machine.name, {"proxmox": dict(options)}))

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
            vm = hypervisor.find_vm(machine.facts, power=False)
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

    def recoverable(self, profiles: Sequence[str]) -> list[Recoverable]:
        """Every VM and container of the hypervisors that carries a mark, of whatever deployment; touches none."""
        return refuse_ambiguous([one for profile in profiles for one in self._recoverable(profile)])

    def _recoverable(self, profile: str) -> list[Recoverable]:
        recorded = {machine.name: machine for machine in self.record.machines() if machine.phase is not Phase.ABSENT}
        specs = {name: self.spec(name) for name in self.described()}
        found: list[Recoverable] = []
        for container in (False, True):
            hypervisor = self._parts.guests_of(profile, container=container)
            search = RecoverySearch(
                self.record.name, profile, hypervisor, self._parts.keys, self._parts.agent, self.record.identity
            )
            found += search.run(recorded, specs)
        return found

    def plan(self, names: Sequence[str], *, copy: bool = False) -> list[Planned]:
        """What `deploy` would do; looks, builds, and changes nothing. `copy`: copies new systems to the machines that
        run, and nothing else, so that they can say what becomes of their units."""
        with self._lease() if copy else nullcontext():
            return self._plan(names, copy=copy)

    def _plan(self, names: Sequence[str], *, copy: bool, along: Sequence[str] = ()) -> list[Planned]:
        """`along`: the machines that get their places together with these."""
        planned: dict[str, Planned] = {}
        takings, errors = self._foresee_addresses(names)
        self._expect(self.changing(names))
        refused = errors | self.addresses.refuse_doubles(names) | self._place(along or names, warn=True)

        def work(name: str) -> Machine:
            if name in refused:
                raise refused[name]
            machine = self.record.machine(name)
            world = self._world(name, self._options.permissions)
            hurried = self._parts.hurried(world)
            found = plan_machine(machine, hurried)
            downtime = find_downtime(self.record.history(name)) if found.restart else None
            difference = find_system_change(self.record, self._nix, machine.facts.system, found.system)
            units = find_units(machine, hurried, found.system, copy=copy) if found.meets_units else None
            takes = [describe_taking(one) for one in takings if one.machine == name and one.new]
            takes += self.resources.foresee(name) if machine.phase is Phase.ABSENT else []
            if {label(CreateVm()), label(CreateContainer())} & {*found.moves}:
                takes += self.images.foresee(world.spec, self._node_of_new(found) or machine.facts.node)
            planned[name] = replace(
                found,
                moves=(*takes, *found.moves),
                downtime=downtime,
                node=self._node_of_new(found),
                hypervisor=self.profile_of(name),
                difference=since_boot(difference, {} if units is None else units.booted),
                units=units,
                notes=self._notes(found, machine),
                hooks=find_hooks(machine, world.hooks, changes=bool(found.moves)),
                grows=find_growth(machine, hurried, found.changes, found.world.get("power", "")),
            )
            return machine

        outcomes = run_all(names, work, jobs=self._options.jobs)
        return [
            planned.get(o.name)
            or Planned(o.name, self.record.machine(o.name).phase, error=o.error, hypervisor=self.profile_of(o.name))
            for o in outcomes
        ]

    def _notes(self, found: Planned, machine: Machine) -> tuple[str, ...]:
        """What of an encrypted disk only shows beside the other machines, or waits for new keys."""
        spec = self.spec(machine.name)
        node = self._node_of_new(found) or machine.facts.node

        def node_of(other: str) -> str:
            return self._node_of(other) if self.profile_of(other) == self.profile_of(machine.name) else ""

        lines = [*find_unsafe(spec.encryption, node, node_of, machine.facts.luks)]
        if found.effect in (Effect.NEW, Effect.REINSTALL, Effect.RECREATE):
            lines += foresee_installation(spec, machine.facts.luks if found.effect is Effect.REINSTALL else {})
        return (*lines, *slots_differ(spec, machine))

    def _foresee_addresses(self, names: Sequence[str]) -> tuple[list[Taking], dict[str, DeployError]]:
        """What a deploy would take from lists of MACs, which the systems are told. They are evaluated again if they do
        not know it yet."""
        found = self.addresses.foresee(names)
        if self._description is not None:
            self._description = self._description.knowing(self.addresses.for_systems())
        return found

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
        self._expect(self.changing(names))

        def work(name: str) -> Machine:
            here = where_it_is(self.spec(name), self.record.machine(name).facts)
            world = self._parts.hurried(self._world(name, self._options.permissions, here))
            checked = check_machine(
                self.record.machine(name),
                world,
                described=name in self.described(),
                log=self.hypervisor_of(name),
                history=self.record.history(name),
            )
            if self._description is not None and any(one.origin is Origin.BY_HAND for one in checked.drift):
                checked = replace(checked, places=self._description.find_places(name))
            found[name] = checked
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
    def terminal(self, name: str) -> Iterator["Terminal"]:
        """The machine's serial terminal, or a container's console, through the hypervisor's API."""
        from nixops_proxmox.pve.api.terminal import open_terminal

        profile, vm = self._running(name)
        container = self.record.machine(name).facts.container
        with open_terminal(profile, vm.node, vm.vmid, vm.config, container=container) as terminal:
            yield terminal

    @contextmanager
    def display(self, name: str) -> Iterator["RemoteDisplay"]:
        """The machine's display, by VNC through the hypervisor's API."""
        from nixops_proxmox.pve.api.displays import open_display

        self._refuse_container(name)
        profile, vm = self._running(name)
        with open_display(profile, vm.node, vm.vmid) as shown:
            yield shown

    def spice(self, name: str) -> Mapping[str, str]:
        """What a SPICE viewer's file has in it; good for 30 seconds."""
        from nixops_proxmox.pve.api.displays import ask_spice

        self._refuse_container(name)
        profile, vm = self._running(name)
        return ask_spice(profile, vm.node, vm.vmid, vm.active or vm.config)

    def _refuse_container(self, name: str) -> None:
        if self.record.machine(name).facts.container:
            raise NoPath(f"{name}: it is a container, and has no display", hint=f"`console {name}` opens its terminal")

    def _running(self, name: str) -> tuple[Profile, Vm]:
        machine = self.record.machine(name)
        vm = self.hypervisor_of(name).find_vm(machine.facts)
        if vm is None or vm.power is not Power.RUNNING:
            raise NoPath(
                f"{name}: it does not run, so it has no console", hint=f"{command(Verb.START, name)} starts it"
            )
        return load_profile(machine.facts.profile or "default", path=self._options.profiles), vm

    def _to(self, goal: Phase, names: Sequence[str], wants: Wants | None = None) -> list[Outcome]:
        def work(name: str, lease: Any) -> Machine:
            return self._pursuit(name, lease, HARDWARE_AS_IT_IS).to(goal)

        return self._each(names, work, wants=wants)

    # Images that deploys put on storages.

    def unused_images(self) -> list[Unused]:
        """Those that no described machine is made of; where nothing is described, all of them if no machine is left."""
        if self.network is not None:
            return self.images.unused()
        there = [one for one in self.record.machines() if one.phase is not Phase.ABSENT]
        return [] if there else self.images.put_by_us()

    def remove_images(self, unused: Sequence[Unused]) -> Mapping[str, DeployError | None]:
        """Delete them, and forget them. What kept one, by what it is called."""
        ended: dict[str, DeployError | None] = {}
        with self._lease() as lease:
            self._keep(lease)
            for one in unused:
                try:
                    self.images.remove(one)
                    ended[one.told] = None
                except DeployError as error:
                    ended[one.told] = error
        return ended

    # Addresses.

    def release(self, names: Sequence[str]) -> list[Taking]:
        """Give back what machines that do not exist have taken from lists of MACs. StateError for one that exists."""
        with self._lease() as lease:
            self.takings = [taking for name in names for taking in self.addresses.give_back(name, lease)]
        return list(self.takings)

    # Other resources.

    def list_resources(self) -> list[ResourceShown]:
        """All other things, described or recorded, as they are now."""
        return self.resources.look()

    def make_resource(self, ref: Ref, said: str = "") -> None:
        """Make one described thing, or put it right. `said`: what a door wants recorded with it."""
        with self._lease() as lease:
            self._keep(lease)
            self.resources.ensure(ref, said)

    def strange_resources(self, words: Sequence[str]) -> list[tuple[str, Stranger]]:
        """What stands where these things are described (resources.pools.front), and is not ours. Raises the first
        reason why one cannot be taken over."""
        refs = self.resources.find_described(words)
        return [(word, self.resources.get_stranger(ref)) for word, ref in zip(words, refs, strict=True)]

    def adopt_resources(self, words: Sequence[str]) -> None:
        """Record these things and mark them as ours; nothing else of them changes."""
        with self._lease() as lease:
            self._keep(lease)
            for ref in self.resources.find_described(words):
                self.resources.take_over(ref)

    def remove_resources(self, refs: Sequence[Ref]) -> list[Outcome]:
        """Remove them, those that want others first. One that cannot be removed does not keep the others."""
        with self._lease() as lease:
            self._keep(lease)
            return [self._work_on_thing(ref, self.resources.remove) for ref in self.resources.in_order_of_removal(refs)]


def _taken_by_others(name: str) -> DeployError:
    return StateError(
        f"{name}: another entry of the list was taken than its system was made for: somebody took that one meanwhile",
        hint=f"run {command(Verb.DEPLOY)} again",
    )
