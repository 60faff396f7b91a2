"""QEMU's command line, out of a VM's hardware: pure functions.

Files and sockets of the VM have short names, relative to its folder, which is QEMU's working directory: a socket's
path may have 108 characters at most. The settings are those that were measured best without KVM.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nixops_proxmox.lab.machines.base import DiskSlot, Hardware, NicSlot
from nixops_proxmox.lab.machines.qemu.accel import Accel

MONITOR, MONITOR_TOO, AGENT, SERIAL, DISPLAY = "qmp.sock", "qmp-too.sock", "qga.sock", "serial.sock", "vnc.sock"
SERIAL_LOG, QEMU_LOG, VARS, TPM = "serial.log", "qemu.log", "vars.fd", "tpm.sock"
OVMF_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
OVMF_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
HOTPLUG_PORTS = 4  # q35 takes no PCI device while it runs, except in a root port that was there at the start

NIC_DEVICES = {
    "virtio": "virtio-net-pci",
    "e1000": "e1000",
    "e1000e": "e1000e",
    "rtl8139": "rtl8139",
    "vmxnet3": "vmxnet3",
}
DISPLAYS = ("std", "cirrus", "vmware", "virtio", "none")
SMBIOS_TEXTS = ("manufacturer", "product", "version", "serial", "sku", "family")


@dataclass(frozen=True)
class Media:
    """The file behind a disk slot, as it is on the disk now."""

    path: Path
    format: str  # raw, qcow2


@dataclass(frozen=True)
class Setup:
    """What the host adds to the VM's hardware."""

    accel: Accel
    media: Mapping[str, Media] = field(default_factory=dict)  # by slot; a tray without one is empty
    taps: Mapping[str, str] = field(default_factory=dict)  # by slot; a NIC without one is not plugged in
    memory_cap: int = 1024  # MiB; the page cache of a guest would take all it is promised
    incoming: Path | None = None  # RAM of a snapshot


def joined(*words: str, **keys: str | int | None) -> str:
    """`a,b,key=value`: None leaves a key out, a comma in a value is doubled, `if_` stands for `if`."""
    pairs = [f"{key.rstrip('_')}={str(value).replace(',', ',,')}" for key, value in keys.items() if value is not None]
    return ",".join([*words, *pairs])


def has_bus(key: str, bus: str) -> bool:
    return key.startswith(bus) and key[len(bus) :].isdigit()


def slot_number(key: str) -> int:
    return int("".join(char for char in key if char.isdigit()) or 0)


def is_drive(disk: DiskSlot) -> bool:
    """The EFI variables and the TPM's state are volumes, and no drives."""
    return disk.key not in ("efidisk0", "tpmstate0")


def has_tpm(hardware: Hardware) -> bool:
    return any(disk.key == "tpmstate0" for disk in hardware.disks)


def machine_type(hardware: Hardware) -> str:
    """PVE's plain "pc" is its default; the lab gives a q35 then, which boots sooner. A versioned one is honoured."""
    return "q35" if hardware.machine in ("", "pc", "q35") else hardware.machine


def is_q35(hardware: Hardware) -> bool:
    return "q35" in machine_type(hardware)


def has_ahci(hardware: Hardware) -> bool:
    """A q35 that was asked for has AHCI alone, as PVE's: its own ports for ide, a second controller for sata."""
    return "q35" in hardware.machine


def processor_argv(hardware: Hardware, setup: Setup) -> list[str]:
    """Without KVM every further processor only costs, so one it is; the API still shows what was configured."""
    kvm = setup.accel.kvm
    return [
        *("-accel", "kvm" if kvm else "tcg,thread=multi,tb-size=64", "-machine", machine_type(hardware)),
        *("-cpu", "host" if kvm else "qemu64", "-smp", str(hardware.cores * hardware.sockets if kvm else 1)),
        *("-m", str(min(hardware.memory, setup.memory_cap))),
    ]


def smbios_argv(hardware: Hardware) -> list[str]:
    given = dict(hardware.smbios)
    texts = {key: given[key] for key in SMBIOS_TEXTS if key in given}
    if given.get("base64") == "1":
        texts = {key: decoded(text) for key, text in texts.items()}
    return ["-smbios", joined(type=1, uuid=hardware.uuid or None, **texts)]


def decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode(errors="replace")
    except binascii.Error:
        return text


def firmware_argv(hardware: Hardware, setup: Setup) -> list[str]:
    """OVMF, its variables on efidisk0, or in a file that a cold start creates again (PVE: "temporary")."""
    if hardware.bios != "ovmf":
        return []
    variables = setup.media.get("efidisk0", Media(Path(VARS), "raw"))
    return [
        *("-drive", joined(if_="pflash", unit=0, format="raw", readonly="on", file=str(OVMF_CODE))),
        "-drive",
        joined(if_="pflash", unit=1, id="drive-efidisk0", format=variables.format, file=str(variables.path)),
    ]


def tpm_argv(hardware: Hardware) -> list[str]:
    if not has_tpm(hardware):
        return []
    return [
        *("-chardev", joined("socket", id="chrtpm", path=TPM)),
        *("-tpmdev", joined("emulator", id="tpm0", chardev="chrtpm")),
        *("-device", joined("tpm-tis", tpmdev="tpm0")),
    ]


def swtpm_argv(state: Path) -> list[str]:
    """The TPM's own process; it ends when QEMU hangs up."""
    return [
        *("swtpm", "socket", "--tpm2", "--terminate"),
        *("--tpmstate", f"dir={state}", "--ctrl", f"type=unixio,path={TPM}"),
    ]


def listening(name: str, path: str, **more: str) -> list[str]:
    return ["-chardev", joined("socket", id=name, path=path, server="on", wait="off", **more)]


def channel_argv(hardware: Hardware) -> list[str]:
    """Monitors (one for us, one for who asks from outside the event loop), serial port, display, agent."""
    agent = [
        *("-device", joined("virtio-serial-pci", id="qga")),
        *listening("qga0", AGENT),
        *("-device", joined("virtserialport", chardev="qga0", name="org.qemu.guest_agent.0")),
    ]
    return [
        *listening("qmp", MONITOR),
        *("-mon", "chardev=qmp,mode=control"),
        *listening("qmptoo", MONITOR_TOO),
        *("-mon", "chardev=qmptoo,mode=control"),
        *listening("ser", SERIAL, logfile=SERIAL_LOG, logappend="on"),
        *("-serial", "chardev:ser", "-vnc", f"unix:{DISPLAY}"),
        *("-vga", hardware.vga if hardware.vga in DISPLAYS else "std"),
        *(agent if hardware.agent else []),
    ]


def controllers_argv(hardware: Hardware) -> list[str]:
    """SCSI; and what shows PVE's ide and sata: AHCI, or where it is not asked for a second SCSI, which is faster."""
    ports = range(HOTPLUG_PORTS) if is_q35(hardware) else ()
    devices = [
        joined("virtio-scsi-pci", id="scsihw0"),
        joined("ahci", id="ahci0") if has_ahci(hardware) else joined("virtio-scsi-pci", id="satahw0"),
        *(joined("pcie-root-port", id=f"hot{number}", chassis=number + 1) for number in ports),
    ]
    return [word for device in devices for word in ("-device", device)]


def drive_options(disk: DiskSlot, media: Media | None) -> str:
    """The host's side: for `-drive`, or the monitor's drive_add."""
    if disk.cdrom:
        file, kind = (str(media.path), media.format) if media else (None, None)
        return joined(if_="none", id=f"drive-{disk.key}", media="cdrom", readonly="on", file=file, format=kind)
    if media is None:
        raise ValueError(f"{disk.key} has no volume")
    given = dict(disk.options)
    discard = "unmap" if given.get("discard") == "on" else "ignore"
    more = {"detect-zeroes": "unmap" if discard == "unmap" else "on"}
    read_only = "on" if given.get("ro") == "1" else None
    return joined(
        if_="none", id=f"drive-{disk.key}", file=str(media.path), format=media.format, cache="unsafe", aio="threads",
        discard=discard, readonly=read_only, **more,
    )  # fmt: skip


def ahci_port(key: str) -> str:
    """ide0 and ide2 where PVE has them. It refuses the others on a q35; here they come after."""
    if has_bus(key, "sata"):
        return f"ahci0.{slot_number(key)}"
    return f"ide.{(0, 2, 1, 3)[slot_number(key)]}"


