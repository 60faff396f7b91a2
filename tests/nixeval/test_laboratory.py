"""`examples/laboratory`: what a cluster of three nodes runs with NixOS's modules, and what HA is told of it."""

import json
from functools import partial
from pathlib import Path

import pytest

from nixops_proxmox.nixeval.evaluate import NetworkSource, evaluate_network
from nixops_proxmox.nixeval.runner import ProcessRunner
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.paths import nix_dir
from nixops_proxmox.spec import parse_network
from tests.nixes import TREES, nixos_tree, nixpkgs_lib

pytestmark = pytest.mark.nix

EXAMPLE = Path(__file__).parents[2] / "examples" / "laboratory" / "network.nix"
KUBES = {"kube1", "kube2", "kube3"}
SERVICES = {"dns", "proxy", "metrics", "desk", *KUBES}


@pytest.mark.parametrize("which", TREES)
def test_a_laboratory_has_two_routers_apart_services_behind_them_and_ha_over_all(
    nix: Nix, nix_run: ProcessRunner, tmp_path: Path, which: str
) -> None:
    tree = nixos_tree(which)
    # Where packages are stubs, there is no whole desktop.
    absent = {"desk"} if which == "nixos" and not (tree / "pkgs").exists() else set()
    file = tmp_path / "network.nix"
    file.write_text(f"removeAttrs (import {EXAMPLE}) [ {' '.join(map(json.dumps, absent))} ]")
    search = (f"nixpkgs={tree}", f"nixpkgs-lib={nixpkgs_lib()}")
    source = NetworkSource(file=file, search_path=search)
    found = evaluate_network(nix, nix_dir() / "eval.nix", source, run=nix_run, check=partial(parse_network, "lab"))
    network = parse_network("lab", found.data)
    machines = {machine.name: machine for machine in network.machines}
    assert (
        network.warnings == () and set(found.toplevels) == machines.keys() == {"router1", "router2", *SERVICES} - absent
    )
    spread = {name: machine.placement.spread for name, machine in machines.items() if machine.placement.spread}
    assert spread == {"router1": "routers", "router2": "routers", **dict.fromkeys(KUBES, "kube")}
    assert {name for name, keys in network.sent_keys.items() if keys} == KUBES
    assert {one.name for one in network.resources if one.kind == "ha"} == machines.keys()
