"""Which disk of a machine may become a volume."""

from nixops_proxmox.errors import SpecError
from nixops_proxmox.model import Machine, Spot
from nixops_proxmox.pve.vm.parking import SLOTS
from nixops_proxmox.pve.wire.properties import print_size
from nixops_proxmox.spec import MachineSpec, VolumeSpec


def refuse_to_take(volume: VolumeSpec, slot: str, disk: Spot | None, machine: Machine, spec: MachineSpec) -> None:
    """SpecError for a disk that is none, that the description has otherwise, or that no volume can be."""
    who = f"{machine.name}: {slot}"
    if disk is None:
        raise SpecError(f"{who}: its VM has no disk there")
    if slot not in SLOTS:
        raise SpecError(f"{who}: a volume is a SCSI disk", hint="attach the disk to a scsi slot first")
    if slot in {one.slot for one in spec.disks}:
        raise SpecError(
            f"{who}: the description still has it as a disk of the machine",
            hint=f"remove it from deployment.proxmox.disks, and name {volume.name} in deployment.proxmox.volumes",
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
