"""Which privilege a configuration key needs (facts: one line per key family)."""

import re
from collections.abc import Callable, Iterable, Mapping

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import LOCAL_ZONE, Cluster
from nixops_proxmox.lab.config import is_cdrom, is_disk, parse_disk, parse_nic
from nixops_proxmox.lab.refusals import Refused, die
from nixops_proxmox.lab.schema import properties

ANY_CONFIG = tuple(
    f"VM.Config.{part}" for part in ["Disk", "CDROM", "CPU", "Memory", "Network", "HWType", "Options", "Cloudinit"]
)
FAMILIES = {
    "VM.Config.CPU": r"cores|cpu|cpulimit|cpuunits|numa\d*|sockets|smp|vcpus",
    "VM.Config.Memory": r"memory|balloon|shares|allow-ksm",
    "VM.Config.HWType": r"acpi|hotplug|kvm|machine|scsihw|smbios1|tablet|vga|watchdog|audio0|rng0",
    "VM.Config.Options": (
        r"agent|autostart|bios|description|keyboard|localtime|migrate_\w+|name|onboot|ostype|protection|reboot|startdate|startup|tdf|template|tags"
    ),
    "VM.Config.Disk": r"boot|bootdisk|vmstatestorage",
    "VM.Config.Network": r"net\d+",
    "VM.Config.Cloudinit": r"ciuser|cipassword|sshkeys|ipconfig\d+|nameserver|searchdomain|citype|cicustom|ciupgrade",
    "VM.PowerMgmt": r"freeze",
}
PATTERNS = [(re.compile(pattern), name) for name, pattern in FAMILIES.items()]
DEVICES = re.compile(r"(serial|usb|hostpci|virtiofs|parallel)\d+")
SPECIAL = {
    "storage",
    "pool",
    "start",
    "force",
    "unique",
    "archive",
    "bwlimit",
    "live-restore",
    "import-working-storage",
}


def privilege_of(key: str) -> str | None:
    return next((name for pattern, name in PATTERNS if pattern.fullmatch(key)), None)


def check_rights(
    cluster: Cluster,
    auth: Auth,
    vmid: int,
    values: Mapping[str, str],
    *,
    pool: str | None = None,
    creating: bool = False,
    deleted: Iterable[str] = (),
) -> None:
    """Every key that is set or deleted; on create a grant on the pool counts."""
    if auth.is_root:
        return
    for key in [*values, *deleted]:
        _check_key(cluster, auth, vmid, key, values.get(key, ""), pool, creating=creating)


def _check_key(
    cluster: Cluster, auth: Auth, vmid: int, key: str, value: str, pool: str | None, *, creating: bool
) -> None:
    if is_disk(key) or key.startswith("unused") or key == "cdrom":
        if not creating:
            require(cluster, auth, vmid, pool, _disk_privileges(key, value))
        return
    if DEVICES.fullmatch(key):
        _check_device(cluster, auth, vmid, key, value, pool)
        return
    name = privilege_of(key)
    if name is None:
        die(f"only root can set '{key}' config")
    if name == "VM.Config.Cloudinit" and (cluster.release.since(8) or key == "cicustom"):
        path = f"/vms/{vmid}"
        names = ("VM.Config.Cloudinit", "VM.Config.Network")
        if not cluster.allows(auth, path, *names, any_of=True) and not (
            pool and cluster.allows(auth, f"/pool/{pool}", *names, any_of=True)
        ):
            cluster.require(auth, path, *names, any_of=True)
        return
    if name == "VM.Config.Cloudinit":
        name = "VM.Config.Network"
    require(cluster, auth, vmid, pool, (name,))
    if key == "startup":
        cluster.require(auth, "/", "Sys.Modify")


def _disk_privileges(key: str, value: str) -> tuple[str, ...]:
    if value.partition(",")[0].endswith(":cloudinit"):
        return ("VM.Config.Cloudinit", "VM.Config.CDROM")
    if value and is_disk(key) and is_cdrom(parse_disk(key, value)):
        return ("VM.Config.CDROM",)
    return ("VM.Config.Disk",)


