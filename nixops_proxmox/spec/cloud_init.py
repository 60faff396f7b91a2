"""PVE's own cloud-init drive: what it tells a machine, in PVE's words.

It becomes a part of `extra`: from there on, it is made, compared and corrected as every other key of PVE's.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import quote

from nixops_proxmox.spec import values as v
from nixops_proxmox.spec.frozen import Frozen

if TYPE_CHECKING:
    from nixops_proxmox.spec.machine import IpSpec, MachineSpec, Nic

SLOT = "ide0"  # the installer's CD has the other one that every chipset has
SLOT_ON_Q35 = "scsi30"  # whose IDE is AHCI, for which Debian's cloud kernel has no driver
SLOTS = (SLOT, SLOT_ON_Q35)
KEYS = ("citype", "ciuser", "ciupgrade", "sshkeys", "nameserver", "searchdomain", "cipassword", "cicustom")
_NIC = re.compile(r"ipconfig\d+")


class CloudInit(Frozen):
    """`user`: None: the one that logs in by SSH. `nameservers`, `search_domains`: empty: those of the NICs."""

    user: v.UnixUser | None = None
    ssh_keys: tuple[v.PublicKey, ...] = ()
    nameservers: Annotated[tuple[v.IpAddress, ...], v.Unique] = ()
    search_domains: Annotated[tuple[v.DnsName, ...], v.Unique] = ()
    upgrade: bool = False
    type: Literal["nocloud", "configdrive2"] = "nocloud"
    storage: v.Storage | None = None  # None: that of the first disk


def is_told(key: str) -> bool:
    """Is it a key of PVE's that its cloud-init drive tells the guest?"""
    return key in KEYS or _NIC.fullmatch(key) is not None


def with_cloud_init(spec: "MachineSpec", keys: Sequence[str] = ()) -> "MachineSpec":
    """The machine with all of it in `extra`. `keys`: more that may log in. Safe to repeat, for addresses that are
    known later."""
    told = spec.install.cloud_init
    if told is None:
        return spec
    kept = {key: value for key, value in spec.extra.items() if key not in SLOTS and not is_told(key)}
    return spec.model_copy(update={"extra": {**kept, **_extra(spec, told, keys)}})


def slot_of(spec: "MachineSpec") -> str:
    """Where the drive is made. One that is there already may be anywhere."""
    beside_disks = bool(spec.disks) and spec.disks[0].slot.startswith("scsi")
    return SLOT_ON_Q35 if beside_disks and "q35" in (spec.machine or "") else SLOT


def _extra(spec: "MachineSpec", told: CloudInit, keys: Sequence[str]) -> Mapping[str, str]:
    storage = told.storage or (spec.disks[0].storage if spec.disks else "")
    lines = dict.fromkeys(key.strip() for key in (*keys, *spec.ssh.authorized_keys, *told.ssh_keys))
    wanted = {
        slot_of(spec): f"{storage}:cloudinit" if storage else "",
        "citype": told.type,
        "ciuser": told.user or spec.ssh.user,
        "ciupgrade": "1" if told.upgrade else "0",
        "sshkeys": quote("\n".join(lines), safe=""),
        "nameserver": " ".join(map(str, told.nameservers)) or " ".join(spec.name_servers),
        "searchdomain": " ".join(told.search_domains or spec.search_domains),
    }
    wanted |= {f"ipconfig{nic.slot.removeprefix('net')}": ip_config(nic) for nic in spec.network}
    return {key: value for key, value in wanted.items() if value}


def ip_config(nic: "Nic") -> str:
    """Empty for a NIC without addresses, which PVE leaves out."""
    parts = [*_family(nic.ipv4, "ip", "gw"), *_family(nic.ipv6, "ip6", "gw6")]
    return ",".join(parts)


def _family(ip: "IpSpec", name: str, gateway: str) -> list[str]:
    if ip.method == "none":
        return []
    if ip.method != "static":
        return [f"{name}={ip.method}"]
    found = [f"{name}={ip.address}/{ip.prefix}"]
    return [*found, f"{gateway}={ip.gateway}"] if ip.gateway is not None else found
