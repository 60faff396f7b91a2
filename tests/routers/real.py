"""A real DHCP server in a lab's network, and the router `lan` that the command line knows it by."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.routers.test_servers import PATH, ROOT, kea_folder

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

VMBR5 = ("vmbr5", "10.77.5.0/24", "fd77:77:5::/64")  # where nobody else gives addresses


@contextmanager
def started(bed: "Bed", kind: str, folder: Path, *how: str) -> "Iterator[subprocess.Popen[str]]":
    """`how`: what the session is to do beside its server."""
    argv = bed.running.enter_argv([sys.executable, "-m", "tests.routers.session", kind, str(folder), *how])
    environment = {**os.environ, "PATH": PATH, "NIXOPS_PROXMOX_TEST_KEA": str(kea_folder())}
    process = subprocess.Popen(
        argv, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        profile = json.loads(process.stdout.readline())
        configuration = bed.home / "config" / "nixops-proxmox"
        configuration.mkdir(parents=True, exist_ok=True)
        file = configuration / "routers.toml"
        file.write_text("[lan]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in profile.items()))
        file.chmod(0o600)
        yield process
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


@contextmanager
def serving(bed: "Bed", kind: str, folder: Path) -> Iterator[None]:
    """To the machines on vmbr5."""
    with started(bed, kind, folder, "guests", *VMBR5):
        yield
