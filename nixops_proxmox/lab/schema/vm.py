"""A VM's configuration keys: types, limits and grammars (qemu-server 7.4 to 9.1)."""

from nixops_proxmox.lab.schema.types import (
    Param,
    Table,
    boolean,
    indexed,
    integer,
    matching,
    named,
    number,
    one_of,
    text,
)

IMAGE_FORMATS = ("raw", "qcow", "qed", "qcow2", "vmdk", "cloop")
NIC_MODELS = [
    "e1000",
    "e1000-82540em",
    "e1000-82544gc",
    "e1000-82545em",
    "e1000e",
    "i82551",
    "i82557b",
    "i82559er",
    "ne2k_isa",
    "ne2k_pci",
    "pcnet",
    "rtl8139",
    "virtio",
    "vmxnet3",
]
VLANS = r"\d+(?:-\d+)?(?:;\d+(?:-\d+)?)*"
BASE64 = r"[A-Za-z0-9+/]+={0,2}"
UUID = r"[a-fA-F0-9]{8}(?:-[a-fA-F0-9]{4}){3}-[a-fA-F0-9]{12}"
MACHINE = (
    r"(pc|pc(-i440fx)?-\d+(\.\d+)+(\+pve\d+)?(\.pxe)?|q35|pc-q35-\d+(\.\d+)+(\+pve\d+)?(\.pxe)?|"
    r"virt(?:-\d+(\.\d+)+)?(\+pve\d+)?)"
)
USB_HOST = r"(0x)?[0-9A-Fa-f]{4}:(0x)?[0-9A-Fa-f]{4}|\d+-\d+(\.\d+)*|[Ss][Pp][Ii][Cc][Ee]"

