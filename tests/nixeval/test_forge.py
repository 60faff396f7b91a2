"""`examples/forge`: six machines with NixOS's modules for a forge, their secrets, volumes, backups and firewalls."""

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

EXAMPLE = Path(__file__).parents[2] / "examples" / "forge" / "network.nix"
MACHINES = {"web", "git", "ci", "mail", "db", "cache"}


@pytest.mark.parametrize("which", TREES)
def test_a_forge_has_its_data_on_volumes_its_secrets_in_memory_and_a_wall_around_each_machine(
    nix: Nix, nix_run: ProcessRunner, which: str
) -> None:
    tree = nixos_tree(which)
    if which == "nixos" and "psqlSchema" not in (tree / "default.nix").read_text() and not (tree / "pkgs").exists():
        pytest.skip("this tree's packages are stubs, and its PostgreSQL does not say psqlSchema")
    search = (f"nixpkgs={tree}", f"nixpkgs-lib={nixpkgs_lib()}")
    source = NetworkSource(file=EXAMPLE, search_path=search, resource_options=("volumes", "ipSets", "backupJobs"))
    found = evaluate_network(nix, nix_dir() / "eval.nix", source, run=nix_run, check=partial(parse_network, "forge"))
    network = parse_network("forge", found.data)
    assert network.warnings == () and set(found.toplevels) == MACHINES, found
    machines = {machine.name: machine for machine in network.machines}
    assert {name: machine.volumes for name, machine in machines.items() if machine.volumes} == {
        "git": ("repositories",), "db": ("database",)
    }  # fmt: skip
    assert {volume.name for volume in network.volumes if volume.protect} == {"repositories", "database"}
    assert {name: {key.name for key in keys} for name, keys in network.sent_keys.items() if keys} == {
        "web": {"certificate", "certificate-key"},
        "git": {"db", "cache-url"},
        "ci": {"runner-token"},
        "db": {"db"},
        "cache": {"cache"},
    }
    described = {(one.kind, one.name) for one in network.resources}
    assert {("firewall", name) for name in MACHINES} | {("backup-job", "forge"), ("ip-set", "admins")} == described
