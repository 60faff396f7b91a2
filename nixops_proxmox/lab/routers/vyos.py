"""A stand-in for VyOS: its HTTP API, with the habits of 1.3, 1.4 and 1.5 that bite.

One list of operations is one commit, all or nothing. A commit is not saved: a reboot brings back what was. Two callers
at once find the configuration locked. A commit may end after the gateway has given up on it (504). Up to 1.4, some
commits fail without a word.
"""

import asyncio
import copy
import html
import json
import re
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

from aiohttp import web

Tree = dict[str, Any]  # a node's children; a leaf has its value, or a list of them
Path = list[str]

TAGS = {  # nodes whose children have names of their own
    ("service", "dhcp-server"): "shared-network-name",
    ("service", "dhcpv6-server"): "shared-network-name",
    ("system", "static-host-mapping"): "host-name",
}
NETWORK = "service dhcp(v6)?-server shared-network-name [^ ]+ subnet [^ ]+"
MAPPING = f"{NETWORK} static-mapping [-_a-zA-Z0-9.]+"
MAC = "([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}"


def grammar(version: str) -> list[str]:
    """What may be set: the path with its value, as a regular expression each."""
    mac = "mac" if version == "1.5" else "mac-address"
    six = [] if version == "1.3" else [f"service dhcpv6-server .* static-mapping [^ ]+ {mac} {MAC}"]
    return [
        NETWORK,
        f"{NETWORK} subnet-id [0-9]+" if version == "1.5" else f"{NETWORK} default-router [0-9.]+",
        f"{NETWORK} range [^ ]+ (start|stop) [0-9.]+",
        MAPPING,
        f"service dhcp-server .* static-mapping [^ ]+ {mac} {MAC}",
        f"{MAPPING} ip-address [0-9.]+",
        f"{MAPPING} (duid|identifier) [0-9a-f:]+",
        "service dhcpv6-server .* static-mapping [^ ]+ ipv6-address [0-9a-fA-F:]+",
        *six,
        "system static-host-mapping host-name [-a-zA-Z0-9.]+ inet [0-9a-fA-F.:]+",
        "system static-host-mapping host-name [-a-zA-Z0-9.]+ alias [-_a-zA-Z0-9.]+",
        "system host-name [-a-zA-Z0-9.]+",
    ]


MANY = ("alias", "inet")  # leaves with more than one value; `inet` only since 1.4


class NotCommitted(Exception):
    """The text is what VyOS says."""


