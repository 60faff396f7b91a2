"""The flake, the installer's module, the NixOps 2 expression and the NixOps 4 provider, with stand-ins for packages."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from nixops_proxmox.kinds.registry import find_described, find_resource_types
from nixops_proxmox.nixops4.inputs import FileInputs, NixosInputs, StateInputs, VmInputs, VolumeInputs
from tests.nix.conftest import ROOT, Evaluate

pytestmark = pytest.mark.nix

ISO = "nixops-proxmox-installer.iso"
SYSTEMS = {"x86_64-linux", "aarch64-linux"}


@pytest.fixture
def look(evaluate: Evaluate, real_lib: Path) -> Any:
    def run(attribute: str) -> Any:
        return evaluate(
            f"(import {ROOT}/tests/nix/surroundings.nix {{ lib = {real_lib}; }}).{attribute}",
        )

    return run


def test_the_flake_has_what_it_promises_for_both_systems(look: Any) -> None:
    flake = look("flake")
    for kind in ("packages", "apps", "checks", "shells", "plugin"):
        assert set(flake[kind]) == SYSTEMS, kind
    isos = {"installer-iso", "installer-iso-zfs"}
    assert set(flake["packages"]["x86_64-linux"]) == {"default", "nixops-proxmox", "container-template", *isos}
    assert flake["packages"]["aarch64-linux"]["installer-iso"] == "nixops-proxmox-installer.iso"
    assert flake["packages"]["x86_64-linux"]["installer-iso-zfs"] == "nixops-proxmox-installer-zfs.iso"
    assert flake["apps"]["x86_64-linux"]["default"].endswith("/bin/nixops-proxmox")
    assert flake["apps"]["x86_64-linux"]["lab"] == "/scripts/nixops-proxmox-lab"
    assert set(flake["checks"]["x86_64-linux"]) == {"package", "format", "lint", "types", "tests"}
    assert flake["modules"]["default"] == str(ROOT / "nix" / "proxmox.nix")
    assert flake["modules"]["gateway"] == str(ROOT / "nix" / "gateway.nix")
    assert flake["overlay"] == "nixops-proxmox"
    assert flake["template"] is True
    assert flake["provider"] == ["default", "proxmox"]


def test_the_installer_lets_nobody_in_by_password_and_can_be_told(look: Any) -> None:
    installer = look("installer")
    assert installer["environment"]["etc"]["nixops-proxmox-installer"]["text"] == "24.11\n"
    assert installer["services"]["qemuGuest"]["enable"] is True
    assert installer["services"]["openssh"]["settings"] == {
        "PasswordAuthentication": False,
        "KbdInteractiveAuthentication": False,
        "PermitRootLogin": "prohibit-password",
    }
    assert [key["type"] for key in installer["services"]["openssh"]["hostKeys"]] == ["ed25519"]
    assert "console=ttyS0,115200n8" in installer["boot"]["kernelParams"]


@pytest.mark.parametrize("newer", [False, True])
def test_the_isos_file_is_called_as_every_example_calls_it_and_says_what_is_in_it(look: Any, newer: bool) -> None:
    installer = look(f"installerWith {{ newer = {str(newer).lower()}; fileSystems = [ ]; }}")
    assert installer == {"name": ISO, "fileSystems": ["btrfs", "ext4", "vfat", "xfs"]}
    with_zfs = look(f'installerWith {{ newer = {str(newer).lower()}; fileSystems = [ "zfs" ]; }}')
    assert with_zfs["name"] == "nixops-proxmox-installer-zfs.iso" and "zfs" in with_zfs["fileSystems"]
    written = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "examples").rglob("*.*"),
        *(ROOT / "nix").rglob("*.nix"),
    ]
    named = {name for file in written for name in re.findall(r"local:iso/([\w.-]+)", file.read_text())}
    assert named - {"lab-installer.iso"} == {ISO}


def test_the_plugin_expression_is_what_nixops_reads(look: Any) -> None:
    plugin = look("plugin")
    assert plugin["names"] == ["config_exporters", "options", "resources"]
    assert plugin["options"] == [str(ROOT / "nix" / "proxmox.nix"), str(ROOT / "nix" / "gateway.nix"), "a module"]
    assert plugin["ours"] == [{"proxmox": {"disks": [], "network": [], "memory": 5}}]
    assert plugin["other"] == [{}], "machines of other backends say nothing"
    assert plugin["resources"].pop("volumes") == f"{ROOT / 'nix' / 'volume.nix'}: data"
    kinds = json.loads((ROOT / "nix" / "kinds.json").read_text())
    assert set(find_described()) <= set(kinds)
    assert plugin["resources"] == {option: "a module: " for option in kinds}


def test_the_provider_declares_what_the_executable_takes(look: Any) -> None:
    provider = look("provider null")
    assert provider["executable"].endswith("/bin/nixops4-resources-proxmox")
    models: dict[str, type[BaseModel]] = {
        "vm": VmInputs,
        "nixos": NixosInputs,
        "iso": FileInputs,
        "image": FileInputs,
        "volume": VolumeInputs,
        "state": StateInputs,
    }
    types = provider["types"]
    own = {name: set(types[name]["inputs"]) for name in models}
    assert own == {name: set(model.model_fields) for name, model in models.items()}
    described = set(types) - set(models)
    assert described == set(find_resource_types()) - set(models)
    assert {name for name, one in types.items() if one["requireState"]} == {*described, "nixos", "vm", "volume"}