def _check_device(cluster: Cluster, auth: Auth, vmid: int, key: str, value: str, pool: str | None) -> None:
    kind = key.rstrip("0123456789")
    parts = properties.split(value, "host")
    if kind == "serial" and value not in ("socket", ""):
        die(f"only root can set '{key}' config for real devices")
    if kind == "usb" and value and parts.get("host", "").lower() != "spice" and "mapping" not in parts:
        die(f"only root can set '{key}' config for real devices")
    if kind == "hostpci" and value and "mapping" not in parts:
        die(
            f"only root can set '{key}' config for non-mapped devices"
            if cluster.release.since(8)
            else f"only root can set '{key}' config"
        )
    if kind == "parallel":
        die(f"only root can set '{key}' config")
    require(cluster, auth, vmid, pool, ("VM.Config.Disk",) if kind == "virtiofs" else ("VM.Config.HWType",))
    mapping = value.partition(",")[0].removeprefix("dirid=") if kind == "virtiofs" else parts.get("mapping", "")
    if mapping:
        area = {"hostpci": "pci", "virtiofs": "dir"}.get(kind, "usb")
        cluster.require(auth, f"/mapping/{area}/{mapping}", "Mapping.Use")


def require(cluster: Cluster, auth: Auth, vmid: int, pool: str | None, names: tuple[str, ...]) -> None:
    """On the guest, or on the pool that it is made in."""
    path = f"/vms/{vmid}"
    for name in names:
        if not cluster.allows(auth, path, name) and not (pool and cluster.allows(auth, f"/pool/{pool}", name)):
            cluster.require(auth, path, name)


def check_bridges(
    cluster: Cluster, auth: Auth, values: Mapping[str, str], parse: Callable[[str], Mapping[str, str]] = parse_nic
) -> None:
    """SDN.Use on each NIC's bridge, or on its VLANs (since 8.0). `parse`: a container's NIC has other words."""
    if not cluster.release.since(8):
        return
    for key, value in values.items():
        if not re.fullmatch(r"net\d+", key):
            continue
        nic = parse(value)
        bridge = nic.get("bridge")
        if bridge is None:
            die("no sdn vnet ID specified")
        known = cluster.bridges.get(bridge)
        base = f"/sdn/zones/{known.zone if known else LOCAL_ZONE}/{bridge}"
        tags = [nic["tag"]] if "tag" in nic else _vlans(nic.get("trunks", ""))
        for path in [f"{base}/{tag}" for tag in tags] or [base]:
            cluster.require(auth, path, "SDN.Use")


def _vlans(trunks: str) -> list[str]:
    """2;5-7 → 2, 5, 6, 7"""
    ends = [part.partition("-") for part in trunks.split(";") if part]
    return [str(vlan) for first, _, last in ends for vlan in range(int(first), int(last or first) + 1)]


def check_tags(cluster: Cluster, auth: Auth, old: str, new: str) -> None:
    """Registered tags need Sys.Modify; what else is free depends on the datacenter's options."""
    if auth.is_root or cluster.allows(auth, "/", "Sys.Modify"):
        return
    registered = set(re.split(r"[;,\s]+", cluster.options.get("registered-tags", ""))) - {""}
    access = properties.split(cluster.options.get("user-tag-access", "free"), "user-allow")
    allowed = set(re.split(r"[;\s]+", access.get("user-allow-list", ""))) - {""}
    how = access.get("user-allow", "free")
    seen = {
        tag
        for vm in cluster.vms.values()
        for tag in re.split(r"[;,\s]+", vm.config.get("tags", ""))
        if how == "existing"
    }
    changed = set(filter(None, re.split(r"[;,\s]+", old))) ^ set(filter(None, re.split(r"[;,\s]+", new)))
    for tag in sorted(changed):
        if tag in registered or (how != "free" and tag not in allowed | seen):
            raise Refused(403, f"Permission check failed (/, Sys.Modify for modifying tag '{tag}')")
