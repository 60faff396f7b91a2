"""Pure: VMs and containers that keep volumes. Each never starts, is protected, and has volumes in its slots."""

from collections.abc import Mapping
from urllib.parse import unquote

from nixops_proxmox.errors import NeedsPermission
from nixops_proxmox.model import Vm
from nixops_proxmox.pve.vm.container import mounts_of
from nixops_proxmox.pve.vm.identity import TAG, print_keeper
from nixops_proxmox.pve.wire.calls import Value
from nixops_proxmox.pve.wire.properties import drives_of, gib, print_drive, print_properties
from nixops_proxmox.spec import VolumeSpec
from nixops_proxmox.spec.volume import PLACE, is_volume_serial, volume_path
from nixops_proxmox.spelling import Verb, command

VMIDS = range(900000, 901000)  # of VMs and containers that keep volumes
SLOTS = tuple(f"scsi{number}" for number in range(31))  # all that PVE has
NOTES = """This VM keeps volumes for nixops-proxmox. It never starts.

Each disk is a volume that no machine has attached now; its serial tells which one. Please do not delete this VM, and
do not detach its disks.

- deployment: `{owner}`"""
MOUNTS = tuple(f"mp{number}" for number in range(256))  # all that PVE has, from 7.4 on
CONTAINERS_NOTES = """This container keeps volumes for nixops-proxmox. It never starts.

Each mount point is a volume that no machine has attached now; its path tells which one. Please do not delete this
container, and do not detach its mount points.

- deployment: `{owner}`
{keeper}"""
ROOM = 128 << 20  # bytes of the root of a container that keeps volumes: nothing is in it


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


def container_parker_params(uuid: str, vmid: int, owner: str, storage: str, template: str) -> dict[str, Value]:
    """POST …/lxc. `template`: of an empty tar file, so no system is in it that PVE could look at, or start."""
    return {
        "vmid": vmid,
        "ostemplate": template,
        "ostype": "unmanaged",
        "unprivileged": True,
        "hostname": f"nixops-volumes-{vmid}",
        "description": CONTAINERS_NOTES.format(owner=owner, keeper=print_keeper(uuid)),
        "tags": TAG,
        "rootfs": f"{storage}:{gib(ROOM)}",
        "memory": 16,
        "swap": 0,
        "cores": 1,
        "onboot": False,
        "protection": True,
    }


def is_parker(notes: str) -> bool:
    return notes.startswith((NOTES.partition("\n")[0], CONTAINERS_NOTES.partition("\n")[0]))


def volume_mount(serial: str, volume: str) -> str:
    """A mount point whose path tells the volume. Backups of the machine leave it out, as they do of VMs."""
    return print_properties({"volume": volume, "mp": volume_path(serial, container=True), "backup": "0"}, "volume")


def serial_at(mount: Mapping[str, str]) -> str:
    """The serial of the volume that is mounted there. Empty: it is a mount point of the container's own."""
    path = mount.get("mp", "")
    serial = path.removeprefix(PLACE)
    return serial if path.startswith(PLACE) and is_volume_serial(serial) else ""


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
    """The serials of the volumes that a VM or a container has attached, by slot."""
    drives = {slot: unquote(drive.get("serial", "")) for slot, drive in drives_of(config).items()}
    mounts = {slot: serial_at(mount) for slot, mount in mounts_of(config).items()}
    return {slot: serial for slot, serial in {**drives, **mounts}.items() if is_volume_serial(serial)}


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
