"""Pure: what a description asks for, as the parameters of PVE's calls."""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote

from nixops_proxmox.errors import SpecError
from nixops_proxmox.pve.vm.identity import (
    TAG,
    Identity,
    notes_with_mark,
    notes_without_mark,
)
from nixops_proxmox.pve.wire.calls import Value
from nixops_proxmox.pve.wire.properties import (
    drives_of,
    gib,
    is_cdrom,
    parse_properties,
    print_drive,
    print_nic,
    print_properties,
)
from nixops_proxmox.spec import Disk, Efi, InstallSource, MachineSpec, Nic, Tpm
from nixops_proxmox.spec.images import as_imported
from nixops_proxmox.spec.serials import derived_serial, disk_serial

CDROM = "ide2"  # works with pc and q35, with SeaBIOS and OVMF
EMPTY_TRAY = "none,media=cdrom"
DEFAULT_CONTROLLER = "virtio-scsi-single"  # the only one where iothread has an effect
OURS = frozenset({"vmid", "smbios1", "name", "boot", "description", "tags", CDROM, "cdrom", "lock", "digest", "delete"})


def create_params(spec: MachineSpec, identity: Identity) -> dict[str, Value]:
    """POST /nodes/{node}/qemu: the VM, its disks, its mark. It boots the installer first, unless it has an image."""
    params: dict[str, Value] = {"vmid": identity.vmid, "ostype": "l26", "smbios1": f"uuid={identity.uuid}"}
    params |= settings(spec, identity)
    params |= firmware(spec)
    installs = has_installer(spec) and spec.install.source is InstallSource.ISO
    params["boot"] = boot_order(spec, installer=installs)
    if installs:
        params[CDROM] = inserted(spec)
    for disk in spec.disks:
        params[disk.slot] = new_disk(spec, disk, identity)
    params |= nics(spec, identity)
    if spec.pool:
        params["pool"] = spec.pool
    return params | dict(extra(spec))


def settings(spec: MachineSpec, identity: Identity) -> dict[str, Value]:
    """Everything that is no device. What the description leaves unset is left out."""
    wanted: dict[str, Value] = {
        "name": dns_name(spec.name),
        "description": notes_with_mark(spec.description or "", identity.mark),
        "tags": ";".join(wanted_tags(spec)),
        "memory": spec.memory,
        "balloon": spec.balloon,
        "cpu": spec.cpu.type,
        "sockets": spec.cpu.sockets,
        "cores": spec.cpu.cores,
        "cpulimit": spec.cpu.limit,
        "cpuunits": spec.cpu.units,
        "numa": spec.cpu.numa,
        "bios": spec.bios or ("ovmf" if spec.efi else None),
        "machine": spec.machine,
        "scsihw": controller(spec),
        "vga": spec.display,
        "agent": "1" if spec.agent else None,
        "serial0": "socket" if spec.serial_port else None,
        "onboot": spec.onboot,
        "startup": spec.startup,
        "protection": spec.protection,
        "hotplug": spec.hotplug,
        "args": spec.expert_args,
        "arch": spec.arch if spec.arch != "x86_64" else None,  # PVE's default; only root@pam may say another
    }
    return {key: value for key, value in wanted.items() if value is not None}


def firmware(spec: MachineSpec) -> dict[str, Value]:
    params: dict[str, Value] = {}
    if spec.efi is not None:
        params["efidisk0"] = new_efi_disk(spec.efi)
    if spec.tpm is not None:
        params["tpmstate0"] = new_tpm(spec.tpm)
    return params


def new_efi_disk(efi: Efi) -> str:
    """Say both explicitly, because PVE's default is the small 2m type, and enrolled keys keep NixOS media from
    booting."""
    keys = "1" if efi.secure_boot_keys else "0"
    return print_drive({"file": f"{efi.storage}:1", "efitype": efi.type, "pre-enrolled-keys": keys})


def new_tpm(tpm: Tpm) -> str:
    return print_drive({"file": f"{tpm.storage}:1", "version": tpm.version})


def image_of(spec: MachineSpec, disk: Disk) -> str | None:
    """What the disk is made of: the first one of a machine from an image."""
    is_first = spec.install.source is InstallSource.IMAGE and disk is spec.disks[0]
    return as_imported(spec.install.image) if is_first and spec.install.image is not None else None


def new_disk(spec: MachineSpec, disk: Disk, identity: Identity) -> str:
    """Allocation syntax: for creation and for slots that are free, never for a disk that exists (PVE would swap it)."""
    image = image_of(spec, disk)
    volume = f"{disk.storage}:0" if image else f"{disk.storage}:{gib(disk.size)}"
    return print_drive({"file": volume} | ({"import-from": image} if image else {}) | disk_options(disk, identity))


def disk_options(disk: Disk, identity: Identity) -> dict[str, str]:
    """What the description says of a disk beside its place and size."""
    options = {
        "aio": disk.aio,
        "backup": _flag(disk.backup),
        "cache": disk.cache,
        "discard": None if disk.discard is None else "on" if disk.discard else "ignore",
        "iothread": _flag(disk.iothread),
        "serial": quote(disk_serial(identity.serial_base, disk), safe=""),
        "ssd": _flag(disk.ssd),
    }
    return {key: value for key, value in options.items() if value is not None}


