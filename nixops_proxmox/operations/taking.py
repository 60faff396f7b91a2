"""Which disk of a machine may become a volume."""

from nixops_proxmox.errors import SpecError
from nixops_proxmox.model import Machine, Spot
from nixops_proxmox.pve.vm.parking import MOUNTS, SLOTS
from nixops_proxmox.pve.wire.properties import print_size
from nixops_proxmox.spec import MachineSpec, VolumeSpec


def refuse_to_take(volume: VolumeSpec, slot: str, disk: Spot | None, machine: Machine, spec: MachineSpec) -> None:
    """SpecError for a disk that is none, that the description has otherwise, or that no volume can be."""
    who = f"{machine.name}: {slot}"
    if disk is None:
        raise SpecError(f"{who}: its VM has no disk there")
    if slot not in (MOUNTS if spec.is_container else SLOTS):
        raise SpecError(
            f"{who}: a volume is a {'mount point' if spec.is_container else 'SCSI disk'}",
            hint="" if spec.is_container else "attach the disk to a scsi slot first",
        )
    mounts = spec.container.mounts if spec.container is not None else ()
    if slot in {one.slot for one in spec.disks} | {one.slot for one in mounts}:
        raise SpecError(
            f"{who}: the description still has it as one of the machine's own",
            hint=f"remove it from deployment.proxmox.{'container.mounts' if spec.is_container else 'disks'}, and name"
            f" {volume.name} in deployment.proxmox.volumes",
        )
    if volume.name not in spec.volumes:
        raise SpecError(
            f"{who}: {machine.name} does not describe the volume {volume.name}",
            hint=f'set deployment.proxmox.volumes = [ "{volume.name}" ]',
        )
    storage = disk.volume.partition(":")[0]
    if storage != volume.storage:
        raise SpecError(f"{who}: it is on the storage {storage}, and the volume is described on {volume.storage}")
    if disk.size > volume.size:
        raise SpecError(
            f"{who}: it has {print_size(disk.size)}, and the volume is described with {print_size(volume.size)}",
            hint="a volume never shrinks: describe it as large as the disk",
        )
