"""VyOS, by its HTTP API: a change of many entries is one commit, which lasts beyond a restart when it is saved.

A static mapping has our mark in its name. A name in DNS is a static host mapping, which has the mark as an alias.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from nixops_proxmox.errors import ConfigError, RouterError
from nixops_proxmox.routers.profile import RouterProfile
from nixops_proxmox.routers.reservation import Reservation, choose_subnet
from nixops_proxmox.routers.vyos_api import VyosApi
from nixops_proxmox.routers.vyos_routing import VyosRouting

MARK = "nixops-"  # how the names of our mappings begin
SERVERS = {4: ("service", "dhcp-server"), 6: ("service", "dhcpv6-server")}
LEAF = {4: "ip-address", 6: "ipv6-address"}
HOSTS = ("system", "static-host-mapping", "host-name")

Found = tuple[tuple[str, ...], Reservation]  # where it is, and one part of it


class Vyos:
    """`network`: the shared network. `version`: of VyOS; without it, the router is asked."""

    marks = True

    def __init__(self, profile: RouterProfile) -> None:
        self._profile, self._network = profile, profile.setting("network")
        self._api = VyosApi(profile)
        self.routing = VyosRouting(self._api)

    def close(self) -> None:
        self._api.web.close()

    def read(self) -> Sequence[Reservation]:
        """What belongs to one owner is one entry."""
        if not self._network:
            raise ConfigError(
                f"{self._profile.title}: `network` must name the shared network of VyOS's DHCP server",
                hint="reservations need it in routers.toml",
            )
        found: dict[str, Reservation] = {}
        for place, part in self._parts():
            key = part.owner or " ".join(place)
            before = found.get(key)
            found[key] = part if before is None else before.joined(part)
        return list(found.values())

    def agrees(self, have: Reservation, want: Reservation) -> bool:
        return have == self._fitted(want)

    def put(self, wanted: Sequence[Reservation]) -> None:
        """Safe to repeat: what is there as it should be is in no operation. Up to 1.4, a commit may fail without a
        word, so we look."""
        with self._api.lock:
            self._put(wanted)

    def _put(self, wanted: Sequence[Reservation]) -> None:
        there = self.read()
        self._change([one for one in wanted if self._fitted(one) not in there])
        there = self.read()
        missing = [one.owner for one in wanted if self._fitted(one) not in there]
        if missing:
            raise RouterError(
                f"{self._profile.title}: it took the change, and does not have {', '.join(missing)}",
                hint="its log says why: `show log` on the router",
            )

    def drop(self, gone: Sequence[Reservation]) -> None:
        owners = {one.owner for one in gone}
        with self._api.lock:
            places = [place for place, one in self._parts() if one.owner in owners]
            self._api.configure([{"op": "delete", "path": list(place)} for place in places])

    def settle(self) -> None:
        """Safe to repeat: it saves what is running."""
        self._api.call("/config-file", {"op": "save"})

    # What there is.

    def _parts(self) -> Iterator[Found]:
        for family, (section, server) in SERVERS.items():
            path = (section, server, "shared-network-name")
            for network, subnet, settings in _subnets(self._api.show(*path)):
                for name, mapping in settings.get("static-mapping", {}).items():
                    place = (*path, network, "subnet", subnet, "static-mapping", name)
                    yield place, _parse(name, mapping, family)
        for name, mapping in self._api.show(*HOSTS).items():
            aliases = _values(mapping.get("alias"))
            owner = next((owner for owner in map(_owner_of, aliases) if owner), "")
            if owner:
                yield (*HOSTS, name), Reservation(owner, "", hostname=name)

    def _fitted(self, one: Reservation) -> Reservation:
        """As it can be there: 1.3 tells clients of DHCPv6 by other means than MACs."""
        return Reservation(one.owner, one.mac, one.ipv4, "" if self._api.release() == "1.3" else one.ipv6, one.hostname)

    # What is done.

    def _change(self, wanted: Sequence[Reservation]) -> None:
        """Delete what they have, and set all of it, in one commit: they may have changed their addresses with one
        another."""
        owners = {one.owner for one in wanted}
        operations = [{"op": "delete", "path": list(place)} for place, part in self._parts() if part.owner in owners]
        subnets = cache(self._subnets_of)  # asked once for all of them
        for one in map(self._fitted, wanted):
            operations += [{"op": "set", "path": path} for path in self._paths(one, subnets)]
        self._api.configure(operations)

    def _paths(self, one: Reservation, subnets: Callable[[int], Sequence[str]]) -> Iterator[list[str]]:
        mac = "mac" if self._api.release() == "1.5" else "mac-address"
        for family, address in ((4, one.ipv4), (6, one.ipv6)):
            if address:
                where = f" in the network {self._network}"
                subnet = choose_subnet(one, address, subnets(family), self._profile.title, where)
                place = [*self._network_of(family), "subnet", subnet, "static-mapping", _name_of(one.owner)]
                yield [*place, mac, one.mac]
                yield [*place, LEAF[family], address]
        if one.hostname:
            addresses = [address for address in (one.ipv4, one.ipv6) if address]
            for address in addresses[:1] if self._api.release() == "1.3" else addresses:
                yield [*HOSTS, one.hostname, "inet", address]
            yield [*HOSTS, one.hostname, "alias", _name_of(one.owner)]

    def _network_of(self, family: int) -> tuple[str, ...]:
        return (*SERVERS[family], "shared-network-name", self._network)

    def _subnets_of(self, family: int) -> Sequence[str]:
        return list(self._api.show(*self._network_of(family), "subnet"))


def _subnets(networks: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for network, one in networks.items():
        for subnet, settings in one.get("subnet", {}).items():
            yield network, subnet, settings


def _parse(name: str, mapping: Mapping[str, Any], family: int) -> Reservation:
    mac = str(mapping.get("mac") or mapping.get("mac-address") or "").lower()
    address, owner = str(mapping.get(LEAF[family], "")), _owner_of(name)
    v4, v6 = (address, "") if family == 4 else ("", address)
    return Reservation(owner, mac, v4, v6, "" if owner else name)


def _values(leaf: object) -> list[str]:
    return [str(one) for one in leaf] if isinstance(leaf, list) else [] if leaf is None else [str(leaf)]


def _name_of(owner: str) -> str:
    """Letters, digits, dots and hyphens stay; `_2f` is the slash."""
    return MARK + re.sub(r"[^A-Za-z0-9.-]", lambda found: f"_{ord(found[0]):02x}", owner)


def _owner_of(name: str) -> str:
    if not name.startswith(MARK):
        return ""
    return re.sub(r"_([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), name.removeprefix(MARK))
