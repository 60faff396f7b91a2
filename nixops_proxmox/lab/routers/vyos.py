"""A stand-in for VyOS: its HTTP API, with the habits of 1.3, 1.4 and 1.5 that bite.

One list of operations is one commit, all or nothing. A commit is not saved: a reboot brings back what was. Two callers
at once find the configuration locked. A commit may end after the gateway has given up on it (504). Up to 1.4, some
commits fail without a word.
"""

import asyncio
import copy
import html
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from aiohttp import web

from nixops_proxmox.lab.routers.client import Client, never, silence
from nixops_proxmox.lab.routers.vyos_grammar import (
    NodeKind,
    NotCommitted,
    Tree,
    check,
    find_kind,
    grammar,
    mappings,
    values,
)

__all__ = ["VyosStandIn", "mappings"]

Path = list[str]
# What has names below it, and goes with the last one.
TAGS = ("rule", "vif", "route", "route6", "next-hop", "host-name", "static-host-mapping", "static-mapping", "range",
        "subnet", "name", "ipv6-name", "shared-network-name", "address-group", "network-group", "ipv6-address-group",
        "ipv6-network-group")  # fmt: skip


@dataclass
class Timer:
    """A commit that must be confirmed. `before`: what acted before it."""

    deadline: float
    before: Tree


