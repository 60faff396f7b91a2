"""A deployment, opened: its record, its description and its parts, and how the verbs work on its machines."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nixops_proxmox.compose import NothingToBuild, Parts
from nixops_proxmox.core.graph import Ref, Wants, walk
from nixops_proxmox.couriers import KeyCourier
from nixops_proxmox.errors import DeployError, NoPath, NotFound, SpecError, StateError
from nixops_proxmox.fleet import Outcome, run_all
from nixops_proxmox.hooks import HookCommands
from nixops_proxmox.kinds.machine.keepers import keepers_of
from nixops_proxmox.kinds.machine.ports import Builder, Journal
from nixops_proxmox.kinds.machine.shape import Permissions, World
from nixops_proxmox.kinds.names import MACHINE
from nixops_proxmox.kinds.registry import find_used
from nixops_proxmox.kinds.volume.facts import NAME as VOLUME
from nixops_proxmox.model import Facts, Machine, Phase
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.operations.addressing import Addressing
from nixops_proxmox.operations.description import Description
from nixops_proxmox.operations.images import DiskImages
from nixops_proxmox.operations.keeping import Keeper, VolumeShown
from nixops_proxmox.operations.placing import near_its_volumes, place_new
from nixops_proxmox.operations.pursuit import Pursuit
from nixops_proxmox.operations.recorded import where_it_is
from nixops_proxmox.operations.resources import Outside, ResourceKeeper, ResourceShown
from nixops_proxmox.operations.rolling import Rollout, draw_up, find_held, with_batches
from nixops_proxmox.options import Options
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor
from nixops_proxmox.spec import MachineKind, MachineSpec, NetworkSpec
from nixops_proxmox.spec.cloud_init import with_cloud_init
from nixops_proxmox.spec.marks import mark_of
from nixops_proxmox.spec.serials import serials_of
from nixops_proxmox.spec.template import TEMPLATE, TemplateSpec
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.ssh.argv import Access
from nixops_proxmox.state.record import DeploymentRecord
from nixops_proxmox.texts import is_machine_name

HARDWARE_AS_IT_IS = Permissions(adjust=False)  # for verbs that leave the hardware as it is


class OpenDeployment:
    """One deployment, with the parts that its verbs need."""

    def __init__(
        self, options: Options, record: DeploymentRecord, parts: Parts, description: Description | None = None
    ) -> None:
        self._options, self._parts, self._description = options, parts, description
        self.record = record
        self._recorded: list[Facts] | None = None
        self._by_name: tuple[NetworkSpec | None, Mapping[str, MachineSpec]] = (None, {})
        self._kinds = find_used()
        base = Path.cwd() if description is None else description.base
        self.addresses = Addressing(record, self.network, base, parts.hypervisor, parts.clock)
        self._keep()

    # What there is.

    @property
    def network(self) -> NetworkSpec | None:
        return None if self._description is None else self._description.network

    def machines(self) -> list[Machine]:
        """Everything that is described or recorded, by name."""
        found = {machine.name: machine for machine in self.record.machines()}
        for name in self._described_by_name:
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

    def spec(self, name: str) -> MachineSpec:
        """The machine's description; without one, what the record tells."""
        return self._spec_of(self.record.machine(name))

    def _spec_of(self, machine: Machine) -> MachineSpec:
        name, spec = machine.name, self._described_by_name.get(machine.name)
        if spec is not None:
            known = as_recorded(self.addresses.filled(spec), machine)
            if known.install.cloud_init is None:
                return known
            return with_cloud_init(known, [self._parts.keys.client_key().public])
        if machine.phase is Phase.ABSENT:
            raise SpecError(f"there is no machine {name!r} in the deployment {self.record.name!r}")
        return spec_of_record(machine)

    @property
    def _described_by_name(self) -> Mapping[str, MachineSpec]:
        """Made again only for another network: a fleet asks for each machine many times."""
        network = self.network
        if self._by_name[0] is not network:
            self._by_name = (network, {} if network is None else {spec.name: spec for spec in network.machines})
        return self._by_name[1]

    def _near_its_volumes(self, spec: MachineSpec, machine: Machine | None = None) -> MachineSpec:
        return near_its_volumes(machine or self.record.machine(spec.name), spec, self.volumes.find_node)

    def profile_of(self, name: str) -> str:
        """The name of the hypervisor that it is on, or will be."""
        return self.record.machine(name).facts.profile or self.spec(name).profile

    def asking(self, names: Sequence[str]) -> list[str]:
        """Those of the machines whose hypervisors ask for a word of the user's which was not said."""
        return [name for name in names if self._parts.care.asking([self.profile_of(name)])]

    def asking_resources(self) -> list[ResourceShown]:
        """The resources that a deploy would make or change where a hypervisor asks for a word which was not said."""
        asking = self._parts.care.asking(sorted(self.resources.described_profiles()))
        return self.resources.waiting_on(asking) if asking else []

    def agree(self) -> None:
        """The user has seen what this run will do, and agrees."""
        self._parts.care.agree()

    def hypervisor_of(self, name: str) -> PveHypervisor:
        return self._parts.guests_of(self.profile_of(name), container=self.spec(name).is_container)

    def believed_access(self, name: str) -> Access | None:
        """How other programs get in, as the record has it: nothing is asked of the network. None: no address is
        recorded. Raises ConfigError or SshRefused for a jump host that cannot be used."""
        machine = self.record.machine(name)
        endpoint = machine.facts.endpoint
        if endpoint is None or not machine.facts.host_key:
            return None
        return self._parts.guests.access_at(endpoint, machine, self.spec(name))

    def _reachable(self, name: str) -> Machine:
        machine = self.record.machine(name)
        if machine.phase in (Phase.ABSENT, Phase.RESERVED, Phase.DEFINED, Phase.LOST, Phase.STOPPED):
            raise NoPath(
                f"{name}: it is {machine.phase}, so you cannot log in to it",
                hint=f"{command(Verb.DEPLOY)} makes it reachable",
            )
        return machine

    # How the verbs work.

    def _place(self, names: Sequence[str], *, warn: bool = False) -> dict[str, DeployError]:
        """Places for all new machines before the first is made; errors by name."""
        asked = [(machine, self._near_its_volumes(spec, machine)) for machine, spec in self._described_of(names)]
        return place_new(asked, self._everything(), self._parts.hypervisor, warn=warn)

    def _everything(self) -> list[tuple[Machine, MachineSpec]]:
        return self._described_of(list(self._described_by_name))

    def _described_of(self, names: Sequence[str]) -> list[tuple[Machine, MachineSpec]]:
        """With one question to the record: a fleet has many machines."""
        recorded = {machine.name: machine for machine in self.record.machines()}
        machines = [recorded.get(name) or Machine(self.record.name, name) for name in names]
        return [(machine, self._spec_of(machine)) for machine in machines]

    def _each(
        self,
        names: Sequence[str],
        work: Callable[[str, Any], Machine],
        *,
        before: Callable[[Any], object] | None = None,
        wants: Wants | None = None,
        ensure: Callable[[Ref], None] | None = None,
        rollouts: Sequence[Rollout] = (),
    ) -> list[Outcome]:
        """Work on the machines, in the order of `wants`; without it, side by side. Volumes and resources among them are
        made first, by `ensure` if it is given. `before` is given the lease. `rollouts`: which machines wait for others
        of their group."""

        def with_right(name: str) -> Machine:
            self._parts.right.check()  # where nothing is left to do, nothing else would check it
            return work(name, lease)

        with self._lease(names) as lease:
            (before or self._keep)(lease)
            outcomes: dict[Ref, Outcome] = {}

            def do_wave(refs: Sequence[Ref]) -> Mapping[Ref, DeployError | None]:
                found = {ref: self._work_on_thing(ref, ensure or self._ensure) for ref in refs if ref.kind != MACHINE}
                machines = [ref.name for ref in refs if ref.kind == MACHINE]
                ended = {ref: outcome.error for ref, outcome in outcomes.items()}
                held = find_held(machines, rollouts, ended)
                for name, error in held.items():
                    found[Ref(MACHINE, name)] = Outcome(name, 0.0, error=error)
                    self._options.ended(found[Ref(MACHINE, name)])
                machines = [name for name in machines if name not in held]
                for outcome in run_all(machines, with_right, jobs=self._options.jobs, ended=self._options.ended):
                    found[Ref(MACHINE, outcome.name)] = outcome
                outcomes.update(found)
                return {ref: outcome.error for ref, outcome in found.items()}

            wants = {Ref(MACHINE, name): () for name in names} if wants is None else wants
            ended = walk(wants, do_wave, with_batches(self._after(wants), rollouts, wants))
            for ref, error in ended.items():
                if ref not in outcomes and error is not None:
                    outcomes[ref] = Outcome(ref.name, 0.0, error=error, kind="" if ref.kind == MACHINE else ref.kind)
                    self._options.ended(outcomes[ref])
        others = [outcome for ref, outcome in outcomes.items() if ref.kind != MACHINE]
        return [*others, *(outcomes[Ref(MACHINE, name)] for name in names)]

    # What there is beside machines.

    def _keep(self, lease: Any = None) -> None:
        """From here on, volumes and other resources may be changed; without a lease, only looked at."""
        self.images = self._images(lease)
        self.resources = ResourceKeeper(
            self.record,
            self.network,
            Outside(
                self._parts.hypervisor,
                self._parts.clock,
                self._options.reporter,
                self.addresses.nics,
                self._parts.router,
                self._parts.care.refuse,
                self.images,
            ),
            self._kinds,
            lease,
        )
        self.volumes = Keeper(
            self.record,
            () if self.network is None else self.network.volumes,
            self._parts.guests_of,
            self._parts.clock,
            self._options.reporter,
            lease,
        )

    def _images(self, lease: Any) -> DiskImages:
        return DiskImages(
            self.record,
            self.network,
            self._parts.hypervisor,
            self._build_image,
            Path.cwd() if self._description is None else self._description.base,
            self._parts.clock,
            self._options.reporter,
            lease,
            self._template_on,
        )

    def _template_on(self, spec: MachineSpec, node: str) -> int:
        """The VMID of the machine's described template on the node. It is made, if it is not there: a machine that is
        installed again may be on a node that had none."""
        resources = () if self.network is None else self.network.resources
        (template,) = (one for one in resources if isinstance(one, TemplateSpec) and one.is_wanted_by(spec))
        mark, digest = mark_of(self.record.identity, template.name), self.images.digest_of_template(template)
        for made in (False, True):
            if made:
                self.resources.ensure(Ref(TEMPLATE, template.name))
            for found in self._parts.hypervisor(spec.profile).template_store.find(template, mark, ()):
                if found.finished and found.serves(node) and found.digest == digest:
                    return found.vmid
        raise NotFound(
            f"{spec.name}: the template {spec.install.template} is not on {node}, although it was made there",
            hint="was it deleted just now? run the same command again",
        )

    def _build_image(self, name: str) -> None:
        if self._description is not None and self._description.images is not None:
            self._description.images.ensure(name)

    def _wants(self, names: Sequence[str]) -> Wants:
        """What each machine needs to be there before it: its volumes, the machine that has to let go of one, and other
        resources. With all machines, the volumes and resources that none of them wants belong to it too."""
        wants: dict[Ref, set[Ref]] = self._ways(names)
        for machine, spec in self._described_of(names):
            name = machine.name
            for volume in spec.volumes:
                wants.setdefault(Ref(VOLUME, volume), set())
                wants[Ref(MACHINE, name)].add(Ref(VOLUME, volume))
                before = self.volumes.volume(volume).facts.machine
                if before in names and before != name:
                    wants[Ref(MACHINE, name)].add(Ref(MACHINE, before))
            for ref in self.resources.wanted_by(spec):
                wants[Ref(MACHINE, name)].add(ref)
                wants.setdefault(ref, set())
        for ref in self.resources.following([Ref(MACHINE, name) for name in names]):
            wants.setdefault(ref, set())
        whole = not self._options.only and set(self.described()) <= set(names)
        if whole and self.network is not None:
            for described in self.network.volumes:
                wants.setdefault(Ref(VOLUME, described.name), set())
            for ref in self.resources.described():
                wants.setdefault(ref, set())
        return self._with_wanted(wants)

    def _ways(self, names: Sequence[str]) -> dict[Ref, set[Ref]]:
        """Which of the machines must be ready before each: the way to it leads through them, or they open its disk."""
        described = [name for name in names if name in self._described_by_name]
        specs = {machine.name: spec for machine, spec in self._described_of(described)}
        found = {Ref(MACHINE, name): {Ref(MACHINE, one) for one in _before(specs.get(name))} for name in names}
        return {ref: {other for other in gates if other in found} for ref, gates in found.items()}

    def _refuse_without_way(self, name: str) -> None:
        """StateError where the machine that leads to it has no address that we know."""
        gate = _gate_of(self.spec(name) if name in self._described_by_name else None)
        if gate and self._parts.guests.find_way(self.spec(name)) is None:
            raise StateError(
                f"{name}: the way to it leads through {gate}, which is {self.record.machine(gate).phase}",
                hint=f"{command(Verb.DEPLOY, gate, name)} makes {gate} ready first",
            )

    def rollouts(self, names: Sequence[str]) -> list[Rollout]:
        """The groups of these machines that a deploy changes some at a time."""
        strategies = self._options.strategy(
            names, {machine.name: spec.deploy.strategy for machine, spec in self._described_of(names)}
        )
        return draw_up(
            strategies,
            {
                ref: [one for one in wanted if one.kind == MACHINE and one.name in names]
                for ref, wanted in self._wants(names).items()
                if ref.kind == MACHINE
            },
        )

    def _after(self, wants: Wants) -> Wants:
        """What resources follow, of what is worked on."""
        others = [ref for ref in wants if ref.kind not in (MACHINE, VOLUME)]
        return {ref: [one for one in self.resources.comes_after(ref) if one in wants] for ref in others}

    def _with_wanted(self, wants: dict[Ref, set[Ref]]) -> Wants:
        """The same, with what resources want themselves. A machine that a resource wants, and that is not worked on
        now, counts as being there."""
        open_refs = [ref for ref in wants if ref.kind not in (MACHINE, VOLUME)]
        while open_refs:
            ref = open_refs.pop()
            for other in self.resources.wants(ref):
                if other.kind == MACHINE and other not in wants:
                    continue
                if other not in wants:
                    wants[other] = set()
                    open_refs.append(other)
                wants[ref].add(other)
        return wants

    def _work_on_thing(self, ref: Ref, work: Callable[[Ref], None]) -> Outcome:
        began, error = time.monotonic(), None
        try:
            self._parts.right.check()
            work(ref)
        except DeployError as raised:
            error = raised
        return Outcome(ref.name, time.monotonic() - began, error=error, kind=ref.kind)

    def _ensure(self, ref: Ref) -> None:
        """Make it, if it is not there. Where is known for a volume: the machines have their places."""
        if ref.kind == VOLUME:
            machine = self.attachments().get(ref.name, "")
            self.volumes.ensure(ref.name, self._node_of(machine), machine)
        else:
            self.resources.ensure(ref)

    def describe_things(
        self, names: Sequence[str], shown: Sequence[VolumeShown | ResourceShown]
    ) -> Mapping[str, Mapping[str, str]]:
        """What a plan of these machines depends on of each of the things that it makes, by the thing's name."""
        wanted = self._wants(names)
        return {str(one.ref): one.describe_world() for one in shown if one.ref in wanted}

    def _describe_thing(self, ref: Ref) -> Mapping[str, str]:
        """The same, looked at now."""
        if ref.kind == VOLUME:
            (volume,) = self.volumes.look({}, only=ref.name)
            return volume.describe_world()
        return self.resources.look_at(ref).describe_world()

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
    def _lease(self, names: Sequence[str] = ()) -> Iterator[Any]:
        """The right to change the deployment, or only these machines, for a run that works apart from others. The parts
        check it again before each effect."""
        machines = names if self._options.apart else ()
        with (
            self.record.lease(break_lock=self._options.break_lock, machines=machines) as lease,
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
        return Pursuit(
            machine,
            world,
            journal,
            begin=lambda: self._parts.care.refuse(name, world.spec.profile),
            leave=lambda: self._parts.guests.leave(name),
        )

    def _world(
        self, name: str, permissions: Permissions, spec: MachineSpec | None = None, *, builds: bool = True
    ) -> World:
        builder: Builder = NothingToBuild()
        if builds and self._description is not None:
            builder = self._description.builder(self._parts)
        spec = spec or self._near_its_volumes(self.spec(name))
        if not permissions.adjust:
            spec = where_it_is(spec, self.record.machine(name).facts)
        recorded = partial(self._recorded_vmids, spec.profile)
        world = self._parts.world(spec, permissions, builder, self.volumes, recorded)
        serials = serials_of(self.record.identity, name)
        world = replace(world, before_boot=self.resources.follow, serials_from=serials)
        return replace(
            world, images=self.images, others=self._other, courier=self._courier(name), hooks=self._hooks(name)
        )

    def _other(self, name: str) -> tuple[Machine, MachineSpec]:
        return self.record.machine(name), self.spec(name)

    def _courier(self, name: str) -> KeyCourier | None:
        """What brings it the keys that it is described with. None: there is no description."""
        if self.network is None or name not in self._described_by_name:
            return None
        return KeyCourier(self.network.sent_keys.get(name, ()), files=self.network.placed_files.get(name, ()))

    def _hooks(self, name: str) -> HookCommands | None:
        """What runs the commands that it is described with. None: there is no description."""
        if self._description is None or name not in self.described():
            return None
        return HookCommands(self.spec(name).deploy.hooks, self._description.base, self._options.reporter.detail)

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
        unknown = [name for name in names if name not in self._described_by_name]
        if unknown:
            raise SpecError(f"not in the description: {', '.join(unknown)}")


def _gate_of(spec: MachineSpec | None) -> str:
    """Empty for a machine that is only recorded: all that we know is the way that was proven."""
    return (spec.endpoint.through or "") if spec is not None else ""


def _before(spec: MachineSpec | None) -> list[str]:
    """The machines that must be ready before it: its gate, and those that open its disk."""
    return [_gate_of(spec), *(str(one.machine) for one in keepers_of(None if spec is None else spec.encryption))]


def as_recorded(spec: MachineSpec, machine: Machine) -> MachineSpec:
    """With the kind of guest that the machine is. A deploy refuses a description of the other kind."""
    kind = MachineKind.CONTAINER if machine.facts.container else MachineKind.VM
    return spec.model_copy(update={"kind": kind}) if machine.facts.vmid else spec


def spec_of_record(machine: Machine, *, to_destroy: bool = False) -> MachineSpec:
    """What the record tells. An older version recorded whatever name stood in a VM's notes: of such a machine
    nothing is done, except that it is destroyed."""
    profile = machine.facts.profile or "default"
    if is_machine_name(machine.name):
        return as_recorded(MachineSpec(name=machine.name, profile=profile), machine)
    if to_destroy:
        return MachineSpec(name="nameless", profile=profile)
    raise StateError(
        f"{machine.name!a} is recorded, but no machine can have that name: an older version took it from a VM's notes",
        hint=f"{command(Verb.DESTROY, '--uuid', machine.facts.uuid)} destroys it;"
        f" {command(Verb.DESTROY, '--forget', '--uuid', machine.facts.uuid)} removes only its record",
    )
