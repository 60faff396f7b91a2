"""The resource types: what it means to create and to update one. The kinds' types are the registry's. `state` is the
provider's own."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nixops_proxmox.core.graph import Ref
from nixops_proxmox.errors import NeedsPermission, NoPath, SpecError, StateError
from nixops_proxmox.kinds.machine.shape import Permissions
from nixops_proxmox.kinds.names import MACHINE
from nixops_proxmox.kinds.registry import ResourceType, find_described, find_resource_types
from nixops_proxmox.kinds.volume.facts import NAME as VOLUME
from nixops_proxmox.model import Machine, Phase
from nixops_proxmox.nixops4.among import (
    INPUTS,
    SPEC,
    Among,
    SaidOfThing,
    SaidOfVm,
    places_of_thing,
    places_of_vm,
    spec_of_vm,
)
from nixops_proxmox.nixops4.described import (
    how_to_remove_thing,
    kinds,
    machine_in,
    refuse_another,
    refuse_relative,
    spec_in,
    thing_in,
    thing_of,
    word_for,
)
from nixops_proxmox.nixops4.inputs import (
    DEPLOYMENT,
    DEPLOYMENTS,
    FileInputs,
    NixosInputs,
    StateInputs,
    VmInputs,
    VolumeInputs,
    parse_inputs,
    parse_thing,
)
from nixops_proxmox.nixops4.messages import Create, Request, StateEvent, StateRead, Update
from nixops_proxmox.nixops4.outputs import nixos_outputs, thing_outputs, vm_outputs, volume_outputs
from nixops_proxmox.nixops4.patch import BadPatch, apply_patch
from nixops_proxmox.nixops4.reporter import StderrReporter
from nixops_proxmox.nixops4.secrets import recorded_secrets, said_secrets, with_secrets
from nixops_proxmox.nixops4.spelling import ALLOW_RECREATE, BREAK_LOCK
from nixops_proxmox.operations import Deployed, Options, open_given, open_volumes
from nixops_proxmox.operations.addressing import recorded_for_systems
from nixops_proxmox.options import MAKE_ANOTHER, Agreed, is_said, said_agreed
from nixops_proxmox.pve.wire.profiles import load_profile
from nixops_proxmox.spec import MachineSpec, NetworkSpec, parse_volume
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.state import ENVIRONMENT, open_state
from nixops_proxmox.state.documents import Document, Patch

STATE = "state"  # the one type that is of no kind
SYSTEM = "nixops4.system"  # where the record keeps a `nixos`'s system for a `vm` whose `install.generation` is raised

# How far `vm` goes by where the machine stands. Where an installed system is, until that can be reached.
GOALS: Mapping[Phase, Phase] = {
    Phase.ABSENT: Phase.REACHABLE,
    Phase.RESERVED: Phase.REACHABLE,
    Phase.DEFINED: Phase.REACHABLE,
    Phase.INSTALLER: Phase.REACHABLE,
    Phase.REACHABLE: Phase.REACHABLE,
    Phase.PARTITIONED: Phase.PARTITIONED,
}

EMPTY_STATE: Mapping[str, Any] = {"_type": "nixopsState", "resources": {}, "deployments": {}}


@dataclass(frozen=True)
class Resources:
    """What the requests come to. `state`: where our own record is, an SQL URL or a file."""

    state: str = ""
    profiles: Path | None = None
    keys: Path | None = None
    enter: Callable[[str], object] = lambda _: None  # how to get into a lab's network
    break_lock: bool = False
    make_another: bool = False
    allow_recreate: bool = False
    agreed: Agreed = field(default_factory=Agreed)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], enter: Callable[[str], object]) -> "Resources":
        return cls(
            state=environment.get(ENVIRONMENT, ""),
            enter=enter,
            break_lock=is_said(BREAK_LOCK, environment),
            make_another=is_said(MAKE_ANOTHER, environment),
            allow_recreate=is_said(ALLOW_RECREATE, environment),
            agreed=said_agreed(environment),
        )

    def create(self, request: Create) -> Mapping[str, Any]:
        """Create or, if an earlier answer was lost, find again. Safe to repeat."""
        if _is_stateful(request.type) and not request.is_stateful:
            raise StateError(
                f"a {request.type!r} resource must be stateful: otherwise NixOps 4 would forget what was created",
                hint="give the resource a `state` provider in the NixOps 4 deployment",
            )
        return self._apply(request.type, request.inputs)

    def update(self, request: Update) -> Mapping[str, Any]:
        kind, now = request.resource.type, request.inputs
        for key, default in (("name", None), ("deployment", DEPLOYMENT)):
            had, wants = request.resource.inputs.get(key, default), now.get(key, default)
            if had != wants and _is_stateful(kind):
                raise SpecError(
                    f"cannot change from {had!r} to {wants!r} on a {word_for(kind)} that exists",
                    path=f"{kind}.{key}",
                    hint="declare a new resource, and remove the old one: " + how_to_remove(kind, request),
                )
        if kind == "vm":
            self._refuse_another(parse_inputs(VmInputs, kind, now), (request.resource.outputs or {}).get("uuid"))
        return self._apply(kind, now)

    def read_state(self, request: StateRead) -> Mapping[str, Any]:
        inputs = self._state_inputs(request.resource.type, request.resource.inputs)
        with open_state(self.state) as state:
            return replay([event.patch for event in Document(state, inputs.name).read()])

    def change_state(self, request: StateEvent) -> None:
        inputs = self._state_inputs(request.resource.type, request.resource.inputs)
        with open_state(self.state) as state:
            Document(state, inputs.name).append(request.event, request.nixops_version, request.patch, replay)

    def _refuse_another(self, inputs: VmInputs, uuid: object) -> None:
        """An update never makes a second machine, whatever became of the first."""
        recorded = self._recorded(inputs).facts.uuid
        if uuid and recorded != uuid:
            what = f"the one recorded has {recorded}" if recorded else "there is none in our record"
            raise NeedsPermission(
                f"{inputs.name}: NixOps knows the machine with the UUID {uuid}, and {what}",
                hint=f"is this the right state ({ENVIRONMENT})? If the machine was destroyed, remove the resource from"
                " NixOps's state too; the next apply recreates it (docs/with-nixops4.md)",
            )

    # The types.

    def _apply(self, kind: str, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        match kind:
            case "vm":
                return self._vm(parse_inputs(VmInputs, kind, inputs))
            case "nixos":
                return self._nixos(parse_inputs(NixosInputs, kind, inputs))
            case "iso" | "image":
                return self._file(parse_inputs(FileInputs, kind, inputs), kind)
            case "volume":
                return self._volume(parse_inputs(VolumeInputs, kind, inputs))
            case "state":
                parse_inputs(StateInputs, kind, inputs)
                return {}
            case _:
                return self._by_registry(kind, inputs)

    def _by_registry(self, kind: str, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        types = find_resource_types()
        if kind in types and types[kind].model is not None:
            return self._thing(types[kind], inputs)
        make = types[kind].make if kind in types else None
        if make is None:
            raise SpecError(f"unknown resource type {kind!r}; known are {', '.join([*types, STATE])}")
        deployment = inputs.get("deployment", DEPLOYMENT)
        if not isinstance(deployment, str) or not re.match(DEPLOYMENTS, deployment):
            raise SpecError("expected a deployment's name", path=f"{kind}.deployment")
        with open_state(self.state) as state:
            return make(inputs, state.deployment(deployment))

    def _vm(self, inputs: VmInputs) -> Mapping[str, Any]:
        refuse_relative(inputs)
        said = SaidOfVm(proxmox=inputs.proxmox, macPools=inputs.macPools, macSchemes=inputs.macSchemes)
        network = self._network_of_vm(inputs, said)
        spec, machine = machine_in(network, inputs.name), self._recorded(inputs)
        network = recorded_secrets(network, spec, machine)
        system = system_to_reinstall(machine, spec)
        until = None if system else GOALS.get(machine.phase)
        systems = {inputs.name: system} if system else None
        keep = {INPUTS: said.model_dump_json()}
        with self._opened(network, spec, systems=systems, keep=keep, allow_reboot=inputs.allowReboot) as deployed:
            ready = finish(deployed, inputs.name, until=until, allow_recreate=self.allow_recreate)
            outputs = vm_outputs(ready, recorded_for_systems(deployed.record).get(inputs.name, {}))
        self._follow(Ref(MACHINE, spec.name), network, self._network_of_vm(inputs, said))
        return outputs

    def _network_of_vm(self, inputs: VmInputs, said: SaidOfVm) -> NetworkSpec:
        around = self._around(inputs.deployment).with_vm(inputs.name, said)
        return around.network(places_of_vm(inputs.name, said), kinds())

    def _nixos(self, inputs: NixosInputs) -> Mapping[str, Any]:
        spec, systems = self._recorded_spec(inputs), {inputs.name: inputs.system}
        network = self._around(inputs.deployment).network((), kinds())
        others = (machine for machine in network.machines if machine.name != spec.name)
        kept = {SYSTEM: inputs.system, **said_secrets(inputs)}
        network = with_secrets(network.model_copy(update={"machines": (*others, spec)}), spec, kept)
        with self._opened(network, spec, systems=systems, keep=kept) as deployed:
            return nixos_outputs(finish(deployed, inputs.name))

    def _file(self, inputs: FileInputs, kind: str) -> Mapping[str, Any]:
        self._enter(inputs.profile)
        with open_volumes(inputs.profile, self.profiles) as volumes:
            content = "iso" if kind == "iso" else "import"
            return {"volume": volumes.ensure(Path(inputs.path), inputs.storage or "", content, node=inputs.node or "")}

    def _volume(self, inputs: VolumeInputs) -> Mapping[str, Any]:
        said = inputs.model_dump(exclude={"name", "deployment", "refresh"}, exclude_none=True)
        spec = parse_volume(inputs.name, said)
        network = NetworkSpec(name=inputs.deployment, machines=(), volumes=(spec,))
        with self._opened_for(network, Ref(VOLUME, spec.name), spec.profile) as deployed:
            deployed.make_volume(spec.name)
            return volume_outputs(spec.name, deployed.volumes.serial(spec.name), container=spec.is_container)

    # What a network describes under `resources`.

    def _thing(self, kind: ResourceType, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        assert kind.model is not None
        common, options = parse_thing(kind.name, kind.model, inputs)
        ref, said = Ref(kind.thing, common.name), SaidOfThing(option=kind.model.option, inputs=options)
        network = self._network_of_thing(common.deployment, ref, said)
        spec = thing_in(network, ref)
        with self._opened_for(network, ref, spec.profile) as deployed:
            refuse_another(deployed, ref, spec, kind.name)
            deployed.make_resource(ref, said.model_dump_json())
        self._follow(ref, NetworkSpec(name=common.deployment), self._network_of_thing(common.deployment, ref, said))
        return thing_outputs(spec)

    def _network_of_thing(self, deployment: str, ref: Ref, said: SaidOfThing) -> NetworkSpec:
        around = self._around(deployment).with_thing(said.option, ref.name, said.inputs)
        stands_for = next(option for option, entry in find_described().items() if entry.name == ref.kind)
        return around.network(places_of_thing(said.option, ref.name, stands_for), kinds())

    def _follow(self, ref: Ref, known: NetworkSpec, network: NetworkSpec) -> None:
        """Put right what follows a thing that has been made or changed, and was not `known` when that began: NixOps 4
        does not apply resources again whose own inputs are the same, and it makes several at once."""
        with self._opened_for(network, ref, "") as deployed:
            all_followers = deployed.resources.following([ref])
        followers = [one for one in all_followers if spec_in(known, one) != spec_in(network, one)]
        for one in followers:
            with self._opened_for(network, one, thing_in(network, one).profile) as deployed:
                deployed.make_resource(one)

    def _around(self, deployment: str) -> Among:
        with open_state(self.state) as state:
            return Among.recorded(state.deployment(deployment), kinds())

    def _recorded(self, inputs: VmInputs | NixosInputs) -> Machine:
        with open_state(self.state) as state:
            return state.deployment(inputs.deployment).machine(inputs.name)

    def _recorded_spec(self, inputs: NixosInputs) -> MachineSpec:
        facts = self._recorded(inputs).facts
        if facts.uuid != inputs.vm:
            raise SpecError(
                f"there is no `vm` {inputs.name!r} with the UUID {inputs.vm} in the deployment {inputs.deployment!r}",
                path="nixos.vm",
                hint="use the `uuid` output of the `vm` resource, and the same name and deployment",
            )
        try:
            return spec_of_vm(self._recorded(inputs))
        except KeyError as error:
            raise SpecError(f"{inputs.name}: no `vm` resource created it", path="nixos.vm") from error

    def _opened(
        self,
        network: NetworkSpec,
        spec: MachineSpec,
        *,
        systems: Mapping[str, str] | None = None,
        keep: Mapping[str, str] | None = None,
        allow_reboot: bool = False,
    ) -> AbstractContextManager[Deployed]:
        permissions = Permissions(allow_reboot=allow_reboot, make_another=self.make_another)
        keep = {SPEC: spec.model_dump_json(by_alias=True), **(keep or {})}
        self._enter(spec.profile)
        options = replace(self._options(network, Ref(MACHINE, spec.name)), permissions=permissions, keep=keep)
        return open_given(options, network, systems)

    def _opened_for(self, network: NetworkSpec, ref: Ref, profile: str) -> AbstractContextManager[Deployed]:
        if profile:
            self._enter(profile)
        return open_given(self._options(network, ref), network)

    def _options(self, network: NetworkSpec, ref: Ref) -> Options:
        """For a run about one thing: NixOps starts a provider for each resource, all at once."""
        reporter = StderrReporter(network.name)
        for warning in network.warnings:
            reporter.remark(warning)
        return Options(
            deployment=network.name,
            only=ref.name,
            kind=ref.kind,
            state=self.state,
            profiles=self.profiles,
            keys=self.keys,
            break_lock=self.break_lock,
            agreed=self.agreed,
            reporter=reporter,
        )

    def _enter(self, profile: str) -> None:
        """Go to where the hypervisor's guests can be reached. If that is another network, the process is replaced."""
        namespace = load_profile(profile, path=self.profiles).namespace
        if namespace:
            self.enter(namespace)

    def _state_inputs(self, kind: str, inputs: Mapping[str, Any]) -> StateInputs:
        if kind != "state":
            raise SpecError(f"a {kind!r} resource keeps no state for others; `state` does")
        return parse_inputs(StateInputs, kind, inputs)


