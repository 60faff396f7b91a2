"""What cloud-init reads at a machine's first boot, from a CD of ours (its data source NoCloud): who the machine is."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nixops_proxmox.kinds.machine.iso_image import iso_image
from nixops_proxmox.model import Machine
from nixops_proxmox.spec import IpSpec, MachineSpec, Nic

LABEL = "cidata"  # by which cloud-init knows the CD
HEADER = "#cloud-config\n"
ANYWHERE = {"ipv4": "0.0.0.0/0", "ipv6": "::/0"}


def first_disc(machine: Machine, spec: MachineSpec, private: str, public: str, authorized: Sequence[str]) -> bytes:
    """The CD's image. It holds the machine's private host key."""
    files = {
        "meta-data": _json(meta_data(machine)),
        "user-data": HEADER + _json(user_data(spec, private, public, authorized)),
        "network-config": _json(network_config(machine, spec)),
    }
    return iso_image(LABEL, {name: text.encode() for name, text in files.items()})


def meta_data(machine: Machine) -> Mapping[str, str]:
    """The instance ID stays the same for as long as the machine: another one would make cloud-init do it all again."""
    return {"instance-id": machine.facts.uuid, "local-hostname": machine.name}


def user_data(spec: MachineSpec, private: str, public: str, authorized: Sequence[str]) -> Mapping[str, Any]:
    """JSON is YAML, too. The host key is ours: cloud-init makes none beside it, and is told to remove none."""
    return {
        "ssh_deletekeys": False,
        "ssh_keys": {"ed25519_private": private, "ed25519_public": f"{public.strip()}\n"},
        "disable_root": spec.ssh.user != "root",
        "users": _users(spec, [key.strip() for key in authorized]),
        "growpart": {"mode": "auto", "devices": ["/"]},
        "resize_rootfs": True,
        "package_update": False,
        "package_upgrade": False,
    }


def _users(spec: MachineSpec, keys: Sequence[str]) -> list[Any]:
    user: dict[str, Any] = {"name": spec.ssh.user, "ssh_authorized_keys": list(keys)}
    if spec.ssh.user == "root":
        return ["default", user]
    return ["default", user | {"lock_passwd": True, "shell": "/bin/bash", "sudo": "ALL=(ALL) NOPASSWD:ALL"}]


def network_config(machine: Machine, spec: MachineSpec) -> Mapping[str, Any]:
    """Version 2. NICs are told apart by their MACs, and named as PVE's own drive names them: what renders this into an
    older system's files has only the names."""
    nics = zip(machine.facts.macs, spec.network, strict=False)
    return {
        "version": 2,
        "ethernets": {f"eth{number}": _ethernet(f"eth{number}", *nic) for number, nic in enumerate(nics)},
    }


def _ethernet(name: str, mac: str, nic: Nic) -> dict[str, Any]:
    told: dict[str, Any] = {"match": {"macaddress": mac.lower()}, "set-name": name}
    told |= {"dhcp4": nic.ipv4.method == "dhcp", "dhcp6": nic.ipv6.method == "dhcp"}
    told["accept-ra"] = nic.is_advertised
    families = (("ipv4", nic.ipv4), ("ipv6", nic.ipv6))
    if addresses := [f"{ip.address}/{ip.prefix}" for _, ip in families if ip.method == "static"]:
        told["addresses"] = addresses
    if routes := [_route(family, ip) for family, ip in families if ip.method == "static" and ip.gateway is not None]:
        told["routes"] = routes
    servers = {"addresses": [str(server) for server in nic.dns], "search": list(nic.search)}
    if any(servers.values()):
        told["nameservers"] = {key: value for key, value in servers.items() if value}
    return told


def _route(family: str, ip: IpSpec) -> dict[str, str]:
    return {"to": ANYWHERE[family], "via": str(ip.gateway)}


def _json(value: object) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"
