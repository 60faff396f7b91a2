"""A stand-in for OPNsense: Kea's reservations and dnsmasq's hosts by its API, with the habits that bite.

A refusal is HTTP 200 with `validations`. Nothing acts before reconfigure. The reservations of a family have unique
addresses, and a subnet's have unique MACs. Relations are UUIDs. The APIs of dnsmasq and of Kea's DHCPv6 exist since
25.7; DHCPv6 knows DUIDs alone before 26.1, and what it does not know it drops without a word. It shows a subnet with
its interface since 26.7.
"""

import base64
import copy
import re
import time
import uuid
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network

from aiohttp import web

from nixops_proxmox.lab.routers.client import Answering, Client, Row, Rows, silence
from nixops_proxmox.lab.routers.opnsense_filter import Filter

FIELDS = {
    "reservation": ("subnet", "ip_address", "hw_address", "hostname", "description"),
    "reservation6": ("subnet", "ip_address", "duid", "hw_address", "hostname", "description"),
    "host": ("host", "domain", "ip", "hwaddr", "client_id", "descr"),
}
MACS_SINCE = "26.1"  # of DHCPv6
MAC = r"([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}"


async def _unknown(_request: web.Request) -> web.Response:
    return web.json_response({"errorMessage": "Endpoint not found"}, status=404)