def _is_stateful(kind: str) -> bool:
    """Does the type keep something that could be forgotten? One that is not known does not."""
    types = {} if kind == STATE else find_resource_types()
    return kind in types and types[kind].stateful


def deployment_of(request: Request | None) -> str:
    """The deployment of the command line to which the request belongs, or the usual one if it does not say."""
    resource = getattr(request, "resource", request)
    found = getattr(resource, "inputs", {}).get("deployment", DEPLOYMENT)
    return found if isinstance(found, str) else DEPLOYMENT


def uuid_of(request: Update) -> str:
    """As NixOps knows the machine. `UUID` if it does not."""
    known = (request.resource.outputs or {}).get("uuid") or request.resource.inputs.get("vm")
    return known if isinstance(known, str) else "UUID"


def how_to_remove(kind: str, request: Update) -> str:
    name = str(request.resource.inputs.get("name", "NAME"))
    if kind == VOLUME:
        return command(Verb.VOLUME_DELETE, name)
    if thing := thing_of(kind):
        return how_to_remove_thing(Ref(thing, name))
    return command(Verb.DESTROY, "--uuid", uuid_of(request))


def system_to_reinstall(machine: Machine, spec: MachineSpec) -> str:
    """The system for a `vm` that asks for a reinstall, or is in the middle of one: NixOps does not apply a `nixos`
    again whose own inputs are the same. Empty: none is asked for."""
    facts = machine.facts
    asked = spec.install.asked > facts.asked
    in_the_middle = facts.round > 0 and machine.phase in GOALS
    return facts.extra.get(SYSTEM, "") if asked or in_the_middle else ""


