"""Python's specification and the module's options are the same, name by name, type by type, default by default."""

import types
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from annotated_types import Ge, Le
from pydantic import BaseModel

from nixops_proxmox.spec import (
    ContainerSpec,
    Disk,
    Efi,
    HealthSpec,
    HttpCheck,
    InstallSpec,
    IpSpec,
    MachineSpec,
    MountSpec,
    Nic,
    RootSpec,
    Ssh,
    Strategy,
    Tang,
    Tpm,
    Unlocking,
    VolumeSpec,
    parse_machine,
)
from nixops_proxmox.spec.firewall import Rule
from nixops_proxmox.spec.names import ALIASES, NIX_ONLY, REWRITTEN, SECRETS, key_of, options_of
from nixops_proxmox.spec.parse import _READERS
from nixops_proxmox.spec.resource import ResourceSpec
from nixops_proxmox.spec.routing import PortForward, RouterRule
from nixops_proxmox.spec.tenant import TenantSpec
from tests.nix.conftest import ROOT, Evaluate
from tests.spec.build import options

pytestmark = pytest.mark.nix

Tree = Mapping[str, Any]

STRING, INTEGER, FLOAT = {"name": "str"}, {"name": "int"}, {"name": "float"}
SIZE = {"either": [{"name": "unsignedInt"}, STRING]}
TEXT_OR_NUMBER = {"either": [INTEGER, STRING]}

# Where more may be written than the model keeps: one entry for each reader of its own.
WIDER: Mapping[tuple[type[BaseModel], str], Any] = {
    (MachineSpec, "memory"): SIZE,
    (MachineSpec, "balloon"): SIZE,
    (MachineSpec, "startup"): TEXT_OR_NUMBER,
    (MachineSpec, "disks"): Disk,
    (MachineSpec, "network"): Nic,
    (Disk, "size"): SIZE,
    (ContainerSpec, "mounts"): MountSpec,
    (ContainerSpec, "swap"): SIZE,
    (RootSpec, "size"): SIZE,
    (MountSpec, "size"): SIZE,
    (VolumeSpec, "size"): SIZE,
    (Nic, "ipv4"): IpSpec,
    (Nic, "ipv6"): IpSpec,
    (Nic, "trunks"): {"list": TEXT_OR_NUMBER},
    (InstallSpec, "template"): TEXT_OR_NUMBER,
    (InstallSpec, "image"): {"either": [STRING, {"name": "path"}]},
    (ContainerSpec, "template"): {"either": [STRING, {"name": "path"}]},
    (Unlocking, "tang"): Tang,
    (Strategy, "batch"): TEXT_OR_NUMBER,
    (HealthSpec, "http"): HttpCheck,
    (Ssh, "options"): {"attrs": {"either": [{"either": [STRING, INTEGER]}, {"name": "bool"}]}},
}
# Fields that only make sense for one entry of a list, not said by the model.
ALSO = {Disk: {"bus"}, MachineSpec: NIX_ONLY}
OPTIONAL_IN_NIX = {(Disk, "slot"), (MountSpec, "slot"), (Nic, "slot"), (Nic, "bridge"), (IpSpec, "method")}


@pytest.fixture
def tree(evaluate: Evaluate, lib: str) -> Tree:
    found: Tree = evaluate(ROOT / "nix" / "reference.nix", {"lib": lib})
    return found


def test_every_reader_is_known_here() -> None:
    beside = (ResourceSpec, TenantSpec, Rule, RouterRule, PortForward)  # no module's options
    assert set(WIDER) == {reader for reader in _READERS if not issubclass(reader[0], beside)}


def test_names_types_and_defaults_are_the_same(tree: Tree) -> None:
    differences = list(compare(MachineSpec, tree, "deployment.proxmox"))
    assert not differences, "\n".join(differences)