class VyosStandIn:
    """`running` acts; `saved` is what a reboot brings back. Faults: `late` commits are done after a 504, and `mute`
    ones are not done, and are answered as if they were. `sticks`: so many confirmations wait for ever (`stuck` counts
    them). `power`: a file that restarts it when it appears. `client`: who speaks to it; None: rules and routes are not
    looked at. `now`: seconds, for its timers. `reboots`: what an unconfirmed commit ends with, else a reload.
    `timers`: does this 1.5 know commits that must be confirmed?"""

    def __init__(
        self,
        version: str,
        key: str,
        running: Tree | None = None,
        *,
        client: Client | None = None,
        now: Callable[[], float] = time.monotonic,
        reboots: bool = False,
        timers: bool = True,
    ) -> None:
        self.version, self.key, self.client, self.now, self.reboots = version, key, client, now, reboots
        self.running: Tree = running or {}
        self.saved: Tree = copy.deepcopy(self.running)
        self.commits, self.late, self.mute, self.busy = 0, 0, 0, False
        self.sticks, self.stuck = 0, 0
        self.power: FilePath | None = None
        self.timers, self.reverts = timers and version == "1.5", 0
        self.timer: Timer | None = None
        self.grammar = grammar(version)
        self.app = web.Application(middlewares=[self._as_reached])
        for name in ("retrieve", "configure", "config-file", "show"):
            self.app.router.add_post(f"/{name}", getattr(self, f"answer_{name.replace('-', '_')}"))
        if version == "1.5":
            self.app.router.add_get("/info", self.answer_info)

    def reboot(self) -> None:
        self.running, self.timer = copy.deepcopy(self.saved), None

    def tick(self) -> None:
        """A timer that has run out takes its commit back, and so does a restart."""
        if self.power is not None and self.power.exists():
            self.power.unlink()
            self.reboot()
        timer = self.timer
        if timer is not None and self.now() >= timer.deadline:
            self.running, self.timer = copy.deepcopy(self.saved if self.reboots else timer.before), None
            self.reverts += 1

    @property
    def is_cut_off(self) -> bool:
        self.tick()
        client: Client | None = self.client
        return client is not None and client.is_cut_off(self.running)

    def _lost_us(self) -> bool:
        return self.is_cut_off

    @web.middleware
    async def _as_reached(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Where its rules and routes do not let us through, it does not answer: also not to what has just changed
        that."""
        if self.is_cut_off:
            return silence(request)
        answer = await handler(request)
        return silence(request) if self._lost_us() else answer

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
        """What stands beside `commands` is only known to those that have timers; others pass over it."""
        data = await self._asked(request)
        if isinstance(data, dict) and data.get("op") == "confirm":
            if self.sticks:
                self.sticks, self.stuck = self.sticks - 1, self.stuck + 1
                return await never(request)
            return self._confirm()
        minutes = int(data.get("confirm_time", 0)) if isinstance(data, dict) and self.timers else 0
        commands = data["commands"] if isinstance(data, dict) and "commands" in data else data
        if self.busy:
            text = "Configuration system temporarily locked due to another commit in progress\n"
            return _json(_answer(error=text), 400)
        self.busy = True
        try:
            await asyncio.sleep(0)
            tree = self._edited(commands if isinstance(commands, list) else [commands], minutes)
        except NotCommitted as refused:
            return _json(_answer(error=html.escape(str(refused))), 400)
        finally:
            self.busy = False
        return self._commit(tree, minutes)

    def _edited(self, commands: list[Any], minutes: int) -> Tree:
        if minutes and self.timer is not None:
            raise NotCommitted("Another confirm is pending\n")
        tree = copy.deepcopy(self.running)
        for one in commands:
            self._edit(tree, one["op"], [*one["path"], *([one["value"]] if one.get("value") else [])])
        check(tree, self.version)
        return tree

    def _commit(self, tree: Tree, minutes: int) -> web.Response:
        if self.mute and self.version != "1.5":
            self.mute -= 1
            return _json(_answer())
        if minutes:
            self.timer = Timer(self.now() + minutes * 60, copy.deepcopy(self.running))
        self.commits += tree != self.running
        self.running = tree
        if self.late:
            self.late -= 1
            page = "<html><head><title>504 Gateway Time-out</title></head></html>"
            return web.Response(status=504, text=page, content_type="text/html")
        what = "reboot" if self.reboots else "reload"
        text = f"Initialized commit-confirm; {minutes} minutes to confirm before {what}\n" if minutes else None
        return _json(_answer(text))

    def _confirm(self) -> web.Response:
        """It is a success, too, where there is nothing to confirm."""
        if not self.timers:
            return _json(_answer(error="&#x27;confirm&#x27; is not a valid operation"), 400)
        text = (
            "No confirm pending" if self.timer is None else f"{'Reboot' if self.reboots else 'Reload'} timer stopped\n"
        )
        self.timer = None
        return _json(_answer(text))

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
            kind = find_kind(self.grammar, path)
            if kind is None:
                raise NotCommitted(f"\n\n  Configuration path: [{' '.join(path)}] is not valid\n  Set failed\n\n")
            _set(tree, path, kind)
        elif op == "delete":
            self._delete(tree, path)
        else:
            raise NotCommitted(f"'{op}' is not a valid operation")

    def _delete(self, tree: Tree, path: Path) -> None:
        """What has names below it goes with the last one; other nodes stay, and are empty. 1.3 says so when there is
        nothing."""
        nodes: list[Any] = [tree]
        for word in path[:-1]:
            nodes.append(nodes[-1].get(word) if isinstance(nodes[-1], dict) else None)
        parent, last = nodes[-1], path[-1]
        if isinstance(parent, dict) and last in parent:
            del parent[last]
        elif not isinstance(parent, dict) and last in values(parent):
            left = [one for one in values(parent) if one != last]
            nodes[-2] |= {path[-2]: left if len(left) > 1 else left[0]} if left else {}
            if not left:
                del nodes[-2][path[-2]]
        elif self.version == "1.3":
            raise NotCommitted(f"\n\n  Nothing to delete (the specified node does not exist): [{' '.join(path)}]\n")
        for node, word in zip(nodes[-2::-1], path[-2::-1], strict=False):
            if isinstance(node, dict) and node.get(word) == {} and word in TAGS:
                del node[word]


def _set(tree: Tree, path: Path, kind: NodeKind) -> None:
    if kind is NodeKind.NODE:
        _walk(tree, path)
        return
    node, leaf, value = _walk(tree, path[:-2]), path[-2], path[-1]
    have = node.get(leaf, [])
    have = have if isinstance(have, list) else [have]
    if kind is NodeKind.MANY:
        several = [*have, *([] if value in have else [value])]
        node[leaf] = several if len(several) > 1 else several[0]
    else:
        node[leaf] = value


def _walk(tree: Tree, path: Path) -> Tree:
    for word in path:
        tree = tree.setdefault(word, {})
    return tree


def _answer(data: Any = None, error: str | None = None) -> str:
    return json.dumps({"success": error is None, "data": data, "error": error})


def _json(text: str, status: int = 200) -> web.Response:
    return web.Response(status=status, text=text, content_type="application/json")
