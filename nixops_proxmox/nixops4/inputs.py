"""What each resource type takes. Inputs that it does not know are refused by name."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from nixops_proxmox.errors import SpecError
from nixops_proxmox.spec.machine_kind import MachineKind
from nixops_proxmox.spec.names import options_of
from nixops_proxmox.spec.resource import ResourceSpec
from nixops_proxmox.spec.tree import nearest
from nixops_proxmox.texts import head

DEPLOYMENT = "nixops4"
DEPLOYMENTS = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"  # it names a folder, too


LONGEST_NAME = 200


def _printable(text: str) -> str:
    if not text.strip() or not text.isprintable() or len(text) > LONGEST_NAME:
        raise ValueError(f"expected a name of 1 to {LONGEST_NAME} printable characters, not {head(text, 40)!r}")
    return text


class _Inputs(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VmInputs(_Inputs):
    """`proxmox`: what `deployment.proxmox` is elsewhere. `refresh` has no meaning of its own: a change of it makes
    NixOps 4 apply the resource, which it skips as long as all inputs are the same."""

    name: str
    deployment: str = Field(DEPLOYMENT, pattern=DEPLOYMENTS)
    proxmox: dict[str, Any]
    macPools: dict[str, Any] = {}  # as under `resources`: what the NICs' `pool` and `macScheme` name
    macSchemes: dict[str, Any] = {}
    allowReboot: bool = False
    refresh: str | None = None


class NixosInputs(_Inputs):
    """`system`: the store path of a system's toplevel, built. `vm`: the UUID that the `vm` resource gave out. `keys`,
    `files`: what `deployment.keys` and `deployment.files` are elsewhere, without the secrets themselves."""

    name: str
    deployment: str = Field(DEPLOYMENT, pattern=DEPLOYMENTS)
    vm: str
    refresh: str | None = None
    keys: dict[str, Any] = {}
    files: dict[str, Any] = {}
    system: str = Field(pattern=r"^/nix/store/[0-9a-z]{32}-[^/]+$")


class FileInputs(_Inputs):
    """`path`: a file here. It is uploaded under a name that holds its hash, once."""

    path: str
    storage: str | None = None
    node: str | None = None
    profile: str = "default"


class VolumeInputs(_Inputs):
    """A disk that outlives machines. What is not said here, `resources.volumes` has elsewhere."""

    name: str
    deployment: str = Field(DEPLOYMENT, pattern=DEPLOYMENTS)
    kind: MachineKind = MachineKind.VM
    profile: str = "default"
    storage: str
    size: str
    node: str | None = None
    protect: bool = True
    discard: bool | None = None
    ssd: bool | None = None
    refresh: str | None = None


class ThingInputs(_Inputs):
    """What all take that a network describes under `resources`, beside the options of their kind."""

    name: str
    deployment: str = Field(DEPLOYMENT, pattern=DEPLOYMENTS)
    refresh: str | None = None


class StateInputs(_Inputs):
    name: Annotated[str, AfterValidator(_printable)]


Model = TypeVar("Model", bound=_Inputs)


def parse_inputs(model: type[Model], kind: str, inputs: Mapping[str, Any]) -> Model:
    """Raises SpecError that names every input that is unknown, missing or wrong."""
    try:
        return model.model_validate(dict(inputs))
    except ValidationError as error:
        lines = [f"{kind}.{'.'.join(map(str, e['loc']))}: {_explain(e['type'], e['msg'])}" for e in error.errors()]
        known = ", ".join(model.model_fields)
        raise SpecError("\n".join(lines), hint=f"the inputs of {kind!r} are: {known}") from error


def parse_thing(kind: str, model: type[ResourceSpec], inputs: Mapping[str, Any]) -> tuple[ThingInputs, dict[str, Any]]:
    """What all such resources take, and the options of this kind, which the specification reads. SpecError that names
    every input that is unknown."""
    options = options_of(model)
    known = [*ThingInputs.model_fields, *options]
    unknown = [f"{kind}.{name}: unknown input{nearest(name, known)}" for name in inputs if name not in known]
    if unknown:
        raise SpecError("\n".join(unknown), hint=f"the inputs of {kind!r} are: {', '.join(known)}")
    common = parse_inputs(ThingInputs, kind, {name: one for name, one in inputs.items() if name not in options})
    return common, {name: one for name, one in inputs.items() if name in options and one is not None}


def _explain(kind: str, message: str) -> str:
    if kind == "string_pattern_mismatch" and DEPLOYMENTS in message:
        return "expected letters, digits and _ . - after the first"
    return "unknown input" if kind == "extra_forbidden" else message.removeprefix("Value error, ")