def test_so_are_those_of_volumes(evaluate: Evaluate, lib: str) -> None:
    tree = evaluate(ROOT / "nix" / "reference.nix", {"lib": lib, "volumes": "true"})
    differences = list(compare(VolumeSpec, tree, "resources.volumes.NAME"))
    assert not differences, "\n".join(differences)


def test_the_old_names_are_the_same(tree: Tree) -> None:
    hidden = {name for name, option in tree.items() if option.get("visible") is False}
    secrets = {name for name in hidden if "Refused" in tree[name]["description"]}
    assert secrets < SECRETS[MachineSpec]
    assert hidden - secrets == set(ALIASES[MachineSpec]) | set(REWRITTEN[MachineSpec])
    for name, new in ALIASES[MachineSpec].items():
        assert tree[name]["description"] == f"Now called `{new}`."
    for model, of in ((Disk, "disks"), (Nic, "network")):
        entry = section(tree[of]["type"])
        old = {name for name, option in flat(entry) if option.get("visible") is False}
        assert old == set(ALIASES[model])


def test_what_the_module_gives_for_nothing_is_what_the_specification_gives_for_nothing(
    evaluate: Evaluate, real_lib: Path
) -> None:
    least = 'disks = [ { storage = "local-lvm"; size = 8; } ]; network = [ { bridge = "vmbr0"; } ];'
    machine = f"{{ deployment.proxmox = {{ {least} }}; }}"
    search = [f"nixpkgs-lib={real_lib}"]
    exported = evaluate(ROOT / "tests" / "nix" / "machine.nix", {"machine": machine}, search=search)["exported"]
    assert parse_machine("web", {"proxmox": exported}) == parse_machine("web", {"proxmox": options()})


def compare(model: type[BaseModel], tree: Tree, path: str) -> Iterator[str]:
    """A line for each difference."""
    said = options_of(model)
    shown = {name for name, option in tree.items() if option.get("visible") is not False}
    shown -= {name for name in shown if not any(o.get("visible") is not False for _, o in flat({name: tree[name]}))}
    expected = set(said) | ALSO.get(model, frozenset())
    for name in sorted(expected ^ shown):
        yield f"{path}.{name}: only in {'Python' if name in expected else 'Nix'}"
    for name, field in said.items():
        if name in tree:
            yield from compare_option(model, field, tree[name], f"{path}.{name}")


def compare_option(model: type[BaseModel], field: str, option: Tree, path: str) -> Iterator[str]:
    info = model.model_fields[field]
    kind, optional = option["type"], "null" in option["type"]
    inner = kind["null"] if optional else kind
    annotation, bounds = info.annotation, [m for m in info.metadata if isinstance(m, Ge | Le)]
    wanted_optional = is_optional(annotation) or (model, field) in OPTIONAL_IN_NIX
    if optional != wanted_optional:
        yield f"{path}: null is {'' if optional else 'not '}allowed in Nix only"
    wider = WIDER.get((model, field))
    if isinstance(wider, type):
        yield from compare(wider, section(inner), path)
    elif wider is not None:
        if inner != wider:
            yield f"{path}: {inner} in Nix, {wider} in Python"
    else:
        yield from compare_type(annotation, bounds, inner, path)
    yield from compare_default(model, field, option, path)


def compare_type(annotation: Any, bounds: list[Any], kind: Tree, path: str) -> Iterator[str]:
    base, more = unwrapped(annotation)
    bounds = bounds + more
    if isinstance(base, type) and issubclass(base, BaseModel):
        yield from compare(base, section(kind), path)
    elif get_origin(base) is tuple:
        if "list" not in kind:
            yield f"{path}: {kind} in Nix, a list in Python"
        else:
            yield from compare_type(get_args(base)[0], [], kind["list"], f"{path}[]")
    elif kind not in (accepted := list(kinds(base, bounds))):
        yield f"{path}: {kind} in Nix, {accepted} in Python"


