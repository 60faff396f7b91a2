"""nix/provider.nix says what the executable takes and gives: read with plain Nix, name by name, type by type."""

import os
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from nixops_proxmox.kinds.registry import find_resource_types
from nixops_proxmox.model import Machine
from nixops_proxmox.nixops4.inputs import FileInputs, NixosInputs, StateInputs, ThingInputs, VmInputs, VolumeInputs
from nixops_proxmox.nixops4.outputs import nixos_outputs, thing_outputs, vm_outputs, volume_outputs
from nixops_proxmox.nixops4.resources import STATE
from nixops_proxmox.spec import parse_machine
from nixops_proxmox.spec.names import options_of
from nixops_proxmox.spec.pool import PoolSpec
from tests.nix.conftest import ROOT, Evaluate, evaluate, real_lib  # noqa: F401 -- fixtures
from tests.nixes import NIXPKGS, find_nixpkgs

pytestmark = pytest.mark.nix

INPUTS: dict[str, type[BaseModel]] = {
    "vm": VmInputs,
    "nixos": NixosInputs,
    "iso": FileInputs,
    "image": FileInputs,
    "volume": VolumeInputs,
    "state": StateInputs,
}
MACHINE = Machine("nixops4", "web")
OUTPUTS: dict[str, Any] = {
    "vm": vm_outputs(MACHINE, {}),
    "nixos": nixos_outputs(MACHINE),
    "iso": {"volume": ""},
    "image": {"volume": ""},
    "volume": volume_outputs("data", "npv-0", container=False),
    "state": {},
}
DESCRIBED = {name: one.model for name, one in find_resource_types().items() if one.model is not None}
NAMES = {str: "str", bool: "bool", int: "int"}

PROVIDER = f"""
let
  lib = import {ROOT}/nix/stand-in.nix;
  reflect = import {ROOT}/nix/reflect.nix;
  self.packages.here.default = "/tool";
  provider = import {ROOT}/nix/provider.nix {{ inherit self; }} {{ inherit lib; resourceProviderSystem = "here"; }};
in
{{
  inherit (provider) executable;
  types = builtins.mapAttrs
    (_: one: {{
      inherit (one) requireState;
      inputs = reflect one.inputs.options;
      outputs = reflect one.outputs.options;
    }})
    provider.resourceTypes;
}}
"""


@pytest.fixture
def provider(evaluate: Evaluate) -> Any:  # noqa: F811
    return evaluate(PROVIDER)


def nix_type(annotation: Any) -> Any:
    """The Nix type of a field, as reflect.nix writes it; a submodule is not looked into."""
    if get_origin(annotation) is dict:
        return "submodule"
    if isinstance(annotation, UnionType):
        (inner,) = (one for one in get_args(annotation) if one is not NoneType)
        return {"null": nix_type(inner)}
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return {"enum": [str(one) for one in annotation]}
    return {"name": NAMES[annotation]} if annotation in NAMES else "submodule"


def shallow(kind: Any) -> Any:
    return "submodule" if isinstance(kind, dict) and kind.keys() & {"submodule", "attrs"} else kind


def test_it_names_the_executable_and_the_types_that_need_state(provider: Any) -> None:
    assert provider["executable"] == "/tool/bin/nixops4-resources-proxmox"
    assert set(provider["types"]) == {*INPUTS, *DESCRIBED}
    stateful = {name for name, one in provider["types"].items() if one["requireState"]}
    assert stateful == {"vm", "nixos", "volume", *DESCRIBED}


def test_inputs_have_the_names_the_types_and_the_defaults_of_the_executable(provider: Any) -> None:
    for kind, model in INPUTS.items():
        declared = provider["types"][kind]["inputs"]
        assert set(declared) == set(model.model_fields), kind
        for name, field in model.model_fields.items():
            assert shallow(declared[name]["type"]) == nix_type(field.annotation), f"{kind}.{name}"
            assert ("default" in declared[name]) is not field.is_required(), f"{kind}.{name}"
            assert declared[name].get("default") == (None if field.is_required() else field.default), f"{kind}.{name}"
            assert declared[name]["description"], f"{kind}.{name}"


def type_of(value: object) -> object:
    """An empty list is one of texts. A set is of sets of texts: what NICs have taken, by slot."""
    if isinstance(value, dict):
        return {"attrs": {"attrs": {"name": "str"}}}
    return {"list": {"name": "str"}} if isinstance(value, list) else {"name": NAMES[type(value)]}


