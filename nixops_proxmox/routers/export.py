"""Reservations as files for DHCP servers, routers and name servers: pure text, and nothing is asked."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.routers.reservation import Reservation

VYOS = ("1.3", "1.4", "1.5")
MARK = "nixops-proxmox"


@dataclass(frozen=True)
class Surroundings:
    """What the formats of some routers need to know beside the machines. `network`: VyOS's shared network. `vyos`: its
    release, as `1.4`. `domain`: behind names that have none."""

    subnets: Sequence[IPv4Network | IPv6Network] = ()
    network: str = ""
    vyos: str = "1.4"
    domain: str = ""

    def subnet_of(self, address: str, what: str) -> str:
        """ConfigError if there is none."""
        found = next((str(one) for one in self.subnets if ip_address(address) in one), "")
        if not found:
            raise ConfigError(f"{what}: the format needs the subnet of {address}", hint="name it with --subnet")
        return found


def export(kind: str, wanted: Sequence[Reservation], around: Surroundings) -> str:
    """The text in that format. Without addresses, a machine is left out where they are all that the format says."""
    return FORMATS[kind](sorted(wanted), around)


def _dnsmasq(wanted: Sequence[Reservation], around: Surroundings) -> str:
    """As `dhcp-hostsfile` reads it."""
    del around
    return _text(_dnsmasq_line(one) for one in wanted)


def _dnsmasq_line(one: Reservation) -> str:
    parts = [one.mac, one.ipv4, f"[{one.ipv6}]" if one.ipv6 else "", one.label]
    return ",".join(part for part in parts if part)


def _kea(wanted: Sequence[Reservation], around: Surroundings) -> str:
    """Parts of Kea's configuration: move each list into its subnet, or switch reservations-global on."""
    del around
    families: dict[str, list[dict[str, Any]]] = {"Dhcp4": [], "Dhcp6": []}
    for one in wanted:
        common = {"hw-address": one.mac, "hostname": one.hostname, "user-context": {MARK: one.owner}}
        if one.ipv4:
            families["Dhcp4"].append({**common, "ip-address": one.ipv4})
        if one.ipv6:
            families["Dhcp6"].append({**common, "ip-addresses": [one.ipv6]})
    found = {name: {"reservations": entries} for name, entries in families.items() if entries}
    return json.dumps(found, indent=2) + "\n"


def _isc(wanted: Sequence[Reservation], around: Surroundings) -> str:
    del around
    lines = []
    for one in wanted:
        head = f"hardware ethernet {one.mac};"
        name = f'option host-name "{one.label}";'
        if one.ipv4:
            lines.append(f"host {one.key} {{ {head} fixed-address {one.ipv4}; {name} }}")
        if one.ipv6:
            lines.append(f"host {one.key}-v6 {{ {head} fixed-address6 {one.ipv6}; }}")
    return _text(lines)


def _opnsense(wanted: Sequence[Reservation], around: Surroundings) -> str:
    """As Services > Kea DHCP > Reservations imports it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["subnet", "ip_address", "hw_address", "hostname", "description"])
    for one in wanted:
        if one.ipv4:
            row = [one.ipv4, one.mac, one.label, f"{MARK}:{one.owner}"]
            writer.writerow([around.subnet_of(one.ipv4, one.owner), *row])
    return out.getvalue()


def _vyos(wanted: Sequence[Reservation], around: Surroundings) -> str:
    """Commands of the configuration mode. From 1.5 on, the MAC is called `mac`."""
    if not around.network:
        raise ConfigError("the format vyos needs the name of the shared network", hint="name it with --network")
    if around.vyos not in VYOS:
        raise ConfigError(f"VyOS {around.vyos} is not known", hint=f"known releases: {', '.join(VYOS)}")
    leaf = "mac" if around.vyos == "1.5" else "mac-address"
    lines = []
    for one in wanted:
        if one.ipv4:
            place = f"set service dhcp-server shared-network-name {around.network}"
            place += f" subnet {around.subnet_of(one.ipv4, one.owner)} static-mapping {one.key}"
            lines += [f"{place} {leaf} {one.mac}", f"{place} ip-address {one.ipv4}"]
        if one.ipv6 and around.vyos != "1.3":  # 1.3 knows DUIDs only
            place = f"set service dhcpv6-server shared-network-name {around.network}"
            place += f" subnet {around.subnet_of(one.ipv6, one.owner)} static-mapping {one.key}"
            lines += [f"{place} {leaf} {one.mac}", f"{place} ipv6-address {one.ipv6}"]
    return _text(lines)


def _hosts(wanted: Sequence[Reservation], around: Surroundings) -> str:
    lines = []
    for one in wanted:
        names = dict.fromkeys([one.full_name(around.domain), one.label])
        lines += [f"{address} {' '.join(names)}" for address in (one.ipv4, one.ipv6) if address]
    return _text(lines)


def _unbound(wanted: Sequence[Reservation], around: Surroundings) -> str:
    lines = ["server:"]
    for one in wanted:
        name = one.full_name(around.domain)
        for kind, address in (("A", one.ipv4), ("AAAA", one.ipv6)):
            if address:
                lines += [f'  local-data: "{name}. IN {kind} {address}"', f'  local-data-ptr: "{address} {name}"']
    return _text(lines)


def _text(lines: Any) -> str:
    return "".join(f"{line}\n" for line in lines)


FORMATS: Mapping[str, Callable[[Sequence[Reservation], Surroundings], str]] = {
    "dnsmasq": _dnsmasq,
    "kea": _kea,
    "isc": _isc,
    "opnsense-csv": _opnsense,
    "vyos": _vyos,
    "hosts": _hosts,
    "unbound": _unbound,
}
