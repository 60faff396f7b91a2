"""OpenSSH and Ansible themselves, with what is exported for them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.pace import patience

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix]


def run_there(bed: "Bed", argv: list[str], **extra: str) -> "subprocess.CompletedProcess[str]":
    """A program of somebody else's, in the lab's network."""
    return subprocess.run(
        bed.running.enter_argv(argv),
        env={**bed.environment, **extra},
        capture_output=True,
        text=True,
        timeout=patience(120),
        check=False,
    )


def test_openssh_logs_in_and_ansible_pings_by_what_is_exported(bed: "Bed", tmp_path: Path) -> None:
    bed.run("deploy")
    # OpenSSH, with a configuration that includes ours and loosens everything after it.
    folder = tmp_path / "config.d"
    folder.mkdir()
    bed.run("export", "ssh-config", "--out", str(folder / "shop"))
    (tmp_path / "config").write_text(f"Include {folder}/*\nHost *\n  StrictHostKeyChecking no\n")
    ssh = ["ssh", "-F", str(tmp_path / "config"), "-o", "BatchMode=yes"]
    done = run_there(bed, [*ssh, "web", "hostname"])
    assert (done.returncode, done.stdout) == (0, "web\n"), done.stderr
    pinned = folder / ".shop-known_hosts"
    key = pinned.read_text()
    pinned.write_text(key.replace("AAAAI", "AAAAIA", 1))
    refused = run_there(bed, [*ssh, "web", "hostname"])
    assert refused.returncode == 255 and "Host key verification failed" in refused.stderr
    assert (folder / "shop").stat().st_mode & 0o777 == 0o600

    # Ansible, by a script and by a file.
    ansible = shutil.which("ansible", path=str(Path(sys.executable).parent))
    if ansible is None:
        pytest.skip("ansible is not installed: pip install '.[dev]'")
    script, static = tmp_path / "inventory", tmp_path / "inventory.yml"
    words = " ".join(bed.command("export", "ansible"))
    script.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    script.chmod(0o755)
    bed.run("export", "ansible", "--static", "--out", str(static))
    found: dict[str, Any] = json.loads(bed.run("export", "ansible").stdout)
    assert found["_meta"]["hostvars"]["web"] == json.loads(bed.run("export", "ansible", "--host", "web").stdout)
    for inventory, group in ((script, "node_pve1"), (static, "deployment_shop")):
        done = run_there(
            bed,
            [ansible, "-i", str(inventory), group, "-m", "ping", "-e", "ansible_python_interpreter=/usr/bin/python3"],
            ANSIBLE_HOME=str(tmp_path / "home"),
            ANSIBLE_INVENTORY_UNPARSED_FAILED="true",
            ANSIBLE_HOST_KEY_CHECKING="true",
            LC_ALL="C.UTF-8",
            PATH=os.environ["PATH"],
            PYTHONPATH=str(Path(__file__).parents[2]),
        )
        assert done.returncode == 0 and '"ping": "pong"' in done.stdout, done.stdout + done.stderr
    bed.run("destroy", "--yes")
    assert bed.run("export", "hosts").stdout.splitlines()[1:] == []
