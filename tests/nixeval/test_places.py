"""Where an option is said: with a real Nix, of attribute sets, of modules, and of what somebody may print instead."""

from pathlib import Path

import pytest

from nixops_proxmox.errors import EvaluationFailed
from nixops_proxmox.nixeval.evaluate import NetworkSource
from nixops_proxmox.nixeval.places import find_places, parse_places
from nixops_proxmox.nixeval.runner import ProcessRunner
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.paths import nix_dir
from tests.nixes import TREES, nixos_tree, nixpkgs_lib

PLAIN = """\
let
  more = { numa = true; };
in
{
  web = {
    deployment.proxmox = {
      memory = 512;
      cpu = { cores = 2; } // more;
    };
    toplevel = null;
  };
}
"""
MODULES = """\
{
  defaults.deployment.proxmox.cpu.sockets = 1;
  web = { config, ... }: {
    deployment.proxmox = {
      disks.scsi0 = { storage = "local-lvm"; size = "16G"; };
      memory = 512;
    };
  };
  db = {
    deployment.proxmox.memory =
      1024;
  };
}
"""


@pytest.mark.nix
def test_a_line_is_told_of_what_an_attribute_set_says(nix: Nix, nix_run: ProcessRunner, tmp_path: Path) -> None:
    file = tmp_path / "network.nix"
    file.write_text(PLAIN)
    found = find_places(nix, nix_dir() / "eval.nix", NetworkSource(file=file), "web", run=nix_run)
    assert found == {
        "memory": "network.nix:7",
        "cpu": "network.nix:8",
        "cpu.cores": "network.nix:8",
        "cpu.numa": "network.nix:2",
    }
    with pytest.raises(EvaluationFailed, match="did not tell"):
        find_places(nix, nix_dir() / "eval.nix", NetworkSource(file=file), "nobody", run=nix_run)


@pytest.mark.nix
def test_of_a_module_that_is_a_function_the_file_is_told(nix: Nix, nix_run: ProcessRunner, tmp_path: Path) -> None:
    file = tmp_path / "network.nix"
    file.write_text(MODULES)
    search = (f"nixpkgs={nixos_tree(TREES[0])}", f"nixpkgs-lib={nixpkgs_lib()}")
    source = NetworkSource(file=file, search_path=search)
    web, db = (find_places(nix, nix_dir() / "eval.nix", source, name, run=nix_run) for name in ("web", "db"))
    assert (web["memory"], web["cpu.sockets"]) == ("network.nix", "network.nix:2")
    assert db["memory"] == "network.nix:10"
    assert "balloon" not in web, "nothing says it"


def test_what_nix_prints_is_looked_at() -> None:
    store = "/nix/store/00000000000000000000000000000000-source/machines/web.nix:3"
    told = parse_places(f'{{"memory": "{store}", "a b": "x:1", "cpu": 7, "tags": "/w/net.nix:4"}}', Path("/w"))
    assert told == {"memory": "machines/web.nix:3", "tags": "net.nix:4"}
    for text in ("", "[]", "null"):
        with pytest.raises(EvaluationFailed):
            parse_places(text, None)
