"""The configuration.nix that we write for `install.method = "configuration"`, as the installer evaluates it."""

from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.kinds.machine.scripts import minimal_configuration
from nixops_proxmox.model import Facts, Machine, Phase
from tests.nix.conftest import ROOT, Evaluate, Nixos
from tests.spec.build import machine

pytestmark = pytest.mark.nix

HARDWARE = """
{ lib, modulesPath, ... }: {
  imports = [ (modulesPath + "/profiles/qemu-guest.nix") ];
  fileSystems."/" = { device = "/dev/disk/by-uuid/00000000-0000-0000-0000-000000000001"; fsType = "ext4"; };
  swapDevices = [ ];
  networking.useDHCP = lib.mkDefault true;
  nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
}
"""
KEY = "ssh-ed25519 AAAA me"
STATIC = [{"bridge": "vmbr0", "ipv4": {"address": "10.0.0.2/24", "gateway": "10.0.0.1"}, "dns": ["10.0.0.53"]}]


@pytest.fixture
def generated(evaluate: Evaluate, nixos: Nixos, tmp_path: Path) -> Any:
    def run(**options: Any) -> Any:
        facts = Facts(macs=("BC:24:11:00:00:01",))
        text = minimal_configuration(
            Machine("shop", "web", Phase.DEFINED, facts), machine(**options), [KEY], "/dev/sda"
        )
        (tmp_path / "configuration.nix").write_text(text)
        (tmp_path / "hardware-configuration.nix").write_text(HARDWARE)
        given = {"nixpkgs": str(nixos.tree), "file": str(tmp_path / "configuration.nix")}
        told = evaluate(ROOT / "tests" / "nix" / "generated.nix", given, search=nixos.search)
        assert told["failed"] == [] and told["evaluates"]
        return told

    return run


def test_another_user_than_root_logs_in_and_becomes_root_as_on_the_deployed_system(generated: Any) -> None:
    told = generated(ssh={"user": "deploy", "port": 2022})
    assert told["users"]["deploy"] == {"extraGroups": ["wheel"], "isNormalUser": True, "keys": [KEY]}
    assert told["users"]["root"]["keys"] == []
    assert told["sudo"] == {"users": ["deploy"], "command": "ALL", "options": ["NOPASSWD"]}
    assert (told["hostName"], told["ports"], told["loader"]) == ("web", [2022], ["grub"])
    assert told["useDHCP"] and told["addresses"] == {}


def test_root_logs_in_at_the_declared_address(generated: Any) -> None:
    told = generated(network=STATIC, efi={"storage": "local-lvm"})
    assert told["users"]["root"]["keys"] == [KEY] and "deploy" not in told["users"]
    assert (told["addresses"], told["nameservers"]) == ({"00-proxmox-net0": ["10.0.0.2/24"]}, ["10.0.0.53"])
    assert not told["useDHCP"] and told["loader"] == ["systemd-boot"]
