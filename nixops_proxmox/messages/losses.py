"""What goes with a machine that is installed again."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nixops_proxmox.spec import MachineSpec


def makes_anew(spec: "MachineSpec") -> bool:
    """A copy of an image or template begins with a new VM."""
    return spec.install.source.value != "iso"


def what_is_lost(spec: "MachineSpec") -> str:
    lost = [f"{disk.slot} ({disk.size / 2**30:g} GiB)" for disk in spec.disks if not disk.keep]
    kept = [disk.slot for disk in spec.disks if disk.keep]
    more = f"; {', '.join(kept)} will be kept" if kept else ""
    return f"{spec.name}: what is on {', '.join(lost) or 'no disk'} will be lost{more}"
