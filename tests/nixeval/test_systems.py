"""Whole NixOS systems by a real Nix: the stand-in's, and those of NixOS's own modules where NIXOPS_PROXMOX_NIXPKGS has
them: a flake's nixosConfigurations, and what Nix says of a network."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from nixops_proxmox.errors import EvaluationFailed, SpecError
from nixops_proxmox.nixeval.evaluate import Evaluated, NetworkSource, evaluate_network
from nixops_proxmox.nixeval.runner import ProcessRunner
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.paths import nix_dir
from nixops_proxmox.spec import parse_network
from tests.nixes import TREES, WHOLE, nixos_tree, nixpkgs_lib
from tests.pace import patience

pytestmark = pytest.mark.nix

HARDWARE = """
  system.stateVersion = "24.05";
  deployment.proxmox = {
    disks.scsi0 = { storage = "local-lvm"; size = "16G"; };
    network.net0.bridge = "vmbr0";
  };
"""
FLAKE = """{
  outputs = _:
    let
      nixosSystem = modules: import (TREE + "/nixos/lib/eval-config.nix") { inherit modules; system = "x86_64-linux"; };
      web = {
        imports = [ OURS ];
        networking.hostName = "web";
        HARDWARE
      };
    in {
      nixosConfigurations.web = nixosSystem [ web ];
      nixosConfigurations.laptop = nixosSystem [ { networking.hostName = throw "the laptop is not looked at"; } ];
    };
}
"""
KEY = "ssh-ed25519 AAAA ours"

Ask = Callable[..., Evaluated]


@pytest.fixture(params=TREES)
def tree(request: pytest.FixtureRequest) -> Path:
    return nixos_tree(request.param)


@pytest.fixture
def ask(nix: Nix, nix_run: ProcessRunner, tree: Path) -> Ask:
    """Evaluates as the command line does."""

    def evaluate(*, file: Path | None = None, flake: str = "", keys: tuple[str, ...] = ()) -> Evaluated:
        search = (f"nixpkgs={tree}", f"nixpkgs-lib={nixpkgs_lib()}")
        source = NetworkSource(file=file, flake=flake, search_path=search, client_keys=keys)
        check = partial(parse_network, "shop")
        return evaluate_network(nix, nix_dir() / "eval.nix", source, run=nix_run, check=check)

    return evaluate


@pytest.fixture
def network(ask: Ask, tmp_path: Path) -> Callable[[str], Evaluated]:
    def run(text: str) -> Evaluated:
        file = tmp_path / "network.nix"
        file.write_text(text.replace("HARDWARE", HARDWARE))
        return ask(file=file)

    return run


def test_a_flakes_systems_are_those_that_others_build_with_our_key_beside(
    ask: Ask, nix: Nix, nix_run: ProcessRunner, tree: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    text = FLAKE.replace("HARDWARE", HARDWARE).replace("TREE", str(tree))
    (folder / "flake.nix").write_text(text.replace("OURS", str(nix_dir() / "proxmox.nix")))
    ours = ask(flake=str(folder), keys=(KEY,))
    assert set(ours.toplevels) == {"web"}, "the machines that import our module"

    toplevel = (
        f"((import {folder}/flake.nix).outputs {{ }}).nixosConfigurations.web.config.system.build.toplevel.drvPath"
    )
    argv = nix.argv("nix-instantiate", "--eval", "--json", "--read-write-mode", "-E", toplevel)
    theirs = json.loads(nix_run([*argv, "-I", f"nixpkgs-lib={nixpkgs_lib()}"], timeout=patience(WHOLE)).stdout)
    assert ask(flake=f"{folder}#web").toplevels["web"].drv_path == theirs, "nixos-rebuild and others build the same"
    assert ours.toplevels["web"].drv_path != theirs


def test_a_wrong_type_is_told_before_any_system_is_looked_at(network: Callable[[str], Evaluated]) -> None:
    text = """{
      app = { lib, ... }: { HARDWARE system.build.toplevel = lib.mkForce (throw "a system"); };
      web = { HARDWARE deployment.proxmox.memory = [ ]; };
    }"""
    with pytest.raises(EvaluationFailed) as failed:
        network(text)
    said = str(failed.value)
    assert "network.nix, machine web: the evaluation failed" in said
    assert "`deployment.proxmox.memory'" in said
    assert "a system" not in said and "eval.nix" not in said


def test_so_is_what_no_type_can_say(network: Callable[[str], Evaluated]) -> None:
    text = """{
      app = { lib, ... }: { HARDWARE system.build.toplevel = lib.mkForce (throw "a system"); };
      web = { HARDWARE deployment.proxmox.memory = "much"; };
    }"""
    with pytest.raises(SpecError, match=r"^web\.deployment\.proxmox\.memory: "):
        network(text)


def test_what_nixos_refuses_and_warns_of_is_told_with_the_machine(network: Callable[[str], Evaluated]) -> None:
    text = '{ web = { HARDWARE warnings = [ "an old option" ]; assertions = [ REFUSED ]; }; }'
    assert network(text.replace("REFUSED", "")).warnings == ("an old option",)
    refused = '{ assertion = false; message = "set another option"; }'
    with pytest.raises(EvaluationFailed, match=r"machine web: .*(?s:.*)Failed assertions:\n\s*- set another option"):
        network(text.replace("REFUSED", refused))