class OpnsenseStandIn:
    """`configured` is what the API writes; `acting` what the services have. `late`: so many answers of reconfigure are
    lost on the way, as 504, and it is done."""

    def __init__(
        self,
        release: str,
        key: str,
        secret: str,
        subnets: tuple[str, ...] = (),
        *,
        subnets6: tuple[str, ...] = (),
        client: Client | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.release, self._login = release, base64.b64encode(f"{key}:{secret}".encode()).decode()
        self.subnets = {str(uuid.uuid4()): subnet for subnet in subnets}
        self.subnets6 = {str(uuid.uuid4()): subnet for subnet in subnets6}
        self.configured: dict[str, Rows] = {what: {} for what in FIELDS}
        self.acting: dict[str, Rows] = copy.deepcopy(self.configured)
        self.late, self.calls = 0, 0
        self.app = web.Application()
        self.filter = Filter(release, client, now)
        if release >= "26.1":
            self.filter.add_to(self.app, self._guarded)
        self._add_kea("kea/dhcpv4", "reservation", self.subnets)
        self.app.router.add_post("/api/kea/service/reconfigure", self._reconfigured("reservation", "reservation6"))
        if release >= "25.7":
            self._add_kea("kea/dhcpv6", "reservation6", self.subnets6)
            self._add("dnsmasq/settings", "host", "host")
            self.app.router.add_post("/api/dnsmasq/service/reconfigure", self._reconfigured("host"))
        self.app.router.add_route("*", "/{rest:.*}", self._guarded(_unknown))

    def _add_kea(self, place: str, kept: str, subnets: Mapping[str, str]) -> None:
        self._add(place, "reservation", kept)
        for name in ("search_subnet", "searchSubnet"):
            self.app.router.add_route("*", f"/api/{place}/{name}", self._guarded(_shown_subnets(subnets)))

    def _add(self, place: str, what: str, kept: str) -> None:
        """Names are in camel case; since 25.7 in snake case, too. `kept`: where we keep them."""
        for verb, handler in (("search", self._search), ("add", self._write), ("set", self._write), ("del", self._del)):
            answers = self._guarded(handler(kept))
            names = [f"{verb}{what.capitalize()}", *([f"{verb}_{what}"] if self.release >= "25.7" else [])]
            for name in names:
                path = f"/api/{place}/{name}" + ("/{uuid}" if verb in ("set", "del") else "")
                self.app.router.add_route("*" if verb == "search" else "POST", path, answers)

    def _guarded(self, handler: Answering) -> Answering:
        async def answer(request: web.Request) -> web.Response:
            self.calls += 1
            if self.filter.is_cut_off:
                return silence(request)
            if request.headers.get("Authorization") != f"Basic {self._login}":
                return web.json_response({"status": 401, "message": "Authentication Failed"}, status=401)
            told = await handler(request)
            return silence(request) if self._lost_us() else told

        return answer

    def _lost_us(self) -> bool:
        return self.filter.is_cut_off

    def _search(self, what: str) -> Answering:
        async def answer(request: web.Request) -> web.Response:
            """It shows seven rows where the caller does not say how many. Of a relation, it shows the text."""
            asked = {**request.query, **(await request.json() if request.can_read_body else {})}
            rows = [{"uuid": key, **self._shown(what, row)} for key, row in self.configured[what].items()]
            count = int(asked.get("rowCount", 7))
            shown = rows if count < 0 else rows[:count]
            return web.json_response({"rows": shown, "rowCount": len(shown), "total": len(rows), "current": 1})

        return answer

    def _shown(self, what: str, row: Row) -> Row:
        if "subnet" not in row:
            return row
        text = (self.subnets6 if what == "reservation6" else self.subnets)[row["subnet"]]
        text = f"LAN {text}" if what == "reservation6" and self.release >= "26.7" else text
        return {**row, "%subnet": text, "subnet": text}

    def _fields(self, what: str) -> tuple[str, ...]:
        late = ("hw_address",) if what == "reservation6" and self.release < MACS_SINCE else ()
        return tuple(name for name in FIELDS[what] if name not in late)

    def _write(self, what: str) -> Answering:
        async def answer(request: web.Request) -> web.Response:
            key = request.match_info.get("uuid", "")
            rows = self.configured[what]
            if key and key not in rows:
                return web.json_response({"result": "failed"})
            said = (await request.json()).get(what.rstrip("6"), {})
            given = {name: str(value) for name, value in said.items()}
            row = {name: given.get(name, rows.get(key, {}).get(name, "")) for name in self._fields(what)}
            others = [other for name, other in rows.items() if name != key]
            wrong = dict(self._wrong(what, row, others))
            if wrong:
                return web.json_response({"result": "failed", "validations": wrong})
            key = key or str(uuid.uuid4())
            rows[key] = row
            return web.json_response({"result": "saved", "uuid": key})

        return answer

    def _wrong(self, what: str, row: Row, others: list[Row]) -> Mapping[str, str]:
        found: dict[str, str] = {}
        if what == "host":
            if row["hwaddr"] and any(row["hwaddr"].lower() == other["hwaddr"].lower() for other in others):
                found["host.hwaddr"] = "Duplicate hardware address."
            if any(row["ip"] and row["ip"] == other["ip"] for other in others):
                found["host.ip"] = "Duplicate IP address."
            return found
        if what == "reservation6":
            return self._wrong_six(row, others)
        if row["subnet"] not in self.subnets:
            return {"reservation.subnet": "Related item not found."}
        if not re.fullmatch(MAC, row["hw_address"]):
            found["reservation.hw_address"] = "A valid MAC address is required."
        if not row["ip_address"] or ip_address(row["ip_address"]) not in ip_network(self.subnets[row["subnet"]]):
            found["reservation.ip_address"] = "Address not in specified subnet"
        if any(row["ip_address"] == other["ip_address"] for other in others):
            found["reservation.ip_address"] = "Duplicate entry exists."
        same = [other for other in others if other["subnet"] == row["subnet"]]
        if any(row["hw_address"].lower() == other["hw_address"].lower() for other in same):
            found["reservation.hw_address"] = "Duplicate entry exists."
        if "." in row["hostname"]:
            found["reservation.hostname"] = "A valid hostname must be specified."
        return found

    def _wrong_six(self, row: Row, others: list[Row]) -> Mapping[str, str]:
        """An address and one of DUID and MAC must be there, and not both of these."""
        if row["subnet"] not in self.subnets6:
            return {"reservation.subnet": "Related subnet not found."}
        found: dict[str, str] = {}
        if not row["ip_address"]:
            found["reservation.ip_address"] = "Either an IP address or a Prefix should be specified."
        elif ip_address(row["ip_address"]) not in ip_network(self.subnets6[row["subnet"]]):
            found["reservation.ip_address"] = "Address not in specified subnet"
        elif any(row["ip_address"] == other["ip_address"] for other in others):
            found["reservation.ip_address"] = "Duplicate entry exists."
        if bool(row["duid"]) == bool(row.get("hw_address")):
            either = "Either a DUID or an MAC address should be specified"
            both = f"{either}, but not both" if row["duid"] else f"{either}."
            found["reservation.duid"] = both if self.release >= MACS_SINCE else "A value is required."
        if row.get("hw_address") and not re.fullmatch(MAC, row["hw_address"]):
            found["reservation.hw_address"] = "A valid MAC address is required."
        same = [other for other in others if other["subnet"] == row["subnet"]]
        for name in ("duid", "hw_address"):
            if row.get(name) and any(row[name].lower() == other[name].lower() for other in same):
                found[f"reservation.{name}"] = "Duplicate entry exists."
        return found

    def _del(self, what: str) -> Answering:
        async def answer(request: web.Request) -> web.Response:
            gone = self.configured[what].pop(request.match_info["uuid"], None)
            return web.json_response({"result": "not found" if gone is None else "deleted"})

        return answer

    def _reconfigured(self, *kinds: str) -> Answering:
        async def answer(_request: web.Request) -> web.Response:
            for what in kinds:
                self.acting[what] = copy.deepcopy(self.configured[what])
            if self.late:
                self.late -= 1
                return web.Response(status=504, text="<html>504 Gateway Timeout</html>", content_type="text/html")
            return web.json_response({"status": "ok"})

        return self._guarded(answer)


def _shown_subnets(subnets: Mapping[str, str]) -> Answering:
    async def answer(_request: web.Request) -> web.Response:
        rows = [{"uuid": key, "subnet": subnet} for key, subnet in subnets.items()]
        return web.json_response({"rows": rows, "rowCount": len(rows), "total": len(rows), "current": 1})

    return answer
