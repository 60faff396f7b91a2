"""Who speaks to a stand-in, and whether its own rules and routes let that through."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network

from aiohttp import web

from nixops_proxmox.lab.routers.vyos_grammar import Tree, below, filter_rules, values

Row = dict[str, str]
Rows = dict[str, Row]  # by UUID
Answering = Callable[[web.Request], Awaitable[web.Response]]


@dataclass(frozen=True)
class Client:
    """`address`: ours, as VyOS sees it. `interface`: where we come in. `gateway`: by which it reaches us."""

    address: str = "192.0.2.10"
    interface: str = "eth0"
    port: int = 443

    def is_cut_off(self, tree: Tree) -> bool:
        """By a rule for what comes in, a forwarded port that was the API's, or a route that leads elsewhere."""
        return self._is_filtered(tree) or self._is_forwarded(tree) or self._is_routed_away(tree)

    def _is_filtered(self, tree: Tree) -> bool:
        for place, family, rule in filter_rules(tree):
            if place.startswith("input ") and family == 4 and "disable" not in rule and self._matches(tree, rule):
                return str(rule["action"]) != "accept"
        default = below(tree, "firewall", "ipv4", "input", "filter").get("default-action", "accept")
        return str(default) != "accept"

    def _matches(self, tree: Tree, rule: Tree) -> bool:
        """A new connection to the API."""
        is_tcp = rule.get("protocol", "all") in ("all", "tcp", "tcp_udp")
        if not is_tcp or not _has_port(below(rule, "destination").get("port", ""), self.port):
            return False
        states = values(rule.get("state"))
        source = below(rule, "source")
        wanted = [source["address"]] if "address" in source else None
        for kind, name in below(source, "group").items():
            group = below(tree, "firewall", "group", kind, name)
            wanted = values(group.get("address") or group.get("network"))
        return (not states or "new" in states) and (wanted is None or any(map(self.is_in, wanted)))

    def is_in(self, text: str) -> bool:
        first, dash, last = text.partition("-")
        mine = ip_address(self.address)
        if dash:
            return int(ip_address(first)) <= int(mine) <= int(ip_address(last))
        return mine in ip_network(text)

    def _is_forwarded(self, tree: Tree) -> bool:
        for rule in below(tree, "nat", "destination", "rule").values():
            inbound = rule.get("inbound-interface")
            name = inbound.get("name") if isinstance(inbound, dict) else inbound
            end = below(rule, "destination")
            here = name in (self.interface, "any") and self._is_routers(tree, end.get("address", ""))
            if here and _has_port(end.get("port", ""), self.port):
                return True
        return False

    def _is_routers(self, tree: Tree, address: str) -> bool:
        """Is it the one by which we speak to the router? Empty: any."""
        there = below(tree, "interfaces", "ethernet", self.interface).get("address")
        return not address or any(ip_address(address) == ip_interface(one).ip for one in values(there))

    def _is_routed_away(self, tree: Tree) -> bool:
        routes = below(tree, "protocols", "static", "route")
        return any(ip_address(self.address) in ip_network(to) for to in routes if to != "0.0.0.0/0")


def _has_port(ports: str, port: int) -> bool:
    first, _, last = ports.partition("-")
    return not ports or int(first) <= port <= int(last or first)


def silence(request: web.Request) -> web.Response:
    """The connection breaks, and nothing is answered."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


async def never(request: web.Request) -> web.Response:
    """No answer, until the caller is gone."""
    while request.transport is not None and not request.transport.is_closing():
        await asyncio.sleep(0.05)
    return silence(request)
