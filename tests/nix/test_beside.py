"""Beside people's own configurations a machine keeps its declared addresses and lets us in, or is refused with the
option to change."""

from typing import Any

import pytest

from tests.nix.conftest import ROOT, Evaluate, Nixos
from tests.nixes import NIXPKGS, SMALL_LIB, nixpkgs_lib

pytestmark = pytest.mark.nix

KEY = ["ssh-ed25519 AAAA me"]
NO_SUDO = "deploy, whom deployment.proxmox.ssh.user names, may not use sudo without a password"
REFUSED = {
    "homeKeysOnly": ("services.openssh.authorizedKeysFiles has no",),
    "noRootLogin": ('services.openssh.settings.PermitRootLogin = "no" keeps out root',),
    "allowGroups": ("services.openssh.settings.AllowGroups keeps out root",),
    "otherPort": ("deployment.proxmox.ssh.port is 22, and sshd listens on 2022 (services.openssh.ports)",),
    "closedFirewall": ("networking.firewall is closed for port 22",),
    "forgets": ('fileSystems."/" is a tmpfs, so the machine\'s host key',),
    "keyThatForgets": ("the machine's host key (/var/ssh/key)",),
    "otherKey": ("services.openssh.hostKeys has no /etc/ssh/ssh_host_ed25519_key",),
    "forgetsAll": ('fileSystems."/nix" is missing',),
    "deployNoSudo": ("security.sudo.enable is off, and deploy",),
    "deployPassword": (NO_SUDO,),
    "deployNoRule": (NO_SUDO,),
    "deployLaterPassword": (NO_SUDO,),
    "deployNotInWheel": (NO_SUDO,),
}
STATIC = {"generatedStatic", "scripted", "ownNetworkd", "useNetworkd", "networkManager"}


@pytest.fixture(scope="module")
def told(evaluate: Evaluate, nixos: Nixos) -> dict[str, Any]:
    machines: dict[str, Any] = evaluate(
        ROOT / "tests" / "nix" / "beside.nix", {"nixpkgs": str(nixos.tree)}, search=nixos.search
    )
    return machines


def test_it_evaluates_or_is_refused_with_the_option_to_change(told: dict[str, Any]) -> None:
    found = {name: machine["failed"] for name, machine in told.items()}
    for name, messages in found.items():
        wanted = REFUSED.get(name, ())
        assert len(messages) == len(wanted), (name, messages)
        assert all(part in message for part, message in zip(wanted, messages, strict=True)), (name, messages)
        assert told[name]["evaluates"] == (not wanted), name


def test_it_lets_us_in(told: dict[str, Any]) -> None:
    for name, machine in told.items():
        user = "deploy" if name.startswith("deploy") else "root"
        assert machine["users"][user]["keys"] == KEY, name
        if name.startswith("deploy"):
            assert machine["users"]["root"]["keys"] == [], name


def test_declared_addresses_stay_and_come_before_the_users_own_units(told: dict[str, Any]) -> None:
    for name in STATIC:
        machine = told[name]
        unit = machine["networks"]["00-proxmox-net0"]
        assert unit["matchConfig"] == {"MACAddress": "bc:24:11:00:00:01"}, name
        assert (unit["address"], unit["dns"]) == (["10.0.0.2/24"], ["10.0.0.53"]), name
        assert min(machine["networks"]) == "00-proxmox-net0", name
        assert machine["networkd"] and not machine["useDHCP"], name
        assert machine["nameservers"] == ["10.0.0.53"], name
    assert "mac:bc:24:11:00:00:01" in told["networkManager"]["unmanaged"]
    assert told["generated"]["useDHCP"], "what is not declared is left to the system"


def test_the_small_lib_says_what_that_of_nixpkgs_says(evaluate: Evaluate) -> None:
    if nixpkgs_lib() == SMALL_LIB:
        pytest.skip(f"there is no nixpkgs: set {NIXPKGS} to a checkout (its lib folder is enough)")
    stand_in = {"nixpkgs": str(ROOT / "tests" / "nixops" / "nixpkgs")}
    file = ROOT / "tests" / "nix" / "beside.nix"
    small, real = (evaluate(file, stand_in, search=[f"nixpkgs-lib={lib}"]) for lib in (SMALL_LIB, nixpkgs_lib()))
    assert small == real
