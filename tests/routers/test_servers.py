"""Drivers against servers that nobody here wrote, and a client that gets what was reserved."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pace import patience

ROOT = Path(__file__).resolve().parents[2]
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
THEIRS = "theirs de:ad:be:ef:00:99 10.9.0.99 fd09::63"

pytestmark = pytest.mark.netns


def find_obstacle(kind: str) -> str:
    if os.geteuid() != 0:
        return "needs root, for a network namespace"
    programs = ["busybox", "unshare", "nsenter", "ip", *(["dnsmasq"] if kind == "dnsmasq" else [])]
    lacking = [name for name in programs if shutil.which(name, path=PATH) is None]
    if kind == "kea" and not (kea_folder() / "usr/sbin/kea-dhcp6").exists():
        lacking.append("kea (scripts/test unpacks it)")
    return f"not installed: {', '.join(lacking)}" if lacking else ""


def kea_folder() -> Path:
    return Path(os.environ.get("NIXOPS_PROXMOX_TEST_KEA") or ROOT / ".cache" / "kea")


@pytest.mark.parametrize("kind", ["dnsmasq", "kea"])
def test_a_client_gets_what_was_reserved_and_entries_of_others_stay(kind: str, tmp_path: Path) -> None:
    if obstacle := find_obstacle(kind):
        pytest.skip(f"a real {kind} is not asked: {obstacle}")
    argv = ["unshare", "--net", sys.executable, "-m", "tests.routers.session", kind, str(tmp_path)]
    environment = {**os.environ, "PATH": PATH, "NIXOPS_PROXMOX_TEST_KEA": str(kea_folder())}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=patience(120))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["before"] == found["after"] == [THEIRS]
    assert found["put"] == [
        f": {THEIRS}",
        "campus/db.net0: db de:ad:be:ef:00:02 10.9.0.24",
        "campus/web.net0: web de:ad:be:ef:00:01 10.9.0.23 fd09::23",
    ]
    assert (found["given"], found["given then"]) == ("10.9.0.23 web", "10.9.0.33 www")
    assert found["given six"] == "fd09::23"
    if kind == "kea":
        assert "has no subnet for 10.8.0.1 its subnets: 10.9.0.0/24" in found["outside"]
