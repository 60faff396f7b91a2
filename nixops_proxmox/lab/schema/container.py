"""A container's configuration keys: types, limits and grammars (pve-container of 7.4 to 9.1)."""

from nixops_proxmox.lab.schema.types import (
    Grammar,
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
from nixops_proxmox.lab.schema.vm import VLANS

NAME = r"[-_.\w\d]+"
MOUNT_OPTION = r"(discard|lazytime|noatime|nodev|noexec|nosuid)"
PRINTED = r"[^\x00-\x08\x10-\x1F\x7F]"
LAST_MOUNT = 255
VOLUME: Grammar = {
    "volume": named("pve-lxc-mp-string", default_key=True, optional=False),
    "acl": boolean(),
    "mountoptions": matching(rf"{MOUNT_OPTION}(;{MOUNT_OPTION})*"),
    "quota": boolean(),
    "replicate": boolean(),
    "ro": boolean(),
    "shared": boolean(),
    "size": named("disk-size"),
}
MOUNT: Grammar = {
    **VOLUME,
    "mp": named("pve-lxc-mp-string", optional=False),
    "backup": boolean(),
    "keepattrs": boolean(since=(9, 1)),
}
NET: Grammar = {
    "name": matching(NAME, optional=False),
    "bridge": matching(NAME),
    "firewall": boolean(),
    "gw": named("ipv4"),
    "gw6": named("ipv6"),
    "host-managed": boolean(since=(9, 1)),
    "hwaddr": named("mac-addr"),
    "ip": named("pve-ipv4-config"),
    "ip6": named("pve-ipv6-config"),
    "link_down": boolean(),
    "mtu": integer(64, 65535),
    "rate": number(),
    "tag": integer(1, 4094),
    "trunks": matching(VLANS),
    "type": one_of("veth"),
}
FEATURES: Grammar = {
    **{name: boolean() for name in ("force_rw_sys", "fuse", "keyctl", "mknod", "nesting")},
    "mount": matching(r"[a-zA-Z0-9_; ]+"),
}
DEVICE: Grammar = {
    "path": named("pve-lxc-dev-string", default_key=True),
    "deny-write": boolean(since=(8, 3)),
    "gid": integer(0),
    "mode": matching(r"0[0-7]{3}"),
    "uid": integer(0),
}
LOCKS = [
    "backup",
    "create",
    "destroyed",
    "disk",
    "fstrim",
    "migrate",
    "mounted",
    "rollback",
    "snapshot",
    "snapshot-delete",
]
SYSTEMS = [
    "debian",
    "devuan",
    "ubuntu",
    "centos",
    "fedora",
    "opensuse",
    "archlinux",
    "alpine",
    "gentoo",
    "nixos",
    "unmanaged",
]

MOUNTS: Table = indexed("mp", LAST_MOUNT, named(MOUNT))
CONFIG: Table = {
    "arch": one_of("amd64", "i386", "arm64", "armhf", "riscv32", "riscv64"),
    "cmode": one_of("shell", "console", "tty"),
    "console": boolean(),
    "cores": integer(1, 8192),
    "cpulimit": number(0, 8192),
    "cpuunits": integer(0, 500000),
    "debug": boolean(),
    "description": text(8192),
    **indexed("dev", 255, named(DEVICE, since=(8, 2))),
    "entrypoint": matching(rf"{PRINTED}+", since=(9, 1)),
    "env": matching(rf"\w+={PRINTED}*(?:\x00\w+={PRINTED}*)*", since=(9, 1)),
    "features": named(FEATURES),
    "hookscript": named("pve-volume-id"),
    "hostname": named("dns-name", max_length=255),
    "lock": one_of(*LOCKS),
    "memory": integer(16),
    **MOUNTS,
    "nameserver": named("address-list"),
    **indexed("net", 31, named(NET)),
    "onboot": boolean(),
    "ostype": one_of(*SYSTEMS),
    "protection": boolean(),
    "rootfs": named(VOLUME),
    "searchdomain": text(),
    "startup": named("pve-startup-order"),
    "swap": integer(0),
    "tags": named("pve-tag-list"),
    "template": boolean(),
    "timezone": text(),
    "tty": integer(0, 6),
    "unprivileged": boolean(),
    **indexed("unused", 255, named({"volume": Param(format="pve-volume-id", default_key=True, optional=False)})),
}
CREATE: Table = {
    **CONFIG,
    "vmid": integer(100, 999999999, format="pve-vmid", optional=False),
    "ostemplate": text(255, optional=False),
    "bwlimit": number(0),
    "force": boolean(),
    "ha-managed": boolean(since=(9, 1)),
    "ignore-unpack-errors": boolean(),
    "password": text(min_length=5),
    "pool": named("pve-poolid"),
    "restore": boolean(),
    "ssh-public-keys": text(),
    "start": boolean(),
    "storage": named("pve-storage-id"),
    "unique": boolean(requires="restore"),
}