def kinds(base: Any, bounds: list[Any]) -> Iterator[Tree]:
    """How Nix may say a simple type."""
    if base is bool:
        yield {"name": "bool"}
    elif base is int:
        low, high = (bound_of(bounds, Ge, "ge"), bound_of(bounds, Le, "le"))
        text = f"integer between {low} and {high} (both inclusive)"
        yield INTEGER if low is None else {"name": "intBetween", "description": text}
    elif base is float:
        yield {"either": [INTEGER, FLOAT]}
    elif get_origin(base) is Literal:
        yield {"enum": list(get_args(base))}
    elif isinstance(base, type) and issubclass(base, StrEnum):
        yield {"enum": [member.value for member in base]}
    elif "Mapping" in str(base):
        yield {"attrs": {"either": [{"either": [STRING, INTEGER]}, {"name": "bool"}]}}
    else:  # text, and what is written as text: addresses, networks, patterns, scripts
        yield STRING
        yield {"name": "separatedString"}


def compare_default(model: type[BaseModel], field: str, option: Tree, path: str) -> Iterator[str]:
    info = model.model_fields[field]
    if (model, field) in OPTIONAL_IN_NIX or (model, field) in {(Nic, "ipv4"), (Nic, "ipv6")}:
        return  # the slot is counted, the method follows; whole machines are compared above
    if info.is_required():
        if "default" in option:
            yield f"{path}: must be set in Python only"
        return
    default = info.get_default(call_default_factory=True)
    said = default.model_dump(mode="json", exclude_defaults=True) if isinstance(default, BaseModel) else default
    said = list(said) if isinstance(said, tuple) else said
    if "default" not in option or option["default"] != said:
        yield f"{path}: {option.get('default', 'nothing')} by default in Nix, {said} in Python"


def section(kind: Tree) -> Tree:
    """The options of a set, or of the entries of a list or set."""
    match kind:
        case {"submodule": found}:
            tree: Tree = found
            return tree
        case {"null": inner} | {"list": inner} | {"attrs": inner}:
            return section(inner)
        case {"either": [left, right]}:
            return section(right) if right.keys() & {"submodule", "attrs"} else section(left)
    raise AssertionError(f"no options in {kind}")


def flat(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Tree]]:
    for name, option in tree.items():
        if "group" in option:
            yield from flat(option["group"], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", option


def is_optional(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType) and type(None) in get_args(annotation)


def unwrapped(annotation: Any) -> tuple[Any, list[Any]]:
    """The type below Annotated and None, and the bounds that stood there."""
    bounds: list[Any] = []
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *metadata = get_args(annotation)
            for item in metadata:
                bounds += [m for m in getattr(item, "metadata", [item]) if isinstance(m, Ge | Le)]
        elif is_optional(annotation):
            rest = [argument for argument in get_args(annotation) if argument is not type(None)]
            if len(rest) > 1:
                return str, bounds
            annotation = rest[0]
        else:
            return annotation, bounds


def bound_of(bounds: list[Any], kind: type, name: str) -> int | None:
    return next((getattr(bound, name) for bound in bounds if isinstance(bound, kind)), None)


def test_the_comparison_sees_a_difference() -> None:
    """It would be worth nothing if it could not fail."""
    good = {"storage": {"type": STRING, "description": "", "visible": True}}
    version = {"type": {"enum": ["v1.2", "v2.0"]}, "default": "v2.0", "description": "", "visible": True}
    assert not list(compare(Tpm, {**good, "version": version}, "tpm"))
    assert list(compare(Tpm, {**good, "version": {**version, "default": "v1.2"}}, "tpm"))
    assert list(compare(Tpm, {**good, "version": {**version, "type": STRING}}, "tpm"))
    assert list(compare(Tpm, {**good, "verison": version}, "tpm")) == [
        "tpm.verison: only in Nix",
        "tpm.version: only in Python",
    ]
    assert key_of(InstallSpec, "source") == "from"
    assert list(compare(Efi, good, "efi"))