def nics(spec: MachineSpec, identity: Identity) -> dict[str, Value]:
    return {
        nic.slot: print_nic(nic_options(nic, identity.macs[index] if index < len(identity.macs) else nic.mac or ""))
        for index, nic in enumerate(spec.network)
    }


def nic_options(nic: Nic, mac: str) -> dict[str, str]:
    options = {
        "model": nic.model,
        "macaddr": mac.upper() or None,
        "bridge": nic.bridge,
        "firewall": _flag(nic.firewall),
        "mtu": _text(nic.mtu),
        "queues": _text(nic.queues),
        "rate": None if nic.rate is None else f"{nic.rate:g}",
        "tag": _text(nic.tag),
        "trunks": ";".join(nic.trunks) or None,
    }
    return {key: value for key, value in options.items() if value is not None}


def boot_order(spec: MachineSpec, *, installer: bool) -> str:
    """Boot the installer's drive first, or only the disk. The ISO comes out as well, so nothing else can boot."""
    disk = spec.disks[0].slot if spec.disks else ""
    devices = [CDROM, disk] if installer else [disk]
    return "order=" + ";".join(device for device in devices if device)


def has_installer(spec: MachineSpec) -> bool:
    return bool(spec.install.iso)


def inserted(spec: MachineSpec) -> str:
    return f"{spec.install.iso},media=cdrom"


def controller(spec: MachineSpec) -> str | None:
    has_scsi = any(disk.slot.startswith("scsi") for disk in spec.disks)
    return spec.scsi_controller or (DEFAULT_CONTROLLER if has_scsi else None)


def wanted_tags(spec: MachineSpec) -> tuple[str, ...]:
    """Lower case and sorted, as PVE would make them."""
    return tuple(sorted({TAG, *(tag.lower() for tag in spec.tags)}))


def extra(spec: MachineSpec) -> Iterator[tuple[str, Value]]:
    """The user's raw options. Those that carry the machine's identity are not theirs to set."""
    for key, value in spec.extra.items():
        if key in OURS:
            raise SpecError(
                f"{key!r} is set by this tool and cannot be set here",
                path=f"{spec.name}.deployment.proxmox.extra.{key}",
            )
        yield key, value


def dns_name(name: str) -> str:
    """PVE takes only DNS names: other characters become hyphens."""
    labels = (re.sub(r"[^A-Za-z0-9-]", "-", label).strip("-")[:63].strip("-") for label in name.split("."))
    return ".".join(label for label in labels if label) or "machine"


def clone_params(spec: MachineSpec, identity: Identity, *, target: str = "") -> dict[str, Value]:
    """POST …/clone: cannot set the SMBIOS UUID, so the notes carry the mark until the next config write."""
    full = spec.install.full_clone
    return {
        "newid": identity.vmid,
        "name": dns_name(spec.name),
        "description": notes_with_mark(spec.description or "", identity.mark, unfinished=True),
        "full": full,
        "storage": spec.disks[0].storage if full and spec.disks else None,
        "pool": spec.pool,
        "target": target or None,
    }


def restore_params(spec: MachineSpec, identity: Identity) -> dict[str, Value]:
    """POST /nodes/{node}/qemu with a backup: what is said here wins over what is in it, from the first moment on. The
    rest differs until the next config write, as with a clone."""
    return {
        "vmid": identity.vmid,
        "archive": spec.install.backup,
        "unique": True,
        "storage": spec.disks[0].storage if spec.disks else None,
        "name": dns_name(spec.name),
        "description": notes_with_mark(spec.description or "", identity.mark, unfinished=True),
        "smbios1": f"uuid={identity.uuid}",
        "onboot": False,  # until it is finished
        "pool": spec.pool,
    }


def mark_params(config: Mapping[str, str], identity: Identity) -> dict[str, Value]:
    """PUT …/config: a VM that was restored as another machine becomes this one."""
    smbios = {**parse_properties(config.get("smbios1", "")), "uuid": identity.uuid}
    tags = [tag for tag in re.split(r"[;, ]+", config.get("tags", "")) if tag]
    drives = drives_of(config)
    return {
        **{
            slot: print_drive(drive | {"serial": derived_serial(identity.serial_base, slot)})
            for slot, drive in drives.items()
            if not is_cdrom(drive)
        },
        "smbios1": print_properties(smbios),
        "description": notes_with_mark(notes_without_mark(config.get("description", "")), identity.mark),
        "name": dns_name(identity.mark.machine),
        "tags": ";".join(dict.fromkeys((*tags, TAG))),
    }


def takeover_params(config: Mapping[str, str], identity: Identity) -> dict[str, Value]:
    """PUT …/config: a VM that somebody else made says whose it is. Its notes and tags stay, with ours beside them."""
    tags = [tag for tag in re.split(r"[;, ]+", config.get("tags", "")) if tag]
    return {
        "description": notes_with_mark(notes_without_mark(config.get("description", "")), identity.mark),
        "name": dns_name(identity.mark.machine),
        "tags": ";".join(dict.fromkeys((*tags, TAG))),
    }


def _flag(value: bool | None) -> str | None:  # noqa: FBT001 -- what it converts
    return None if value is None else "1" if value else "0"


def _text(value: object) -> str | None:
    return None if value is None else str(value)
