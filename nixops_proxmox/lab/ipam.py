"""PVE's own address book (PVE::Network::SDN::Ipams::PVEPlugin): zone → subnet → address → who has it.

It is written at once: nothing of it waits to be applied.
"""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nixops_proxmox.lab.refusals import Refused, bad_parameter, die
from nixops_proxmox.lab.schema import properties
from nixops_proxmox.lab.sdn import Sdn, Section

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Range = tuple[Address, Address]


def cidr_of(subnet: str) -> str:
    """lan-10.0.0.0-24 → 10.0.0.0/24"""
    _, network, mask = subnet.split("-")
    return f"{network}/{mask}"


def ranges_of(section: Mapping[str, Any]) -> list[dict[str, str]]:
    return [properties.split(one) for one in section.get("dhcp-range", [])]


def check_subnet(sdn: Sdn, name: str) -> None:
    """What PVE looks at when a subnet is written."""
    section = sdn.configured["subnets"][name]
    cidr = cidr_of(name)
    network = ipaddress.ip_network(cidr, strict=False)
    vnet = sdn.configured["vnets"].get(section["vnet"])
    if vnet is None:
        raise bad_parameter("vnet", f"{section['vnet']} don't exist")
    if vnet.get("vlanaware"):
        raise bad_parameter("vnet", "you can't add a subnet on a vlanaware vnet")
    gateway = section.get("gateway")
    if gateway and ipaddress.ip_address(gateway) not in network and network.prefixlen != 32:
        raise bad_parameter("gateway", f"{gateway} is not in subnet {cidr}")
    _check_ranges(section, cidr)


def _check_ranges(section: Section, cidr: str) -> None:
    network = ipaddress.ip_network(cidr, strict=False)
    known: list[Range] = []
    for one in ranges_of(section):
        start, end = (_address(one.get(key, ""), key) for key in ("start-address", "end-address"))
        if int(start) > int(end):
            raise bad_parameter("dhcp-range", f"start-address {start} must be smaller than end-address {end}")
        for key, address in (("start-address", start), ("end-address", end)):
            if address not in network:
                raise bad_parameter("dhcp-range", f"{key} {address} is not in subnet {cidr}")
        if any(int(start) <= int(last) and int(first) <= int(end) for first, last in known):
            raise bad_parameter("dhcp-range", "dhcp ranges must not overlap")
        known.append((start, end))


def _address(text: str, key: str) -> Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise bad_parameter("dhcp-range", f"{key} is not a valid IP {text}") from None


@dataclass
class Ipam:
    """`zones`: zone → CIDR → address → {mac, vmid, hostname} or {gateway: 1}."""

    zones: dict[str, dict[str, dict[str, Section]]] = field(default_factory=dict)

    def subnet(self, zone: str, cidr: str) -> dict[str, Section]:
        if zone not in self.zones:
            die(f"zone '{zone}' doesn't exist in IPAM DB")
        if cidr not in self.zones[zone]:
            die(f"subnet '{cidr}' doesn't exist in IPAM DB")
        return self.zones[zone][cidr]

    def follow(self, zone: str, name: str, section: Section, before: Section | None = None) -> None:
        """A subnet that is written is known here at once, and its gateway is taken."""
        ips = self.zones.setdefault(zone, {}).setdefault(cidr_of(name), {})
        old, new = (before or {}).get("gateway"), section.get("gateway")
        if old and old != new:
            ips.pop(old, None)
        if new and new != old:
            if new in ips and "gateway" not in ips[new]:
                die(f"IP '{new}' already exist")
            ips[new] = {"gateway": 1}

    def remove_subnet(self, zone: str, cidr: str) -> None:
        ips = self.subnet(zone, cidr)
        if any("gateway" not in one for one in ips.values()) or len(ips) > 1:
            die(f"cannot delete subnet '{cidr}', not empty")
        del self.zones[zone][cidr]

    def add(self, zone: str, cidr: str, ip: str, entry: Section) -> None:
        ips = self.subnet(zone, cidr)
        if ip in ips:
            die(f"IP '{ip}' already exist")
        ips[ip] = entry

    def remove(self, zone: str, cidr: str, ip: str) -> None:
        ips = self.subnet(zone, cidr)
        if ip not in ips:
            die(f"IP '{ip}' does not exist in IPAM DB")
        del ips[ip]

    def next_free(self, zone: str, cidr: str, section: Section, entry: Section) -> str:
        """The first free address of the DHCP ranges."""
        ips = self.subnet(zone, cidr)
        for one in ranges_of(section):
            start, end = (ipaddress.ip_address(one[key]) for key in ("start-address", "end-address"))
            for number in range(int(start), int(end) + 1):
                text = str(type(start)(number))
                if text not in ips:
                    ips[text] = entry
                    return text
            die(f"No free IP left in Range {start}:{end}}}")
        return ""

    def of_mac(self, zone: str, mac: str) -> list[tuple[str, str]]:
        """(CIDR, address) of a MAC in a zone."""
        subnets = self.zones.get(zone, {})
        return [
            (cidr, ip) for cidr, ips in subnets.items() for ip, one in ips.items() if one.get("mac", "").upper() == mac
        ]

    def forget(self, vmid: int, macs: Sequence[str]) -> None:
        """What a VM that is gone has held: PVE goes by the MACs of its NICs."""
        held = {mac.upper() for mac in macs if mac}
        for subnets in self.zones.values():
            for ips in subnets.values():
                for ip in [
                    ip for ip, one in ips.items() if one.get("vmid") == vmid or one.get("mac", "").upper() in held
                ]:
                    del ips[ip]

    def entries(self) -> Iterator[tuple[str, str, str, Section]]:
        for zone, subnets in self.zones.items():
            for cidr, ips in subnets.items():
                for ip, entry in ips.items():
                    yield zone, cidr, ip, entry


def find_subnet(sdn: Sdn, vnet: str, ip: str) -> tuple[str, str]:
    """The zone and the CIDR of an address of a vnet that runs."""
    address = ipaddress.ip_address(ip)
    every = [cidr_of(name) for name in sorted(sdn.subnets_of(vnet, sdn.running))]
    cidr = next((one for one in every if address in ipaddress.ip_network(one, strict=False)), None)
    if cidr is not None:
        return sdn.get("vnets", vnet)["zone"], cidr
    return die(f"can't find any subnet for ip {ip}")


def take(sdn: Sdn, ipam: Ipam, vnet: str, mac: str, vmid: int, hostname: str) -> list[str]:
    """The next free address of each family, for a NIC that appears on a vnet; texts of what failed."""
    zone = sdn.zone_of(vnet)
    section = sdn.running["zones"].get(zone, {})
    if not section.get("ipam") or not section.get("dhcp"):
        return []
    problems: list[str] = []
    done: set[int] = set()
    for name, subnet in sorted(sdn.subnets_of(vnet, sdn.running).items()):
        family = ipaddress.ip_network(cidr_of(name), strict=False).version
        if family in done or not subnet.get("dhcp-range"):
            continue
        try:
            entry = {"mac": mac, "vmid": vmid, "hostname": hostname}
            if ipam.next_free(zone, cidr_of(name), subnet, entry):
                done.add(family)
        except Refused as refusal:
            problems.append(refusal.text)
    return problems


def give_back(sdn: Sdn, ipam: Ipam, vnet: str, mac: str) -> None:
    zone = sdn.zone_of(vnet)
    for cidr, ip in ipam.of_mac(zone, mac):
        ipam.remove(zone, cidr, ip)