def test_outputs_have_the_names_and_the_types_that_the_executable_gives(provider: Any) -> None:
    for kind, given in OUTPUTS.items():
        declared = provider["types"][kind]["outputs"]
        assert set(declared) == set(given), kind
        for name, value in given.items():
            assert declared[name]["type"] == type_of(value), name
            assert declared[name]["description"], f"{kind}.{name}"


@pytest.mark.parametrize("name", sorted(DESCRIBED))
def test_what_networks_describe_has_the_options_that_the_specification_has(provider: Any, name: str) -> None:
    """The file of which they are made is compared, whole, with what the specification writes: tests/test_docs.py."""
    model, one = DESCRIBED[name], provider["types"][name]
    assert set(one["inputs"]) == {*ThingInputs.model_fields, *options_of(model)}
    required = {option for option, said in one["inputs"].items() if "default" not in said}
    fields = {option for option, field in options_of(model).items() if model.model_fields[field].is_required()}
    assert required == fields | {"name"}
    assert all(said["description"] for said in one["inputs"].values())
    given = thing_outputs(PoolSpec(name="front"))
    assert {key: said["type"] for key, said in one["outputs"].items()} == {key: {"name": "str"} for key in given}


# The example as a user has it: hardware from a NixOS configuration, and all of it read by NixOps 4's own Nix files.
NIXOPS4 = """
{ lib, nixops4, root, system }:
let
  lib' = import lib;
  self.packages.here.default = "/tool";
  declared = import (root + "/nix/options.nix") { lib = lib'; };
  nixos = lib'.evalModules {
    modules = [
      { options.deployment.proxmox = with declared; options // renamedOptions // replaced // secrets; }
      { config = { inherit (import (root + "/examples/nixops4/web.nix")) deployment; }; }
    ];
  };
  hardware = import (root + "/nix/export.nix") nixos.config.deployment.proxmox;
  made = (import (nixops4 + "/nix/lib/lib.nix") { lib = lib'; self = null; selfWithSystem = null; }).mkRoot {
    modules = [
      { providers.proxmox = import (root + "/nix/provider.nix") { inherit self; }; }
      (import (root + "/examples/nixops4/deployment.nix") { inherit hardware system; })
    ];
  };
  given = made.rootFunction {
    resourceProviderSystem = "here";
    outputValues.web = {
      uuid = "0f0e";
      vmid = 100;
      node = "pve1";
      macs = [ ];
      addresses = [ ];
      sshHost = "::1";
      sshPort = 22;
      sshHostKeys = [ ];
    };
  };
in
builtins.mapAttrs (_: member: { inherit (member.resource) type inputs state; }) given.members
"""


def test_nixops4_itself_makes_requests_of_the_example_that_the_executable_takes(
    evaluate: Evaluate,  # noqa: F811
    real_lib: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    nixops4 = os.environ.get("NIXOPS_PROXMOX_NIXOPS4", "")
    if not nixops4:
        pytest.skip("there is no NixOps 4: set NIXOPS_PROXMOX_NIXOPS4 to a checkout (its nix folder is enough)")
    if find_nixpkgs() is None:
        pytest.skip(f"there is no nixpkgs, of which NixOps 4 reads more than we do: set {NIXPKGS}")
    (tmp_path / "read.nix").write_text(NIXOPS4)
    system = f"/nix/store/{'a' * 32}-nixos-system"
    arguments = {"lib": str(real_lib), "nixops4": nixops4, "root": str(ROOT), "system": f'"{system}"'}
    members = evaluate(tmp_path / "read.nix", arguments)
    assert {name: (one["type"], one["state"]) for name, one in members.items()} == {
        "state": ("state", None),
        "web": ("vm", ["state"]),
        "web-system": ("nixos", ["state"]),
    }
    inputs = {name: INPUTS[one["type"]].model_validate(one["inputs"]) for name, one in members.items()}
    web, nixos = inputs["web"], inputs["web-system"]
    assert isinstance(web, VmInputs) and isinstance(nixos, NixosInputs)
    assert (nixos.vm, nixos.system) == ("0f0e", system)
    spec = parse_machine(web.name, {"deployment": {"proxmox": web.proxmox}})
    assert (spec.memory, spec.install.iso) == (2048, "local:iso/nixops-proxmox-installer.iso")


def test_the_kinds_say_which_types_there_are_and_which_nixops_must_remember(provider: Any) -> None:
    """`state` is of no kind."""
    declared = {name: one["requireState"] for name, one in provider["types"].items() if name != STATE}
    assert declared == {name: one.stateful for name, one in find_resource_types().items()}
