"""Pure: VMs that keep volumes. Each never starts, is protected, and holds a volume in each of its SCSI slots."""

from collections.abc import Mapping
from urllib.parse import unquote

from nixops_proxmox.errors import NeedsPermission
from nixops_proxmox.model import Vm
from nixops_proxmox.pve.vm.identity import TAG
from nixops_proxmox.pve.wire.calls import Value
from nixops_proxmox.pve.wire.properties import drives_of, print_drive
from nixops_proxmox.spec import VolumeSpec
from nixops_proxmox.spec.volume import is_volume_serial
from nixops_proxmox.spelling import Verb, command

VMIDS = range(900000, 901000)  # of VMs that keep volumes
SLOTS = tuple(f"scsi{number}" for number in range(31))  # all that PVE has
NOTES = """This VM keeps volumes for nixops-proxmox. It never starts.

Each disk is a volume that no machine has attached now; its serial tells which one. Please do not delete this VM, and
do not detach its disks.

- deployment: `{owner}`"""


def parker_params(uuid: str, vmid: int, owner: str) -> dict[str, Value]:
    """POST …/qemu. `owner`: the deployment."""
    return {
        "vmid": vmid,
        "name": f"nixops-volumes-{vmid}",
        "description": NOTES.format(owner=owner),
        "tags": TAG,
        "smbios1": f"uuid={uuid}",
        "memory": 16,
        "cores": 1,
        "ostype": "l26",
        "scsihw": "virtio-scsi-single",
        "onboot": False,
        "protection": True,
    }


def is_parker(notes: str) -> bool:
    return notes.startswith(NOTES.partition("\n")[0])


def volume_drive(spec: VolumeSpec, serial: str, file: str) -> str:
    """A drive with the volume's serial. Backups of the machine leave it out: a restore would make a second one."""
    return print_drive({"file": file, "backup": "0", **options_of(spec), "serial": serial})


def options_of(spec: VolumeSpec) -> Mapping[str, str]:
    """What the description says of a volume beside its place and size."""
    found = {}
    if spec.discard is not None:
        found["discard"] = "on" if spec.discard else "ignore"
    if spec.ssd is not None:
        found["ssd"] = "1" if spec.ssd else "0"
    return found


def volumes_in(config: Mapping[str, str]) -> dict[str, str]:
    """The serials of the volumes that a VM has attached, by slot."""
    drives = {slot: unquote(drive.get("serial", "")) for slot, drive in drives_of(config).items()}
    return {slot: serial for slot, serial in drives.items() if is_volume_serial(serial)}


def serials_in(vm: Vm) -> frozenset[str]:
    """The serials of the volumes that the VM has, or has until its next start."""
    return frozenset({*volumes_in(vm.config).values(), *volumes_in(vm.active).values()})


def refuse_to_lose_volumes(vm: Vm, end: str) -> None:
    """Refuse to destroy or overwrite a VM that has volumes, in every verb. `end`: which of the two."""
    found = {**volumes_in(vm.active), **volumes_in(vm.config)}
    if found:
        told = ", ".join(f"{serial} in {slot}" for slot, serial in sorted(found.items()))
        raise NeedsPermission(
            f"VM {vm.vmid} on {vm.node} cannot be {end}: it has volumes that outlive it ({told})",
            hint=f"{command(Verb.VOLUME_LIST)} shows them, and {command(Verb.VOLUME_DETACH, 'NAME')} parks one",
        )