def finish(deployed: Deployed, name: str, *, until: Phase | None = None, allow_recreate: bool = False) -> Machine:
    """Deploy the machine, or raise what stopped it. What NixOps 4 has no word for is said in full. `allow_recreate` is
    for disks: a VM that is recreated has another UUID, and NixOps must forget the old one first."""
    if allow_recreate and deployed.read_only(name).as_seen().phase is Phase.LOST:
        raise gone(deployed.record.machine(name))
    outcomes = deployed.deploy([name], until=until, allow_recreate=allow_recreate)
    outcome = next((one for one in outcomes if one.error is not None), outcomes[-1])  # its volumes come first
    machine = deployed.record.machine(name)
    if machine.phase is Phase.LOST and isinstance(outcome.error, NoPath):
        raise gone(machine) from outcome.error
    if outcome.error is not None:
        raise outcome.error
    return machine


def gone(machine: Machine) -> NoPath:
    return NoPath(
        f"{machine.name}: its VM {machine.facts.vmid} is gone from the cluster, or no longer carries its mark",
        hint=f"if it is really gone, {command(Verb.DESTROY, '--uuid', machine.facts.uuid)} forgets it;"
        " then remove the resource from NixOps's state; the next apply recreates it (docs/with-nixops4.md)",
    )


def replay(patches: Sequence[Patch]) -> Mapping[str, Any]:
    """The state that the patches lead to. Raises BadPatch if one does not fit, or leads to something that is no
    state."""
    document = EMPTY_STATE
    for patch in patches:
        document = apply_patch(document, patch)
        if not isinstance(document, dict) or document.get("_type") != EMPTY_STATE["_type"]:
            raise BadPatch("what the patch leads to is not NixOps's state")
    return document
