"""`scripts/demo forge`, run as people run it, and what it must say, in this order."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pace import patience

DEMO = Path(__file__).parents[2] / "scripts" / "demo.py"
PROMISES = (
    "Say hello: passed",  # pushed over HTTP, through the proxy
    "Break it: failed",  # pushed over SSH
    "the database does not answer",  # while its machine is gone
    "Repair it: passed",  # when it is back, with its volume
)


def run_forge(guests: str, folder: Path, seconds: float) -> None:
    absent = [name for name in ("git", "curl", "apt-get", "dpkg-deb") if shutil.which(name) is None]
    if absent:
        pytest.skip(f"not installed: {' '.join(absent)}")
    argv = [sys.executable, str(DEMO), "forge", f"--{guests}", "--timeline", str(folder / "timeline.svg")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=patience(seconds))
    if done.returncode != 0 and "deb.debian.org" in done.stderr and os.environ.get("CI") != "true":
        pytest.skip(f"Debian's packages cannot be had: {done.stderr}")
    assert done.returncode == 0, f"{done.stderr}{done.stdout}"
    places = [done.stderr.index(promise) for promise in PROMISES]
    assert places == sorted(places), done.stderr
    assert "volume db-data: deleted, with its data" in done.stderr + done.stdout