RATES = [f"{what}{way}" for what in ("bps", "iops", "mbps") for way in ("", "_rd", "_wr")]
DISK = {
    "file": named("pve-volume-id-or-qm-path", default_key=True, optional=False),
    "volume": Param(alias="file"),
    "aio": one_of("native", "threads", "io_uring"),
    "backup": boolean(),
    "cache": one_of("none", "writethrough", "writeback", "unsafe", "directsync"),
    "cyls": integer(),
    "heads": integer(),
    "secs": integer(),
    "trans": one_of("none", "lba", "auto"),
    "detect_zeroes": boolean(),
    "discard": one_of("ignore", "on"),
    "format": one_of(*IMAGE_FORMATS),
    "import-from": named("pve-volume-id-or-absolute-path"),
    "media": one_of("cdrom", "disk"),
    "replicate": boolean(),
    "rerror": one_of("ignore", "report", "stop"),
    "werror": one_of("enospc", "ignore", "report", "stop"),
    "serial": text(60),
    "shared": boolean(),
    "size": named("disk-size"),
    "snapshot": boolean(),
    **{rate: number() if rate.startswith("mbps") else integer() for rate in RATES},
    **{
        f"{rate}_max": number() if rate.startswith("mbps") else integer()
        for rate in RATES
        if not rate.startswith("bps")
    },
    **{f"{rate}_max_length": integer(1) for rate in RATES if not rate.startswith("mbps")},
}
SSD = {"ssd": boolean(), "wwn": matching(r"0x[0-9a-fA-F]{16}")}
THREAD = {"iothread": boolean()}
IDE = {**DISK, **SSD, "model": text(120)}
SATA = {**DISK, **SSD}
SCSI = {
    **DISK,
    **SSD,
    **THREAD,
    "queues": integer(2),
    "ro": boolean(),
    "scsiblock": boolean(),
    "product": matching(r"[A-Za-z0-9\-_\s]{1,16}", since=(8, 0)),
    "vendor": matching(r"[A-Za-z0-9\-_\s]{1,8}", since=(8, 0)),
}
VIRTIO = {**DISK, **THREAD, "ro": boolean()}
EFI_DISK = {
    "file": named("pve-volume-id-or-qm-path", default_key=True, optional=False),
    "volume": Param(alias="file"),
    "efitype": one_of("2m", "4m"),
    "format": one_of(*IMAGE_FORMATS),
    "import-from": named("pve-volume-id-or-absolute-path"),
    "pre-enrolled-keys": boolean(),
    "ms-cert": one_of("2011", "2023", "2023w", since=(9, 1)),
    "size": named("disk-size"),
}
TPM_STATE = {
    "file": named("pve-volume-id-or-qm-path", default_key=True, optional=False),
    "volume": Param(alias="file"),
    "import-from": named("pve-volume-id-or-absolute-path"),
    "size": named("disk-size"),
    "version": one_of("v1.2", "v2.0"),
}
UNUSED = {"file": named("pve-volume-id", default_key=True, optional=False), "volume": Param(alias="file")}
NET = {
    "bridge": named("pve-bridge-id"),
    "firewall": boolean(),
    "link_down": boolean(),
    "macaddr": named("mac-addr"),
    "model": one_of(*NIC_MODELS, default_key=True, optional=False),
    "mtu": integer(1, 65520),
    "queues": integer(0, 64),
    "rate": number(0),
    "tag": integer(1, 4094),
    "trunks": matching(VLANS),
    **{model: Param(alias="macaddr", key_alias="model") for model in NIC_MODELS},
}
AGENT = {
    "enabled": boolean(default_key=True, optional=False),
    "freeze-fs-on-backup": boolean(),
    "freeze-fs": boolean(since=(9, 1)),
    "fstrim_cloned_disks": boolean(),
    "type": one_of("virtio", "isa"),
}
BOOT = {
    "legacy": matching(r"[acdn]{1,4}", default_key=True),
    "order": named("boot-devices"),
}
SMBIOS = {
    "base64": boolean(),
    **{key: matching(BASE64) for key in ("family", "manufacturer", "product", "serial", "sku", "version")},
    "uuid": matching(UUID),
}
IPCONFIG = {
    "ip": named("pve-ipv4-config"),
    "gw": named("ipv4", requires="ip"),
    "ip6": named("pve-ipv6-config"),
    "gw6": named("ipv6", requires="ip6"),
}
VGA = {
    "type": one_of(
        "cirrus",
        "qxl",
        "qxl2",
        "qxl3",
        "qxl4",
        "none",
        "serial0",
        "serial1",
        "serial2",
        "serial3",
        "std",
        "virtio",
        "virtio-gl",
        "vmware",
        default_key=True,
    ),
    "memory": integer(4, 512),
    "clipboard": one_of("vnc", since=(8, 0)),
}
MACHINE_TYPE = {
    "type": matching(MACHINE, default_key=True, max_length=40),
    "viommu": one_of("intel", "virtio"),
    "enable-s3": boolean(),
    "enable-s4": boolean(),
}
RNG = {
    "source": one_of("/dev/urandom", "/dev/random", "/dev/hwrng", default_key=True, optional=False),
    "max_bytes": integer(),
    "period": integer(),
}
WATCHDOG = {
    "model": one_of("i6300esb", "ib700", default_key=True),
    "action": one_of("reset", "shutdown", "poweroff", "pause", "debug", "none"),
}
USB = {
    "host": matching(USB_HOST, default_key=True),
    "mapping": named("pve-configid", since=(8, 0)),
    "usb3": boolean(),
}
NUMA = {
    "cpus": matching(VLANS, optional=False),
    "hostnodes": matching(VLANS),
    "memory": number(),
    "policy": one_of("preferred", "bind", "interleave"),
}
MEMORY = {"current": integer(16, default_key=True, optional=False)}
CLOUD_INIT_CUSTOM = {kind: named("pve-volume-id") for kind in ("meta", "network", "user", "vendor")}
KEYBOARDS = [
    "de",
    "de-ch",
    "da",
    "en-gb",
    "en-us",
    "es",
    "fi",
    "fr",
    "fr-be",
    "fr-ca",
    "fr-ch",
    "hu",
    "is",
    "it",
    "ja",
    "lt",
    "mk",
    "nl",
    "no",
    "pl",
    "pt",
    "pt-br",
    "sv",
    "sl",
    "tr",
]
LOCKS = ["backup", "clone", "create", "migrate", "rollback", "snapshot", "snapshot-delete", "suspending", "suspended"]

