"""The resource types: `vm`, `nixos`, `iso`, `image` and `state`; each refuses inputs that it does not know, by name."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nixops_proxmox.errors import Locked, NeedsWord, NoPath, SpecError, StateError, StateTooNew
from nixops_proxmox.lifecycle.shape import Words
from nixops_proxmox.model import Machine, Phase
from nixops_proxmox.nixops4.messages import Create, StateEvent, StateRead, Update
from nixops_proxmox.nixops4.patch import BadPatch, apply_patch
from nixops_proxmox.nixops4.reporter import StderrReporter
from nixops_proxmox.pve.profiles import load_profile
from nixops_proxmox.spec import MachineSpec, NetworkSpec, parse_machine
from nixops_proxmox.state import ENVIRONMENT, open_state
from nixops_proxmox.state.documents import Document, Patch
from nixops_proxmox.wiring import Deployed, Options, open_given, open_volumes

BREAK_LOCK = "NIXOPS_PROXMOX_BREAK_LOCK"
DEPLOYMENT = "nixops4"
DEPLOYMENTS = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"  # it names a folder, too
SPEC = "nixops4.proxmox"  # where the record keeps a `vm`'s description for the `nixos` that is put on it


class _Inputs(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VmInputs(_Inputs):
    """`proxmox`: what `deployment.proxmox` is elsewhere."""

    name: str
    deployment: str = Field(DEPLOYMENT, pattern=DEPLOYMENTS)
    proxmox: dict[str, Any]
    allowReboot: bool = False


class NixosInputs(_Inputs):
    """`system`: the store path of a system's toplevel, built; `vm`: the UUID that the `vm` resource gave out."""

    name: str
    deployment: str = Field(DEPLOYMENT, pattern=DEPLOYMENTS)
    vm: str
    system: str = Field(pattern=r"^/nix/store/[0-9a-z]{32}-[^/]+$")


class VolumeInputs(_Inputs):
    """`path`: a file here; it is uploaded under a name that holds its hash, once."""

    path: str
    storage: str | None = None
    node: str | None = None
    profile: str = "default"


class StateInputs(_Inputs):
    name: str


# How far `vm` goes by where the machine stands; where an installed system is, until that can be reached.
GOALS: Mapping[Phase, Phase] = {
    Phase.ABSENT: Phase.REACHABLE,
    Phase.RESERVED: Phase.REACHABLE,
    Phase.DEFINED: Phase.REACHABLE,
    Phase.INSTALLER: Phase.REACHABLE,
    Phase.REACHABLE: Phase.REACHABLE,
    Phase.PARTITIONED: Phase.PARTITIONED,
}

EMPTY_STATE: Mapping[str, Any] = {"_type": "nixopsState", "resources": {}, "deployments": {}}

Model = TypeVar("Model", bound=_Inputs)