def ahci_options(disk: DiskSlot, ends: Mapping[str, str | int | None]) -> str:
    given = dict(disk.options)
    if disk.cdrom:
        return joined("ide-cd", bus=ahci_port(disk.key), **ends)
    rate = 1 if given.get("ssd") == "1" else None
    return joined("ide-hd", bus=ahci_port(disk.key), **ends, wwn=given.get("wwn"), rotation_rate=rate)


def device_options(
    disk: DiskSlot, bootindex: int | None, port: str | None = None, *, ahci: bool = False, names_drives: bool = False
) -> str:
    """The guest's side. Serial number and by-id name are PVE's: `…_drive-scsi0`, or the serial where one is set and the
    machine is older than 10.0."""
    key, given = disk.key, dict(disk.options)
    serial = given.get("serial")
    ends: dict[str, str | int | None] = {"drive": f"drive-{key}", "id": key, "bootindex": bootindex, "serial": serial}
    if has_bus(key, "virtio"):
        return joined("virtio-blk-pci", bus=port, **ends)
    if ahci and not has_bus(key, "scsi"):
        return ahci_options(disk, ends)
    bus, first = ("scsihw0.0", 0) if has_bus(key, "scsi") else ("satahw0.0", 0 if has_bus(key, "ide") else 8)
    place: dict[str, str | int | None] = {"bus": bus, "scsi-id": first + slot_number(key)}
    ends |= {"device_id": f"drive-{key}" if names_drives or not serial else serial, "wwn": given.get("wwn")}
    if disk.cdrom:
        return joined("scsi-cd", **place, **ends)
    return joined("scsi-hd", **place, **ends, rotation_rate=1 if given.get("ssd") == "1" else None)


def boot_index(hardware: Hardware, key: str) -> int | None:
    """Position in `boot: order=`; what is not in it is never booted from (strict=on)."""
    return 100 + hardware.boot.index(key) if key in hardware.boot else None


def disks_argv(hardware: Hardware, setup: Setup) -> list[str]:
    argv: list[str] = []
    for disk in filter(is_drive, hardware.disks):
        argv += ["-drive", drive_options(disk, setup.media.get(disk.key))]
        place, names = boot_index(hardware, disk.key), hardware.names_drives
        argv += ["-device", device_options(disk, place, ahci=has_ahci(hardware), names_drives=names)]
    return argv


def nic_options(nic: NicSlot, bootindex: int | None, port: str | None = None) -> str:
    """Without an option ROM, unless the VM may boot from the network: loading iPXE takes a second."""
    device = NIC_DEVICES.get(nic.model, "virtio-net-pci")
    mtu = dict(nic.options).get("mtu", "1")
    host_mtu = mtu if device == "virtio-net-pci" and mtu != "1" else None
    rom = "" if bootindex is None else None
    return joined(
        device, mac=nic.mac, netdev=nic.key, id=nic.key, romfile=rom, bootindex=bootindex, bus=port, host_mtu=host_mtu
    )


def nics_argv(hardware: Hardware, setup: Setup) -> list[str]:
    argv: list[str] = []
    for nic in hardware.nics:
        if (tap := setup.taps.get(nic.key)) is not None:
            argv += ["-netdev", joined("tap", id=nic.key, ifname=tap, script="no", downscript="no", vhost="off")]
            argv += ["-device", nic_options(nic, boot_index(hardware, nic.key))]
    return argv


def qemu_argv(hardware: Hardware, setup: Setup) -> list[str]:
    """The whole command line. -no-reboot: a fresh process boots twice as fast as a reset one without KVM."""
    return [
        *("qemu-system-x86_64", "-name", joined(guest=hardware.name or f"vm{hardware.vmid}"), "-nodefaults"),
        *("-no-user-config", "-no-reboot", "-boot", "menu=off,strict=on"),
        *processor_argv(hardware, setup),
        *smbios_argv(hardware),
        *firmware_argv(hardware, setup),
        *channel_argv(hardware),
        *("-device", "virtio-rng-pci"),
        *controllers_argv(hardware),
        *disks_argv(hardware, setup),
        *nics_argv(hardware, setup),
        *tpm_argv(hardware),
        *(["-incoming", f"exec:cat {setup.incoming}"] if setup.incoming else []),
    ]
