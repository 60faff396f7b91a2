"""Where the network of a demo finds its daemons."""

import os
from pathlib import Path

from debian_parts import Parts, missing_libraries, prepare
from stage import DemoFailed, say

from nixops_proxmox.lab.image import ImageFailed


def get_daemons(parts: Parts, guests: str, *, as_root: str = "") -> Path:
    """The folder of the parts; DemoFailed where they cannot be had, or cannot run. `as_root`: why it must
    be root's lab, if it must."""
    try:
        folder = prepare(parts, say)
        missing = missing_libraries(folder) if guests == "simulated" else []
    except ImageFailed as error:
        raise DemoFailed(str(error)) from error
    if missing:
        raise DemoFailed(
            f"simulated guests have the libraries of this machine, and it has no {', '.join(missing)}: "
            "use real guests (--qemu), or a machine with Debian 12"
        )
    if guests == "simulated" and as_root and os.geteuid() != 0:
        raise DemoFailed(f"{as_root}: use real guests (--qemu)")
    return folder
