"""A stand-in for OPNsense's aliases, port forwards, rules and host overrides, with the habits that bite (26.1, 26.7).

Nothing acts before it is applied. A savepoint's timer takes only rules of the filter back, and nothing else. There is
one timer at a time: another one is not started, without a word. A confirmation that comes too late is HTTP 200. An
alias in use cannot be deleted. 26.7 has no savepoints.
"""

import copy
import re
import uuid
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

from aiohttp import web

from nixops_proxmox.lab.routers.client import Answering, Client, Row, Rows, never

PLACES = {
    "alias": ("firewall/alias", "Item", "item"),
    "forward": ("firewall/d_nat", "Rule", "rule"),
    "rule": ("firewall/filter", "Rule", "rule"),
    "override": ("unbound/settings", "HostOverride", "host_override"),
}
KEYS = {"alias": "alias", "forward": "rule", "rule": "rule", "override": "host"}
LIMIT = 60.0  # seconds to confirm


class Filter:
    """`configured` is what was written, `acting` what was applied. `client`: who speaks to it. `sticks`: so many
    confirmations wait until their caller is gone, and count for nothing (`stuck` counts them)."""

    def __init__(self, release: str, client: Client | None, now: Callable[[], float]) -> None:
        self.release, self.client, self.now = release, client, now
        self.configured: dict[str, Rows] = {what: {} for what in PLACES}
        self.acting = copy.deepcopy(self.configured)
        self.savepoints: dict[str, Rows] = {}  # the rules at that time
        self.timer: tuple[float, str] | None = None  # until when, and the savepoint
        self.reverts, self.sticks, self.stuck = 0, 0, 0

    def add_to(self, app: web.Application, guarded: Callable[[Answering], Answering]) -> None:
        for what, (place, camel, snake) in PLACES.items():
            for verb, make in (
                ("search", self._search),
                ("add", self._write),
                ("set", self._write),
                ("del", self._del),
            ):
                for name in (f"{verb}{camel}", f"{verb}_{snake}"):
                    path = f"/api/{place}/{name}" + ("/{uuid}" if verb in ("set", "del") else "")
                    app.router.add_post(path, guarded(make(what)))
        app.router.add_post("/api/firewall/alias/reconfigure", guarded(self._reconfigure("alias")))
        app.router.add_post("/api/unbound/service/reconfigure", guarded(self._reconfigure("override")))
        app.router.add_post("/api/firewall/filter/apply", guarded(self._apply))
        app.router.add_get("/api/core/firmware/status", guarded(self._status))
        if self.release < "26.7":
            app.router.add_post("/api/firewall/filter/savepoint", guarded(self._savepoint))
            app.router.add_post("/api/firewall/filter/apply/{revision}", guarded(self._apply))
            for name in ("cancelRollback", "cancel_rollback"):
                app.router.add_post(f"/api/firewall/filter/{name}/{{revision}}", guarded(self._cancel))

    # What acts.

    @property
    def is_cut_off(self) -> bool:
        """A rule that blocks, or a forward of the API's own port: a timer only takes the first back."""
        self.tick()
        return self.client is not None and (self._is_blocked(self.client) or self._is_forwarded(self.client))

    def tick(self) -> None:
        if self.timer is not None and self.now() >= self.timer[0]:
            rules, self.timer = self.savepoints[self.timer[1]], None
            self.configured["rule"], self.acting["rule"] = copy.deepcopy(rules), copy.deepcopy(rules)
            self.reverts += 1

    def _is_blocked(self, client: Client) -> bool:
        rules = [one for one in self.acting["rule"].values() if one["enabled"] == "1" and one["direction"] == "in"]
        for one in sorted(rules, key=lambda rule: int(rule["sequence"])):
            here = one["interface"] in ("", client.interface) and one["destination_net"] in ("any", "(self)")
            tcp = one["protocol"].lower() in ("any", "tcp", "tcp/udp") and one["destination_port"] in (
                "",
                str(client.port),
            )
            if here and tcp and self._is_from(one["source_net"], client):
                return one["action"] != "pass"
        return False

    def _is_from(self, source: str, client: Client) -> bool:
        alias = next((one for one in self.acting["alias"].values() if one["name"] == source), None)
        members = [source] if alias is None else alias["content"].split()
        return any(one == "any" or client.is_in(one) for one in members)

    def _is_forwarded(self, client: Client) -> bool:
        own = f"{client.interface}ip"
        return any(
            one["destination.port"] == str(client.port) and one["destination.network"] == own
            for one in self.acting["forward"].values()
        )

    # The API.

    def _search(self, what: str) -> Answering:
        async def answer(request: web.Request) -> web.Response:
            """It shows seven rows where the caller does not say how many, and automatic ones of its own."""
            asked = await request.json() if request.can_read_body else {}
            rows: list[Row] = [{"uuid": key, **row} for key, row in self.configured[what].items()]
            if what == "forward":
                lockout = {"uuid": "lockout_0", "interface": "lan", "protocol": "tcp", "descr": "Anti-Lockout Rule"}
                rows.insert(0, {**lockout, "destination.network": "lanip", "destination.port": "443"})
            count = int(asked.get("rowCount", 7))
            shown = rows if count < 0 else rows[:count]
            return web.json_response({"rows": shown, "rowCount": len(shown), "total": len(rows), "current": 1})

        return answer

    def _write(self, what: str) -> Answering:
        async def answer(request: web.Request) -> web.Response:
            key, rows = request.match_info.get("uuid", ""), self.configured[what]
            if key and key not in rows:
                return web.json_response({"result": "failed"})
            row = {**DEFAULTS[what], **rows.get(key, {}), **_flat((await request.json()).get(KEYS[what], {}))}
            wrong = self._wrong(what, row, [other for name, other in rows.items() if name != key])
            if wrong:
                return web.json_response({"result": "failed", "validations": wrong})
            key = key or str(uuid.uuid4())
            rows[key] = row
            return web.json_response({"result": "saved", "uuid": key})

        return answer

    def _wrong(self, what: str, row: Row, others: list[Row]) -> dict[str, str]:
        unknown = sorted(set(row) - set(DEFAULTS[what]))
        if unknown:
            return {f"{KEYS[what]}.{unknown[0]}": "unknown field"}  # the real one passes over it: stricter, for us
        match what:
            case "alias":
                return self._wrong_alias(row, others)
            case "override":
                needs = {"AAAA": ":", "A": "."}.get(row["rr"], "")
                fits = bool(row["domain"]) and needs in row["server"]
                return {} if fits else {"host.domain": "A valid domain must be specified."}
            case "rule":
                return self._wrong_rule(row)
        port = row["destination.port"]
        fits = bool(re.fullmatch(r"\d+(-\d+)?", port)) and bool(row["interface"])
        return {} if fits else {"rule.destination.port": "Please specify a valid portnumber, name, alias or range."}

    def _wrong_alias(self, row: Row, others: list[Row]) -> dict[str, str]:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,31}", row["name"]):
            return {"alias.name": "The name must be less than 32 characters long and may only consist of a-z, 0-9, _."}
        if any(other["name"] == row["name"] for other in others):
            return {"alias.name": "An alias with this name already exists."}
        return {}

    def _wrong_rule(self, row: Row) -> dict[str, str]:
        if row["destination_port"] and row["protocol"] not in ("TCP", "UDP", "TCP/UDP"):
            return {"rule.destination_port": "Destination ports are only valid for tcp or udp type rules."}
        names = [one["name"] for one in self.configured["alias"].values()]
        for field in ("source_net", "destination_net"):
            value = row[field]
            if value in ("any", "(self)") or value in names:
                continue
            try:
                family = "inet6" if ip_network(value).version == 6 else "inet"
            except ValueError:
                return {f"rule.{field}": f"{value} is not a valid source IP address or alias."}
            if family != row["ipprotocol"]:
                return {f"rule.{field}": "Source address type should match selected TCP/IP protocol version."}
        return {}

    def _del(self, what: str) -> Answering:
        async def answer(request: web.Request) -> web.Response:
            row = self.configured[what].get(request.match_info["uuid"])
            if row is None:
                return web.json_response({"result": "not found"})
            used = [one for one in self.configured["rule"].values() if what == "alias"]
            if any(row["name"] in (one["source_net"], one["destination_net"]) for one in used):
                text = {"errorMessage": "Cannot delete alias. Currently in use by", "errorTitle": "Alias in use"}
                return web.json_response(text, status=500)
            del self.configured[what][request.match_info["uuid"]]
            return web.json_response({"result": "deleted"})

        return answer

    def _reconfigure(self, what: str) -> Answering:
        async def answer(_request: web.Request) -> web.Response:
            self.acting[what] = copy.deepcopy(self.configured[what])
            return web.json_response({"status": "ok"})

        return answer

    async def _status(self, _request: web.Request) -> web.Response:
        return web.json_response({"product": {"product_version": f"{self.release}.2"}, "status_msg": ""})

    async def _savepoint(self, _request: web.Request) -> web.Response:
        revision = f"{self.now():.4f}"
        self.savepoints[revision] = copy.deepcopy(self.configured["rule"])
        return web.json_response({"status": "ok", "retention": "60", "revision": revision})

    async def _apply(self, request: web.Request) -> web.Response:
        revision = request.match_info.get("revision", "")
        if revision and self.timer is None:
            self.timer = (self.now() + LIMIT, revision)
        for what in ("rule", "forward"):
            self.acting[what] = copy.deepcopy(self.configured[what])
        return web.json_response({"status": "OK\n\n"})

    async def _cancel(self, request: web.Request) -> web.Response:
        if self.sticks:
            self.sticks, self.stuck = self.sticks - 1, self.stuck + 1
            return await never(request)
        self.tick()
        waits = self.timer is not None and self.timer[1] == request.match_info["revision"]
        self.timer = None if waits else self.timer
        return web.json_response({"status": "" if waits else "Error (1)"})


DEFAULTS: dict[str, Row] = {
    "alias": {"enabled": "1", "name": "", "type": "", "content": "", "description": ""},
    "forward": dict.fromkeys(
        ("sequence", "disabled", "interface", "ipprotocol", "protocol", "destination.network", "destination.port",
         "target", "local-port", "pass", "descr"), ""
    ),
    "rule": {
        "enabled": "1", "sequence": "1", "action": "pass", "quick": "1", "interface": "", "direction": "in",
        "ipprotocol": "inet", "protocol": "any", "source_net": "any", "destination_net": "any", "destination_port": "",
        "description": "",
    },
    "override": {"enabled": "1", "hostname": "", "domain": "", "rr": "A", "server": "", "description": ""},
}  # fmt: skip


def _flat(given: Any, path: str = "") -> Row:
    found: Row = {}
    for name, value in given.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{path}{name}.")
        else:
            found[f"{path}{name}"] = str(value)
    return found
