"""The template of containers with NixOS's own modules: what is in it, and that NixOS has nothing against it."""

import pytest

from tests.nix.conftest import ROOT, Evaluate
from tests.nixes import WHOLE, nixos_tree

pytestmark = [pytest.mark.nix, pytest.mark.timeout(WHOLE)]

ASKED = f"""
let
  evaluated = import <nixpkgs/nixos/lib/eval-config.nix> {{
    system = "x86_64-linux";
    modules = [ {ROOT}/nix/container-template.nix {{ system.stateVersion = "24.05"; }} ];
  }};
  inherit (evaluated) config;
in
{{
  container = config.boot.isContainer;
  name = config.networking.hostName;
  networkd = config.systemd.network.enable;
  sshd = config.services.openssh.enable;
  passwords = config.services.openssh.settings.PasswordAuthentication;
  root = config.services.openssh.settings.PermitRootLogin;
  hostKeys = map (key: key.path) config.services.openssh.hostKeys;
  debug = config.systemd.units."sys-kernel-debug.mount".enable;
  boots = config.boot.loader.grub.enable || config.boot.loader.systemd-boot.enable;
  failed = map (one: one.message) (builtins.filter (one: !one.assertion) config.assertions);
}}
"""


def test_nixos_makes_a_container_of_it_that_root_enters_by_key_alone(evaluate: Evaluate) -> None:
    tree = nixos_tree("nixos")
    assert evaluate(ASKED, search=(f"nixpkgs={tree}",)) == {
        "container": True,
        "name": "",
        "networkd": True,
        "sshd": True,
        "passwords": False,
        "root": "prohibit-password",
        "hostKeys": ["/etc/ssh/ssh_host_ed25519_key"],
        "debug": False,
        "boots": False,
        "failed": [],
    }
