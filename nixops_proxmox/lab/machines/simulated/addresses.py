"""Which addresses a simulated guest has: leases, SLAAC and declared ones, and interfaces that lead nowhere."""

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nixops_proxmox.lab.machines.base import NicSlot
from nixops_proxmox.lab.network import Subnet, subnet

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True)
class Nic:
    """An interface as the guest has it. `bridge` is empty for one that the guest made itself."""

    name: str
    mac: str  # lower case, as Linux prints it
    addresses: tuple[Interface, ...]
    bridge: str = ""
    tag: int = 0
    link_down: bool = False
    gateways: tuple[str, ...] = field(default=())


class Leases:
    """A DHCP server's memory: an address for each client, the same as long as no other client needs it."""

    def __init__(self) -> None:
        self._by_client: dict[tuple[Subnet, str], ipaddress.IPv4Address] = {}
        self._taken: dict[ipaddress.IPv4Address, str] = {}

    def lease(self, net: Subnet, client: str) -> ipaddress.IPv4Interface | None:
        """.50 up to the end of the net, starting where the client's hash points. None: there is no server."""
        if net.v4 is None or net.silent:
            return None
        known = self._by_client.get((net, client))
        if known is None:
            room = net.v4.num_addresses - 52
            start = int.from_bytes(hashlib.sha256(client.encode()).digest()[:4], "big") % room
            free = (net.v4[50 + (start + step) % room] for step in range(room))
            known = next((address for address in free if address not in self._taken), None)
            if known is None:
                return None
            self._by_client[net, client] = known
            self._taken[known] = client
        return ipaddress.IPv4Interface(f"{known}/{net.v4.prefixlen}")


def eui64(prefix: ipaddress.IPv6Network, mac: str) -> ipaddress.IPv6Interface:
    """RFC 4291, appendix A."""
    octets = bytearray.fromhex(mac.replace(":", ""))
    octets[0] ^= 2
    host = int.from_bytes(octets[:3] + b"\xff\xfe" + octets[3:], "big")
    return ipaddress.IPv6Interface(f"{prefix[host]}/{prefix.prefixlen}")


def stable_private(prefix: ipaddress.IPv6Network, mac: str, secret: str) -> ipaddress.IPv6Interface:
    """In the manner of RFC 7217: another address than the installer's, the same at every boot."""
    host = int.from_bytes(hashlib.sha256(f"{prefix} {mac} {secret}".encode()).digest()[:8], "big") & ~(3 << 56)
    return ipaddress.IPv6Interface(f"{prefix[host]}/{prefix.prefixlen}")


def plan(
    slots: Sequence[NicSlot], leases: Leases, declared: Mapping[str, Any], *, installer: bool, renew: bool, decoys: bool
) -> list[Nic]:
    """All interfaces but `lo`. `declared` is network.json; `renew`: the installed system's DHCP and SLAAC identity
    is not the installer's."""
    nics = []
    for number, slot in enumerate(slots):
        name, mac = f"eth{number}", slot.mac.lower()
        said = {} if installer else find_declared(declared, name, mac)
        net = subnet(slot.bridge, slot.tag)
        identity = f"{mac}/{'installed' if renew and not installer else 'live'}"
        found: list[Interface] = [*ipv4(net, leases, identity, said), *ipv6(net, mac, identity, said)]
        found.append(eui64(ipaddress.IPv6Network("fe80::/64"), mac))
        gateways = tuple(str(said[key]) for key in ("gateway4", "gateway6") if said.get(key))
        nics.append(Nic(name, mac, tuple(found), slot.bridge, slot.tag, slot.link_down, gateways))
    return nics + (decoy_nics() if decoys and not installer else [])


def declared_by_host(slots: Sequence[NicSlot]) -> Mapping[str, Any]:
    """What PVE tells a container's network, as network.json would say it. Nothing said: no address."""
    interfaces = []
    for slot in slots:
        said = dict(slot.options)
        entry = {"mac": slot.mac.lower(), "ipv4": said.get("ip", "none"), "ipv6": said.get("ip6", "none")}
        entry = {key: "none" if value == "manual" else value for key, value in entry.items()}
        interfaces.append({**entry, "gateway4": said.get("gw", ""), "gateway6": said.get("gw6", "")})
    return {"interfaces": interfaces}


def find_declared(declared: Mapping[str, Any], name: str, mac: str) -> Mapping[str, Any]:
    for entry in declared.get("interfaces", ()):
        if str(entry.get("mac", "")).lower() == mac or entry.get("name") == name:
            return entry  # type: ignore[no-any-return]
    return {}


def ipv4(net: Subnet, leases: Leases, identity: str, said: Mapping[str, Any]) -> Iterable[ipaddress.IPv4Interface]:
    wanted = said.get("ipv4", "dhcp")
    if wanted not in ("dhcp", "auto", "none"):
        yield ipaddress.IPv4Interface(wanted)
    elif wanted != "none" and (lease := leases.lease(net, identity)) is not None:
        yield lease


def ipv6(net: Subnet, mac: str, identity: str, said: Mapping[str, Any]) -> Iterable[ipaddress.IPv6Interface]:
    wanted = said.get("ipv6", "auto")
    if wanted not in ("auto", "dhcp", "none"):
        yield ipaddress.IPv6Interface(wanted)
    elif wanted != "none" and not net.silent:
        for prefix in net.v6:
            live = identity.endswith("/live")
            yield eui64(prefix, mac) if live else stable_private(prefix, mac, identity)


def decoy_nics() -> list[Nic]:
    """What Docker and Tailscale leave on a server: addresses that are this machine's on no network but its own."""
    docker = (ipaddress.IPv4Interface("172.17.0.1/16"), ipaddress.IPv6Interface("fe80::42:d0ff:fe00:1/64"))
    tailscale = (ipaddress.IPv4Interface("100.101.102.103/32"), ipaddress.IPv6Interface("fd7a:115c:a1e0::6765/128"))
    return [Nic("docker0", "02:42:d0:00:00:01", docker), Nic("tailscale0", "00:00:00:00:00:00", tailscale)]


def qga_interfaces(nics: Sequence[Nic]) -> list[dict[str, Any]]:
    """`guest-network-get-interfaces`: `lo` first; an interface without an address has no `ip-addresses` key."""
    loopback = ipaddress.IPv4Interface("127.0.0.1/8"), ipaddress.IPv6Interface("::1/128")
    listed = [Nic("lo", "00:00:00:00:00:00", loopback), *nics]
    return [qga_interface(nic) for nic in listed]


def qga_interface(nic: Nic) -> dict[str, Any]:
    told: dict[str, Any] = {"name": nic.name, "hardware-address": nic.mac}
    addresses = () if nic.link_down else nic.addresses
    if addresses:
        told["ip-addresses"] = [
            {"ip-address": str(a.ip), "ip-address-type": f"ipv{a.version}", "prefix": a.network.prefixlen}
            for a in addresses
        ]
    counters = ("rx-bytes", "rx-packets", "rx-errs", "rx-dropped", "tx-bytes", "tx-packets", "tx-errs", "tx-dropped")
    told["statistics"] = dict.fromkeys(counters, 0)
    return told
