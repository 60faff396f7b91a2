"""A volume: a disk that outlives the machines which have it attached."""

import hashlib
from typing import Annotated

from pydantic import Field

from nixops_proxmox.spec import values as v
from nixops_proxmox.spec.frozen import Frozen
from nixops_proxmox.spec.machine_kind import MachineKind

SERIALS = "npv-"  # how the serials of volumes begin, and those of no other disk of ours
PLACE = "/mnt/nixops-volumes/"  # where containers have their volumes, each in a folder called by its serial


class VolumeSpec(Frozen):
    """One of `resources.volumes`; the field names are the option names, in snake case."""

    name: v.DnsName
    kind: MachineKind = MachineKind.VM  # of the machines that can have it: PVE never makes one of the other
    profile: v.ProfileName = "default"  # the hypervisor's profile
    storage: v.Storage
    size: Annotated[int, Field(ge=1 << 20, le=1 << 50)]  # bytes
    node: v.NodeName | None = None  # where it is made; None: where the machine is that has it attached
    protect: bool = True  # only a description that says otherwise lets it be deleted
    discard: bool | None = None
    ssd: bool | None = None

    @property
    def is_container(self) -> bool:
        return self.kind is MachineKind.CONTAINER


def serial_of(deployment: str, volume: str) -> str:
    """What tells the volume, wherever it is; nix/volume-paths.nix derives the same."""
    return SERIALS + hashlib.sha256(f"{deployment}/{volume}".encode()).hexdigest()[:16]


def volume_path(serial: str, *, container: bool = False) -> str:
    """Where a guest finds it: udev's name of a SCSI disk of QEMU, and in a container the folder where PVE mounts it;
    nix/volume-paths.nix says the same."""
    return f"{PLACE}{serial}" if container else f"/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_{serial}"


def is_volume_serial(serial: str) -> bool:
    return serial.startswith(SERIALS)