class VyosStandIn:
    """`running` acts; `saved` is what a reboot brings back. Faults: `late` commits are done after a 504, and `mute`
    ones are not done, and are answered as if they were."""

    def __init__(self, version: str, key: str, running: Tree | None = None) -> None:
        self.version, self.key = version, key
        self.running: Tree = running or {}
        self.saved: Tree = copy.deepcopy(self.running)
        self.commits, self.late, self.mute, self.busy = 0, 0, 0, False
        self.app = web.Application()
        for name in ("retrieve", "configure", "config-file", "show"):
            self.app.router.add_post(f"/{name}", getattr(self, f"answer_{name.replace('-', '_')}"))
        if version == "1.5":
            self.app.router.add_get("/info", self.answer_info)

    def reboot(self) -> None:
        self.running = copy.deepcopy(self.saved)

    # The API.

    async def _asked(self, request: web.Request) -> Any:
        if request.content_type == "application/json":
            body = await request.json()
            given, data = body.pop("key", None), body
        else:
            form = await request.post()
            given = form.get("key")
            text = form.get("data")
            if text is None:
                raise web.HTTPUnprocessableEntity(text=json.dumps({"detail": "missing data"}))
            data = json.loads(str(text))
        if given != self.key:
            raise web.HTTPUnauthorized(text=_answer(error="Valid API key is required"), content_type="application/json")
        return data

    async def answer_info(self, _request: web.Request) -> web.Response:
        return _json(_answer({"version": self.version, "hostname": "vyos"}))

    async def answer_show(self, request: web.Request) -> web.Response:
        data = await self._asked(request)
        if data.get("op") != "show" or data.get("path") != ["version"]:
            return _json(_answer(error=f"\n  Invalid command: {html.escape(str(data))}\n"), 400)
        return _json(_answer(f"Version:          VyOS {self.version}.0\nRelease train:    lts\n"))

    async def answer_retrieve(self, request: web.Request) -> web.Response:
        data = await self._asked(request)
        found = self._find(data["path"])
        match data["op"]:
            case "exists":
                return _json(_answer(found is not None))
            case "showConfig" if found is None:
                return _json(_answer(error="Configuration under specified path is empty\n"), 400)
            case "showConfig":
                return _json(_answer(found))
        return _json(_answer(error=f"{html.escape(repr(data['op']))} is not a valid operation"), 400)

    async def answer_configure(self, request: web.Request) -> web.Response:
        data = await self._asked(request)
        if self.busy:
            text = "Configuration system temporarily locked due to another commit in progress\n"
            return _json(_answer(error=text), 400)
        self.busy = True
        try:
            await asyncio.sleep(0)
            tree = copy.deepcopy(self.running)
            for one in data if isinstance(data, list) else [data]:
                self._edit(tree, one["op"], [*one["path"], *([one["value"]] if one.get("value") else [])])
            check(tree)
        except NotCommitted as refused:
            return _json(_answer(error=html.escape(str(refused))), 400)
        finally:
            self.busy = False
        if self.mute and self.version != "1.5":
            self.mute -= 1
            return _json(_answer())
        self.commits += tree != self.running
        self.running = tree
        if self.late:
            self.late -= 1
            page = "<html><head><title>504 Gateway Time-out</title></head></html>"
            return web.Response(status=504, text=page, content_type="text/html")
        return _json(_answer())

    async def answer_config_file(self, request: web.Request) -> web.Response:
        data = await self._asked(request)
        if data["op"] != "save":
            return _json(_answer(error=f"{html.escape(repr(data['op']))} is not a valid operation"), 400)
        self.saved = copy.deepcopy(self.running)
        return _json(_answer("Saving configuration to '/config/config.boot'...\nDone\n"))

    # The tree.

    def _find(self, path: Path) -> Any:
        node: Any = self.running
        for word in path:
            if not isinstance(node, dict) or word not in node:
                return None
            node = node[word]
        return node

    def _edit(self, tree: Tree, op: str, path: Path) -> None:
        if op == "set":
            if not any(re.fullmatch(one, " ".join(path)) for one in grammar(self.version)):
                raise NotCommitted(f"\n\n  Configuration path: [{' '.join(path)}] is not valid\n  Set failed\n\n")
            self._set(tree, path)
        elif op == "delete":
            self._delete(tree, path)
        else:
            raise NotCommitted(f"'{op}' is not a valid operation")

    def _set(self, tree: Tree, path: Path) -> None:
        if path[-2] in ("static-mapping", "subnet"):
            _walk(tree, path)
            return
        node, leaf, value = _walk(tree, path[:-2]), path[-2], path[-1]
        if leaf in MANY and not (leaf == "inet" and self.version == "1.3"):
            have = node.get(leaf, [])
            have = have if isinstance(have, list) else [have]
            values = [*have, *([] if value in have else [value])]
            node[leaf] = values if len(values) > 1 else values[0]
        else:
            node[leaf] = value

    def _delete(self, tree: Tree, path: Path) -> None:
        """What is left empty goes, too. 1.3 says so when there is nothing."""
        nodes: list[Any] = [tree]
        for word in path[:-1]:
            nodes.append(nodes[-1].get(word) if isinstance(nodes[-1], dict) else None)
        if not isinstance(nodes[-1], dict) or path[-1] not in nodes[-1]:
            if self.version == "1.3":
                raise NotCommitted(f"\n\n  Nothing to delete (the specified node does not exist): [{' '.join(path)}]\n")
            return
        del nodes[-1][path[-1]]
        for node, word in zip(nodes[-2::-1], path[-2::-1], strict=False):
            if not node[word] and word in ("static-mapping", "host-name", "static-host-mapping"):
                del node[word]


def _walk(tree: Tree, path: Path) -> Tree:
    for word in path:
        tree = tree.setdefault(word, {})
    return tree


def mappings(tree: Tree) -> Iterator[tuple[str, str, Tree]]:
    """The subnet, the name and the settings of each static mapping."""
    for server in ("dhcp-server", "dhcpv6-server"):
        for network in tree.get("service", {}).get(server, {}).get("shared-network-name", {}).values():
            for subnet, settings in network.get("subnet", {}).items():
                for name, mapping in settings.get("static-mapping", {}).items():
                    yield subnet, name, mapping


def check(tree: Tree) -> None:
    """What a commit refuses."""
    seen: dict[tuple[str, str], str] = {}
    for subnet, name, mapping in mappings(tree):
        address = mapping.get("ip-address") or mapping.get("ipv6-address")
        mac = mapping.get("mac") or mapping.get("mac-address")
        if not (mac or mapping.get("duid") or mapping.get("identifier")):
            raise NotCommitted(
                f'Either MAC address or Client identifier (DUID) is required for static mapping "{name}"!'
            )
        if address and ip_address(address) not in ip_network(subnet):
            raise NotCommitted(
                f'Configured static lease address for mapping "{name}" is\nnot within shared-network "{subnet}"!'
            )
        for what, value in (("IP", address), ("MAC", mac and f"{subnet} {mac.lower()}")):
            if value and (what, value) in seen:
                raise NotCommitted(
                    f'Configured {what} address for static mapping "{name}" already exists on another static mapping'
                )
            if value:
                seen[what, value] = name


def _answer(data: Any = None, error: str | None = None) -> str:
    return json.dumps({"success": error is None, "data": data, "error": error})


def _json(text: str, status: int = 200) -> web.Response:
    return web.Response(status=status, text=text, content_type="application/json")
