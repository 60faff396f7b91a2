"""Which of PVE's own keys a description may set directly."""

import re
from collections.abc import Iterator, Mapping

from nixops_proxmox.spec.tree import nearest

# Parameters of POST /nodes/{node}/qemu, PVE 7.4 to 9.1, that are neither ours nor an action. `#` stands for a number.
ALLOWED = frozenset(
    {
        "acpi", "allow-ksm", "audio0", "autostart", "cicustom", "citype", "ciupgrade", "ciuser", "freeze", "hostpci#",
        "ide0", "ide1", "ide3", "ipconfig#", "keyboard", "kvm", "localtime", "migrate_downtime", "migrate_speed",
        "nameserver", "numa#", "ostype", "reboot", "rng0", "searchdomain", "serial1", "serial2", "serial3", "shares",
        "sshkeys", "startdate", "tablet", "tdf", "usb#", "vcpus", "virtiofs#", "vmstatestorage", "watchdog",
    }
)  # fmt: skip

# Keys that options of ours set. A second writer would fight them.
OURS: Mapping[str, str] = {
    "name": "the machine's name",
    "vmid": "vmid",
    "node": "node",
    "pool": "pool",
    "scsi#": "disks",
    "virtio#": "disks",
    "sata#": "disks",
    "storage": "disks[].storage",
    "net#": "network",
    "cpu": "cpu.type",
    "sockets": "cpu.sockets",
    "smp": "cpu.sockets",
    "cores": "cpu.cores",
    "cpulimit": "cpu.limit",
    "cpuunits": "cpu.units",
    "numa": "cpu.numa",
    "memory": "memory",
    "balloon": "balloon",
    "bios": "bios",
    "efidisk0": "efi",
    "tpmstate0": "tpm",
    "machine": "machine",
    "arch": "arch",
    "scsihw": "scsiController",
    "vga": "display",
    "serial0": "serialPort",
    "agent": "agent",
    "tags": "tags",
    "onboot": "onboot",
    "startup": "startup",
    "protection": "protection",
    "hotplug": "hotplug",
    "description": "description",
    "args": "expertArgs",
    "ide2": "install.iso",
    "cdrom": "install.iso",
}

_REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("affinity", "amd-sev", "hookscript", "hugepages", "intel-tdx", "ivshmem", "keephugepages", "lock", "parallel#",
         "spice_enhancements", "vmgenid"),
        "PVE lets only root@pam set it",
    ),
    **dict.fromkeys(("boot", "bootdisk"), "the boot order follows from the machine's phase"),
    "smbios1": "it carries the mark that shows that the machine is ours",
    "cipassword": "it is a secret, and whatever is set in Nix ends up in the store, which everybody can read",
    **dict.fromkeys(
        ("archive", "bwlimit", "force", "ha-managed", "import-working-storage", "live-restore", "start", "template",
         "unique", "unused#"),
        "it is a request to PVE, not a property of a machine",
    ),
}  # fmt: skip

_LAST = {"hostpci": 15, "ipconfig": 31, "numa": 7, "usb": 13, "virtiofs": 9}


def objection(key: str) -> str:
    """Why this key may not be in `extra`. Empty: it may."""
    pattern = re.sub(r"(?<=[a-z])[0-9]{1,3}\Z", "#", key)
    for name in (key, pattern):
        if name in OURS:
            return f"is set by the option {OURS[name]}"
        if name in _REFUSED:
            return f"cannot be set: {_REFUSED[name]}"
        if name in ALLOWED:
            return _too_high(key, name)
    return f"is not a key of PVE's VM configuration{nearest(key, _names())}"


def _too_high(key: str, name: str) -> str:
    if not name.endswith("#"):
        return ""
    prefix = name.removesuffix("#")
    number = key.removeprefix(prefix)
    if int(number) <= _LAST[prefix] and str(int(number)) == number:
        return ""
    return f"cannot be set: {prefix} goes from 0 to {_LAST[prefix]}"


def _names() -> Iterator[str]:
    for name in (*ALLOWED, *OURS):
        yield name.replace("#", "0")
