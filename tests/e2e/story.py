"""`scripts/demo STORY`, run as people run it, and what it must say, in this order."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pace import patience

DEMO = Path(__file__).parents[2] / "scripts" / "demo.py"
PROGRAMS = {
    "forge": ("git", "curl", "apt-get", "dpkg-deb"),
    "laboratory": ("curl", "apt-get", "dpkg-deb"),
}
PROMISES = {
    "forge": (
        "Say hello: passed",  # pushed over HTTP, through the proxy
        "Break it: failed",  # pushed over SSH
        "the database does not answer",  # while its machine is gone
        "Repair it: passed",  # when it is back, with its volume
        "volume db-data: deleted, with its data",
    ),
    "laboratory": (
        "by way of 10.77.5.254, of example.lab",  # an address by DHCP
        "Prometheus reaches all of them",
        "via 10.77.0.254 dev eth0",  # the way to the service
        "desk: silent",  # when the node of that router has no power
        "The service answered again after",
        "HA has started router1",
        "Prometheus reaches all of them",  # where HA put them
    ),
}


def run_story(story: str, guests: str, folder: Path, seconds: float) -> None:
    absent = [name for name in PROGRAMS[story] if shutil.which(name) is None]
    if absent:
        pytest.skip(f"not installed: {' '.join(absent)}")
    argv = [sys.executable, str(DEMO), story, f"--{guests}", "--timeline", str(folder / "timeline.svg")]
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=patience(seconds)
    )
    if done.returncode != 0 and "deb.debian.org" in done.stdout and os.environ.get("CI") != "true":
        pytest.skip(f"Debian's packages cannot be had: {done.stdout}")
    assert done.returncode == 0, done.stdout
    place = 0
    for promise in PROMISES[story]:
        place = done.stdout.index(promise, place) + len(promise)
