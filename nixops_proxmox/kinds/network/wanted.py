"""What a description makes of PVE's zone, vnet and subnet, and how that differs from what is there."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nixops_proxmox.spec.virtual_network import VirtualNetwork

Section = Mapping[str, Any]


@dataclass(frozen=True)
class Seen:
    """What there is of it. `gone`: it is deleted, and that is not applied. `behind`: node → how it stands there."""

    zone: Section | None = None
    vnet: Section | None = None
    subnets: Mapping[str, Section] | None = None
    named: bool = False  # a bridge, of which nothing is made
    gone: bool = False
    locked: bool = False  # a run that was cut off has left its lock
    waiting: tuple[str, ...] = ()  # of it, what is not applied
    behind: Mapping[str, str] | None = None


def zone_of(spec: VirtualNetwork) -> dict[str, Any]:
    """The zone that is the vnet's own."""
    found: dict[str, Any] = {"type": "vlan", "bridge": spec.bridge} if spec.bridge else {"type": "simple"}
    if spec.nodes:
        found["nodes"] = ",".join(sorted(spec.nodes))
    if spec.subnet is not None:
        found["ipam"] = "pve"
    if spec.has_dhcp:
        found["dhcp"] = "dnsmasq"
    return found


def vnet_of(spec: VirtualNetwork, mark: str) -> dict[str, Any]:
    found: dict[str, Any] = {"zone": spec.zone_id, "alias": mark}
    if spec.vlan is not None:
        found["tag"] = spec.vlan
    if spec.isolate_ports:
        found["isolate-ports"] = 1
    return found


def subnet_of(spec: VirtualNetwork) -> dict[str, Any]:
    found: dict[str, Any] = {"gateway": spec.gateway, "dhcp-dns-server": spec.dns, "snat": 1 if spec.snat else None}
    if spec.has_dhcp:
        found["dhcp-range"] = [f"start-address={spec.dhcp_from},end-address={spec.dhcp_to}"]
    return {
        key: value if isinstance(value, int | list) else str(value) for key, value in found.items() if value is not None
    }


def subnet_id(spec: VirtualNetwork) -> str:
    return f"{spec.zone_id}-{(spec.subnet or '').replace('/', '-')}"


def plain(key: str, value: Any) -> str:
    """PVE shows ranges as objects, lists as texts, and numbers either way."""
    if key == "dhcp-range":
        ranges = value if isinstance(value, list) else [value]
        return ";".join(
            ",".join(f"{name}={one[name]}" for name in ("start-address", "end-address")) if isinstance(one, Mapping)
            else str(one) for one in ranges
        )  # fmt: skip
    return ",".join(sorted(str(value).split(","))) if key == "nodes" else str(value)


OPTIONAL = ("nodes", "dhcp", "ipam", "gateway", "dhcp-range", "dhcp-dns-server", "snat", "isolate-ports")


def unlike(wanted: Section, have: Section) -> dict[str, tuple[str, str]]:
    """What there is and what it becomes, by PVE's key. What PVE has beyond our keys is no difference."""
    found = {
        key: (plain(key, have[key]) if key in have else "", plain(key, value))
        for key, value in wanted.items()
        if plain(key, have.get(key, "")) != plain(key, value)
    }
    gone = {key: (plain(key, have[key]), "") for key in OPTIONAL if key not in wanted and is_set(have.get(key))}
    return {**found, **gone}


def is_set(value: Any) -> bool:
    return value not in (None, "", 0, "0", [])


def differences(spec: VirtualNetwork, seen: Seen, mark: str) -> Iterator[str]:
    """A line each."""
    if seen.named:
        return
    if seen.locked:
        yield "a run that was cut off may still hold the lock of SDN"
    if seen.gone:
        yield f"what there was of the vnet {spec.vnet} is deleted, and that is not applied"
        return
    if spec.zone is None:
        yield from _lines(f"zone {spec.zone_id}", zone_of(spec), seen.zone)
    yield from _lines(f"vnet {spec.vnet}", vnet_of(spec, mark), seen.vnet)
    if spec.subnet is not None:
        yield from _lines(f"subnet {spec.subnet}", subnet_of(spec), (seen.subnets or {}).get(subnet_id(spec)))
    yield from (f"{name} waits to be applied" for name in seen.waiting)
    for node, status in sorted((seen.behind or {}).items()):
        yield f"{node} has not taken it over: {status}"


def _lines(what: str, wanted: Section, have: Section | None) -> Iterator[str]:
    if have is None:
        yield f"{what} is missing"
        return
    for key, (before, after) in unlike(wanted, have).items():
        yield f"{what}: {re.sub('-', ' ', key)} {before or 'unset'} becomes {after or 'unset'}"
