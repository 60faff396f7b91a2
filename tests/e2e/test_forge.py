"""`scripts/demo forge` on simulated guests: real nginx, git, Redis and PostgreSQL, on six machines."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nixes import find_obstacle
from tests.pace import patience

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

DEMO = Path(__file__).parents[2] / "scripts" / "demo.py"
SECONDS = 280.0
PROMISES = (
    "Say hello: passed",  # pushed over HTTP, through the proxy
    "Break it: failed",  # pushed over SSH
    "the database does not answer",  # while its machine is gone
    "Repair it: passed",  # when it is back, with its volume
)


def test_the_forge_keeps_its_data_while_its_machines_come_and_go(tmp_path: Path) -> None:
    obstacle = find_obstacle()
    absent = [name for name in ("git", "curl", "apt-get", "dpkg-deb", "setpriv") if shutil.which(name) is None]
    if obstacle or absent or os.geteuid() != 0:
        pytest.skip(
            obstacle or (f"not installed: {' '.join(absent)}" if absent else "PostgreSQL wants a user beside root")
        )
    argv = [sys.executable, str(DEMO), "forge", "--simulated", "--timeline", str(tmp_path / "timeline.svg")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=patience(SECONDS))
    if "deb.debian.org" in done.stderr and os.environ.get("CI") != "true":
        pytest.skip(f"Debian's packages cannot be had: {done.stderr}")
    assert done.returncode == 0, done.stderr
    places = [done.stderr.index(promise) for promise in PROMISES]
    assert places == sorted(places), done.stderr
    assert "volume db-data: deleted, with its data" in done.stderr + done.stdout
