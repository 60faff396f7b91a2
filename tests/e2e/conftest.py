"""One lab for each worker; every test starts with an empty one."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.nixes import find_obstacle

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

ONE = """\
# One small machine; VERSION changes its system and nothing else, MEMORY its hardware.
let
  from = name: default: let value = builtins.getEnv name; in if value == "" then default else value;
in
{
  web = {
    deployment.proxmox = {
      disks = [ { storage = "local-lvm"; size = "1G"; } ];
      install.iso = "local:iso/lab-installer.iso";
      memory = builtins.fromJSON (from "MEMORY" "512");
      network = [ { bridge = "vmbr0"; } ];
    };
    toplevel = import DEMO/system.nix {
      name = "web";
      hosts = { };
      service = { port = 80; handler = "echo version ${from "VERSION" "1"}"; };
    };
  };
}
"""


@pytest.fixture(scope="session")
def lab_bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Bed"]:
    from tests.e2e.bed import DEMO, start_bed

    if obstacle := find_obstacle():
        pytest.skip(obstacle)
    home = tmp_path_factory.mktemp("bed")
    network = home / "shop" / "network.nix"
    network.parent.mkdir()
    network.write_text(ONE.replace("DEMO", str(DEMO)))
    with start_bed(home / "user", network) as bed:
        yield bed


@pytest.fixture
def bed(lab_bed: "Bed") -> "Bed":
    """The lab, emptied, and a user without any state."""
    lab_bed.reset()
    state = lab_bed.home / "state" / "nixops-proxmox"
    for left in (*state.glob("state.sqlite*"), state / "deployments"):
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)
    return lab_bed


@pytest.fixture
def network(lab_bed: "Bed") -> Path:
    return lab_bed.network
