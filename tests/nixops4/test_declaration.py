"""nix/provider.nix says what the executable takes and gives: read with plain Nix, name by name, type by type."""

from types import NoneType, UnionType
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from nixops_proxmox.model import Machine
from nixops_proxmox.nixops4.resources import (
    NixosInputs,
    StateInputs,
    VmInputs,
    VolumeInputs,
    nixos_outputs,
    vm_outputs,
)
from tests.nix.conftest import ROOT, Evaluate, evaluate  # noqa: F401 -- a fixture

pytestmark = pytest.mark.nix

INPUTS: dict[str, type[BaseModel]] = {
    "vm": VmInputs,
    "nixos": NixosInputs,
    "iso": VolumeInputs,
    "image": VolumeInputs,
    "state": StateInputs,
}
MACHINE = Machine("nixops4", "web")
OUTPUTS: dict[str, Any] = {
    "vm": vm_outputs(MACHINE),
    "nixos": nixos_outputs(MACHINE),
    "iso": {"volume": ""},
    "image": {"volume": ""},
    "state": {},
}
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
    if isinstance(annotation, UnionType):
        (inner,) = (one for one in get_args(annotation) if one is not NoneType)
        return {"null": nix_type(inner)}
    return {"name": NAMES[annotation]} if annotation in NAMES else "submodule"


def shallow(kind: Any) -> Any:
    return "submodule" if isinstance(kind, dict) and "submodule" in kind else kind


def test_it_names_the_executable_and_the_types_that_need_state(provider: Any) -> None:
    assert provider["executable"] == "/tool/bin/nixops4-resources-proxmox"
    assert set(provider["types"]) == set(INPUTS)
    assert {name for name, one in provider["types"].items() if one["requireState"]} == {"vm", "nixos"}


def test_inputs_have_the_names_the_types_and_the_defaults_of_the_executable(provider: Any) -> None:
    for kind, model in INPUTS.items():
        declared = provider["types"][kind]["inputs"]
        assert set(declared) == set(model.model_fields), kind
        for name, field in model.model_fields.items():
            assert shallow(declared[name]["type"]) == nix_type(field.annotation), f"{kind}.{name}"
            assert ("default" in declared[name]) is not field.is_required(), f"{kind}.{name}"
            assert declared[name].get("default") == (None if field.is_required() else field.default), f"{kind}.{name}"
            assert declared[name]["description"], f"{kind}.{name}"


def test_outputs_have_the_names_and_the_types_that_the_executable_gives(provider: Any) -> None:
    for kind, given in OUTPUTS.items():
        declared = provider["types"][kind]["outputs"]
        assert set(declared) == set(given), kind
        for name, value in given.items():
            have = declared[name]["type"]
            assert have == ({"list": {"name": "str"}} if isinstance(value, list) else {"name": NAMES[type(value)]}), (
                name
            )
            assert declared[name]["description"], f"{kind}.{name}"