DISKS: Table = {
    **indexed("ide", 3, named(IDE)),
    **indexed("sata", 5, named(SATA)),
    **indexed("scsi", 30, named(SCSI)),
    **indexed("virtio", 15, named(VIRTIO)),
    "efidisk0": named(EFI_DISK),
    "tpmstate0": named(TPM_STATE),
}
CONFIG: Table = {
    "acpi": boolean(),
    "affinity": named("pve-cpuset"),
    "agent": named(AGENT),
    "allow-ksm": boolean(since=(9, 1)),
    "amd-sev": text(since=(8, 0)),
    "arch": one_of("x86_64", "aarch64"),
    "args": text(),
    "audio0": named(
        {"device": one_of("ich9-intel-hda", "intel-hda", "AC97", optional=False), "driver": one_of("spice", "none")}
    ),
    "autostart": boolean(),
    "balloon": integer(0),
    "bios": one_of("seabios", "ovmf"),
    "boot": named(BOOT),
    "bootdisk": matching(r"(ide|sata|scsi|virtio)\d+"),
    "cdrom": named(IDE),
    "cicustom": named(CLOUD_INIT_CUSTOM),
    "cipassword": text(),
    "citype": one_of("configdrive2", "nocloud", "opennebula"),
    "ciupgrade": boolean(since=(8, 0)),
    "ciuser": text(),
    "cores": integer(1),
    "cpu": named("pve-vm-cpu-conf"),
    "cpulimit": number(0, 128),
    "cpuunits": integer(1, 262144),
    "description": text(8192),
    "freeze": boolean(),
    "hookscript": named("pve-volume-id"),
    **indexed("hostpci", 15, text()),
    "hotplug": named("pve-hotplug-features"),
    "hugepages": one_of("any", "2", "1024"),
    **indexed("ipconfig", 31, named(IPCONFIG)),
    "ivshmem": named({"name": matching(r"[a-zA-Z0-9\-]+"), "size": integer(1, optional=False)}),
    "keephugepages": boolean(),
    "keyboard": one_of(*KEYBOARDS),
    "kvm": boolean(),
    "localtime": boolean(),
    "lock": one_of(*LOCKS),
    "machine": named(MACHINE_TYPE),
    "memory": named(MEMORY),
    "migrate_downtime": number(0),
    "migrate_speed": integer(0),
    "name": named("dns-name"),
    "nameserver": named("address-list"),
    **indexed("net", 31, named(NET)),
    "numa": boolean(),
    **indexed("numa", 7, named(NUMA)),
    "onboot": boolean(),
    "ostype": one_of(
        "other", "wxp", "w2k", "w2k3", "w2k8", "wvista", "win7", "win8", "win10", "win11", "l24", "l26", "solaris"
    ),
    **indexed("parallel", 2, matching(r"/dev/parport\d+|/dev/usb/lp\d+")),
    "protection": boolean(),
    "reboot": boolean(),
    "rng0": named(RNG),
    "scsihw": one_of("lsi", "lsi53c810", "virtio-scsi-pci", "virtio-scsi-single", "megasas", "pvscsi"),
    "searchdomain": text(),
    **indexed("serial", 3, matching(r"(/dev/.+|socket)")),
    "shares": integer(0, 50000),
    "smbios1": named(SMBIOS, max_length=512),
    "smp": integer(1),
    "sockets": integer(1),
    "spice_enhancements": named({"foldersharing": boolean(), "videostreaming": one_of("off", "all", "filter")}),
    "sshkeys": named("urlencoded"),
    "startdate": matching(r"(now|\d{4}-\d{1,2}-\d{1,2}(T\d{1,2}:\d{1,2}:\d{1,2})?)"),
    "startup": named("pve-startup-order"),
    "tablet": boolean(),
    "tags": named("pve-tag-list"),
    "tdf": boolean(),
    "template": boolean(),
    **indexed("unused", 255, named(UNUSED)),
    **indexed("usb", 13, named(USB)),
    "vcpus": integer(1),
    "vga": named(VGA),
    **indexed("virtiofs", 9, text(since=(8, 4))),
    "vmgenid": matching(rf"(?:{UUID}|[01])"),
    "vmstatestorage": named("pve-storage-id"),
    "watchdog": named(WATCHDOG),
    **DISKS,
}
# 7.4 had memory as a plain integer: its own texts, its own type when read back.
MEMORY_7 = integer(16)


def config_table(number_: tuple[int, int]) -> Table:
    """The configuration keys of one release."""
    table = dict(CONFIG)
    if number_ < (8, 0):
        table["memory"] = MEMORY_7
    return table
