"""One definition, three doors: NixOps 2 makes the same VM of it as the command line (NixOps 4: tests/nixops4)."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.bed import Bed
from tests.nixops.bed import network
from tests.nixops.conftest import MakeNixops
from tests.nixops4.conftest import SYSTEM
from tests.nixops4.test_doors import NETWORK, comparable
from tests.pace import patience

pytestmark = [pytest.mark.nixops, pytest.mark.nix, pytest.mark.netns, pytest.mark.slow]


def test_nixops_makes_the_same_vm_as_the_command_line(lab: Bed, make_nixops: MakeNixops, tmp_path: Path) -> None:
    definition = tmp_path / "shop" / "network.nix"
    definition.parent.mkdir()
    definition.write_text(NETWORK.replace("SYSTEM", str(SYSTEM)))

    lab.reset()
    command = [sys.executable, "-m", "nixops_proxmox", "-f", str(definition), "deploy"]
    done = subprocess.run(command, env=lab.environment, capture_output=True, text=True, timeout=patience(120))
    assert done.returncode == 0, done.stderr
    by_command = comparable(lab)

    lab.reset()
    machine = f"""
    {{ ... }}: {{
      deployment.targetEnv = "proxmox";
      deployment.proxmox = (import {definition}).web.deployment.proxmox;
    }};
    """
    make_nixops(network({"web": machine}), deployment="shop").deploy("--create-only")
    assert comparable(lab) == by_command
