"""What is built for guests of Debian's packages, by root."""

import os
import shutil
import subprocess

from tests.pace import patience

SECONDS = 2400.0  # for one program: a kernel module is compiled in one of them


def find_obstacle(*tools: str) -> str:
    """Why it cannot be done here, or nothing."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} is not installed (Debian: mmdebstrap, dosfstools, mtools, fdisk)"
    return "" if os.geteuid() == 0 else "only root can unpack a system with its owners"


def run(*argv: str, given: bytes = b"") -> bytes:
    """What it prints. AssertionError with all that it said, if it failed."""
    done = subprocess.run(argv, input=given, capture_output=True, timeout=patience(SECONDS), check=False)
    assert done.returncode == 0, f"{argv[0]}: {done.returncode}\n{done.stdout!r}\n{done.stderr!r}"
    return done.stdout