@dataclass(frozen=True)
class Resources:
    """What the requests come to. `state`: where our own record is, an SQL URL or a file."""

    state: str = ""
    profiles: Path | None = None
    keys: Path | None = None
    enter: Callable[[str], object] = lambda _: None  # how to get into a lab's network
    break_lock: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], enter: Callable[[str], object]) -> "Resources":
        return cls(
            state=environment.get(ENVIRONMENT, ""),
            enter=enter,
            break_lock=environment.get(BREAK_LOCK, "") not in ("", "0"),
        )

    def create(self, request: Create) -> Mapping[str, Any]:
        """Create or, if an earlier answer was lost, find again; safe to repeat."""
        if request.type in ("vm", "nixos") and not request.is_stateful:
            raise StateError(
                f"a {request.type!r} resource must be stateful: what was created would be forgotten",
                hint="give the resource a `state` provider in the NixOps 4 deployment",
            )
        return self._apply(request.type, request.inputs)

    def update(self, request: Update) -> Mapping[str, Any]:
        kind, before, now = request.resource.type, request.resource.inputs, request.inputs
        for key in ("name", "deployment"):
            if before.get(key) != now.get(key) and kind in ("vm", "nixos"):
                raise SpecError(
                    f"cannot change from {before.get(key)!r} to {now.get(key)!r} on a machine that exists",
                    path=f"{kind}.{key}",
                    hint="declare a new resource, and destroy the old machine with `nixops-proxmox destroy --uuid`",
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
        with open_state(self.state) as state:
            recorded = state.deployment(inputs.deployment).machine(inputs.name).facts.uuid
        if uuid and recorded != uuid:
            what = f"the one recorded has {recorded}" if recorded else "there is none in our record"
            raise NeedsWord(
                f"{inputs.name}: NixOps knows the machine with the UUID {uuid}, and {what}",
                hint=f"is this the right state ({ENVIRONMENT})? If the machine was destroyed, take the resource out of"
                " NixOps's state, too, and it is made anew (docs/with-nixops4.md)",
            )

    # The types.

    def _apply(self, kind: str, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        match kind:
            case "vm":
                return self._vm(parse_inputs(VmInputs, kind, inputs))
            case "nixos":
                return self._nixos(parse_inputs(NixosInputs, kind, inputs))
            case "iso" | "image":
                return self._volume(parse_inputs(VolumeInputs, kind, inputs), kind)
            case "state":
                parse_inputs(StateInputs, kind, inputs)
                return {}
            case _:
                raise SpecError(f"unknown resource type {kind!r}; known are vm, nixos, iso, image, state")

    def _vm(self, inputs: VmInputs) -> Mapping[str, Any]:
        spec = parse_machine(inputs.name, {"deployment": {"proxmox": inputs.proxmox}})
        with self._opened(inputs.deployment, spec, allow_reboot=inputs.allowReboot) as deployed:
            stands = deployed.record.machine(inputs.name).phase
            return vm_outputs(finish(deployed, inputs.name, until=GOALS.get(stands)))

    def _nixos(self, inputs: NixosInputs) -> Mapping[str, Any]:
        spec = self._recorded_spec(inputs)
        with self._opened(inputs.deployment, spec, systems={inputs.name: inputs.system}) as deployed:
            return nixos_outputs(finish(deployed, inputs.name))

    def _volume(self, inputs: VolumeInputs, kind: str) -> Mapping[str, Any]:
        self._enter(inputs.profile)
        with open_volumes(inputs.profile, self.profiles) as volumes:
            content = "iso" if kind == "iso" else "import"
            return {"volume": volumes.ensure(Path(inputs.path), inputs.storage or "", content, node=inputs.node or "")}

    def _recorded_spec(self, inputs: NixosInputs) -> MachineSpec:
        with open_state(self.state) as state:
            facts = state.deployment(inputs.deployment).machine(inputs.name).facts
        if facts.uuid != inputs.vm:
            raise SpecError(
                f"there is no `vm` {inputs.name!r} with the UUID {inputs.vm} in the deployment {inputs.deployment!r}",
                path="nixos.vm",
                hint="use the `uuid` output of the `vm` resource, and the same name and deployment",
            )
        try:
            return MachineSpec.model_validate_json(facts.extra[SPEC])
        except KeyError as error:
            raise SpecError(f"{inputs.name}: it was not made by a `vm` resource", path="nixos.vm") from error
        except ValidationError as error:
            first = error.errors()[0]
            raise StateTooNew(
                f"{inputs.name}: the recorded description cannot be read: {'.'.join(map(str, first['loc']))}:"
                f" {first['msg']}",
                hint="was it written by another version of nixops-proxmox? Apply the `vm` resource first",
            ) from error

    def _opened(
        self,
        deployment: str,
        spec: MachineSpec,
        *,
        systems: Mapping[str, str] | None = None,
        allow_reboot: bool = False,
    ) -> AbstractContextManager[Deployed]:
        self._enter(spec.profile)
        options = Options(
            deployment=deployment,
            only=spec.name,  # NixOps starts a provider for each resource, all at once
            state=self.state,
            profiles=self.profiles,
            keys=self.keys,
            words=Words(allow_reboot=allow_reboot),
            break_lock=self.break_lock,
            reporter=StderrReporter(),
            keep={SPEC: spec.model_dump_json(by_alias=True)},
        )
        return open_given(options, NetworkSpec(name=deployment, machines=(spec,)), systems)

    def _enter(self, profile: str) -> None:
        """Be where the hypervisor's guests can be reached; as far as we need it, the process is replaced."""
        namespace = load_profile(profile, path=self.profiles).namespace
        if namespace:
            self.enter(namespace)

    def _state_inputs(self, kind: str, inputs: Mapping[str, Any]) -> StateInputs:
        if kind != "state":
            raise SpecError(f"a {kind!r} resource keeps no state for others; `state` does")
        return parse_inputs(StateInputs, kind, inputs)


def finish(deployed: Deployed, name: str, *, until: Phase | None = None) -> Machine:
    """Deploy the machine, or raise what stopped it, with hints in words that NixOps 4 has."""
    try:
        (outcome,) = deployed.deploy([name], until=until)
    except Locked as error:
        hint = f"wait for it to end; if it is certain that it no longer runs, apply once with {BREAK_LOCK}=1"
        raise Locked(error.message, hint=hint) from error
    machine = deployed.record.machine(name)
    if machine.phase is Phase.LOST and isinstance(outcome.error, NoPath):
        raise NoPath(
            f"{name}: its VM {machine.facts.vmid} is gone from the cluster, or does not carry its mark any more",
            hint=f"if it is really gone, `nixops-proxmox destroy --uuid {machine.facts.uuid}` forgets it; then take the"
            " resource out of NixOps's state, and it is made anew (docs/with-nixops4.md)",
        ) from outcome.error
    if outcome.error is not None:
        raise outcome.error
    return machine


def vm_outputs(machine: Machine) -> Mapping[str, Any]:
    facts, endpoint = machine.facts, machine.facts.endpoint
    return {
        "uuid": facts.uuid,
        "vmid": facts.vmid,
        "node": facts.node,
        "macs": list(facts.macs),
        "addresses": [str(a.ip) for a in facts.addresses if a.mac in facts.macs and not a.ip.is_link_local],
        "sshHost": endpoint.host if endpoint else "",
        "sshPort": endpoint.port if endpoint else 22,
        "sshHostKeys": list(facts.installer_keys or (facts.host_key,)),
    }


def nixos_outputs(machine: Machine) -> Mapping[str, Any]:
    facts, endpoint = machine.facts, machine.facts.endpoint
    return {
        "system": facts.system,
        "generation": facts.generation,
        "sshHost": endpoint.host if endpoint else "",
        "sshPort": endpoint.port if endpoint else 22,
        "sshHostKey": facts.host_key,
    }


def replay(patches: Sequence[Patch]) -> Mapping[str, Any]:
    """The state that the patches lead to; BadPatch if one does not fit, or leads to something that is no state."""
    document = EMPTY_STATE
    for patch in patches:
        document = apply_patch(document, patch)
        if not isinstance(document, dict) or document.get("_type") != EMPTY_STATE["_type"]:
            raise BadPatch("what the patch leads to is not NixOps's state")
    return document


def parse_inputs(model: type[Model], kind: str, inputs: Mapping[str, Any]) -> Model:
    """Raises SpecError that names every input that is unknown, missing or wrong."""
    try:
        return model.model_validate(dict(inputs))
    except ValidationError as error:
        lines = [f"{kind}.{'.'.join(map(str, e['loc']))}: {_explain(e['type'], e['msg'])}" for e in error.errors()]
        known = ", ".join(model.model_fields)
        raise SpecError("\n".join(lines), hint=f"the inputs of {kind!r} are: {known}") from error


def _explain(kind: str, message: str) -> str:
    return "unknown input" if kind == "extra_forbidden" else message
