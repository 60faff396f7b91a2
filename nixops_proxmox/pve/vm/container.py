"""Pure: what a description asks for, as the parameters of PVE's calls for a container."""

import re
from collections.abc import Iterator, Mapping, Sequence

from nixops_proxmox.pve.vm.identity import Identity, notes_with_mark
from nixops_proxmox.pve.vm.requests import dns_name, wanted_tags
from nixops_proxmox.pve.wire.calls import Value
from nixops_proxmox.pve.wire.properties import gib, parse_properties, parse_size, print_properties, storage_of
from nixops_proxmox.spec import ContainerSpec, IpSpec, MachineSpec, MountSpec, Nic
from nixops_proxmox.spec.volume import PLACE

ROOT = "rootfs"
BRIDGES_MTU = 1  # what VMs may say; a container takes the bridge's by itself


def create_params(
    spec: MachineSpec, container: ContainerSpec, identity: Identity, template: str, keys: Sequence[str]
) -> dict[str, Value]:
    """POST /nodes/{node}/lxc. Unprivileged, always: before 9.0, PVE's own default is not. `keys`: who may log in first;
    PVE never tells them again."""
    params: dict[str, Value] = {
        "vmid": identity.vmid,
        "ostemplate": template,
        "ostype": "nixos",
        "unprivileged": True,
        "ssh-public-keys": "\n".join(keys),
        ROOT: new_volume(container.root.storage, container.root.size),
    }
    params |= settings(spec, container, identity)
    params |= {mount.slot: new_mount(mount) for mount in container.mounts}
    params |= nets(spec, identity)
    return params | ({"pool": spec.pool} if spec.pool else {})


def settings(spec: MachineSpec, container: ContainerSpec, identity: Identity) -> dict[str, Value]:
    """Everything that is no volume and no NIC. What the description leaves unset is left out."""
    wanted: dict[str, Value] = {
        "hostname": dns_name(spec.name),
        "description": notes_with_mark(spec.description or "", identity.mark),
        "tags": ";".join(wanted_tags(spec)),
        "memory": spec.memory,
        "swap": container.swap,
        "cores": spec.cpu.cores,
        "cpulimit": spec.cpu.limit,
        "cpuunits": spec.cpu.units,
        "features": f"nesting={int(container.nesting)}",
        "onboot": spec.onboot,
        "startup": spec.startup,
        "protection": spec.protection,
        "nameserver": " ".join(spec.name_servers) or None,
        "searchdomain": " ".join(spec.search_domains) or None,
    }
    return {key: value for key, value in wanted.items() if value is not None}


def mounts_of(config: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The root and the mount points that a container has, by key."""
    keys = [key for key in config if re.fullmatch(r"rootfs|mp\d+", key)]
    return {key: parse_properties(config[key], "volume") for key in sorted(keys)}


def restored_volumes(config: Mapping[str, str], storages: Mapping[str, str] | None = None) -> dict[str, Value]:
    """What is made for a restore, by what the archive says: each volume where `storages` says by its key, or else where
    it was. Volumes that outlive the container are not in it; folders and devices of the node are root's own."""
    found: dict[str, Value] = {}
    for key, mount in mounts_of(config).items():
        there, size = storage_of(mount.get("volume", "")), parse_size(mount.get("size", "")) or 0
        if there and size and not mount.get("mp", "").startswith(PLACE):
            kept = {name: text for name, text in mount.items() if name not in ("volume", "size")}
            found[key] = print_properties(
                {**kept, "volume": new_volume((storages or {}).get(key, there), size)}, "volume"
            )
    return found


def unsaved_mounts(config: Mapping[str, str], archived: Mapping[str, str]) -> list[str]:
    """Mount points that a container has, whose data a restore would lose: the archive has nothing of them."""
    then = mounts_of(archived)
    return [
        f"{key} ({mount.get('mp', '')})"
        for key, mount in mounts_of(config).items()
        if key != ROOT and storage_of(mount.get("volume", "")) and not mount.get("mp", "").startswith(PLACE)
        if then.get(key, {}).get("backup", "0") != "1"
    ]


def new_volume(storage: str, size: int) -> str:
    """Allocation syntax: never for a volume that exists."""
    return f"{storage}:{gib(size)}"


def new_mount(mount: MountSpec) -> str:
    return print_properties({"volume": new_volume(mount.storage, mount.size)} | mount_options(mount), "volume")


def mount_options(mount: MountSpec) -> dict[str, str]:
    """What the description says of a mount point beside its volume."""
    found = {"mp": mount.path, "backup": _flag(mount.backup), "ro": _flag(mount.read_only)}
    return {key: value for key, value in found.items() if value is not None}


def nets(spec: MachineSpec, identity: Identity) -> dict[str, Value]:
    return {slot: print_net(options) for slot, options in net_options(spec, identity)}


def net_options(spec: MachineSpec, identity: Identity) -> Iterator[tuple[str, dict[str, str]]]:
    """By slot. In the container, the NIC of the slot net1 is eth1."""
    for index, nic in enumerate(spec.network):
        mac = identity.macs[index] if index < len(identity.macs) else nic.mac or ""
        yield nic.slot, _options(nic, mac)


def _options(nic: Nic, mac: str) -> dict[str, str]:
    found = {
        "name": f"eth{nic.slot.removeprefix('net')}",
        "bridge": nic.bridge,
        "hwaddr": mac.upper() or None,
        "firewall": _flag(nic.firewall),
        **_ip(nic.ipv4, "ip", "gw"),
        **_ip(nic.ipv6, "ip6", "gw6"),
        "mtu": None if nic.mtu in (None, BRIDGES_MTU) else str(nic.mtu),
        "rate": None if nic.rate is None else f"{nic.rate:g}",
        "tag": None if nic.tag is None else str(nic.tag),
        "trunks": ";".join(nic.trunks) or None,
        "type": "veth",
    }
    return {key: value for key, value in found.items() if value is not None}


def _ip(ip: IpSpec, address: str, gateway: str) -> dict[str, str | None]:
    """PVE writes the network's configuration into the container, at each start."""
    if ip.method == "none":
        return {address: "manual"}
    if ip.method != "static":
        return {address: ip.method}
    return {address: f"{ip.address}/{ip.prefix}", gateway: None if ip.gateway is None else str(ip.gateway)}


def print_net(options: dict[str, str]) -> str:
    return print_properties(options)


def _flag(value: bool | None) -> str | None:  # noqa: FBT001 -- what it converts
    return None if value is None else "1" if value else "0"
