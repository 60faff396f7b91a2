"""OPNsense, by its API: reservations of its Kea, or hosts of its dnsmasq (25.7 and later), which are names in DNS, too.

An entry's description says whose it is. A refusal comes as HTTP 200. Nothing acts before its service is reconfigured.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nixops_proxmox.errors import ConfigError, RouterError
from nixops_proxmox.routers.opnsense_routing import EVERYTHING, OpnsenseRouting
from nixops_proxmox.routers.profile import RouterProfile
from nixops_proxmox.routers.reservation import Reservation, choose_subnet
from nixops_proxmox.routers.web import Web

MARK = "nixops-proxmox:"  # how our descriptions begin


@dataclass(frozen=True)
class Service:
    """Where its entries are in the API. The names are those of before 25.7, which later releases know, too."""

    place: str
    item: str  # with a capital
    description: str

    @property
    def key(self) -> str:
        return self.item.lower()


KEA = Service("kea/dhcpv4", "Reservation", "description")
DNSMASQ = Service("dnsmasq/settings", "Host", "descr")
SERVICES = {"kea": KEA, "dnsmasq": DNSMASQ}


class Opnsense:
    """`service`: kea or dnsmasq. The user is the API's key, and the secret its secret."""

    marks = True

    def __init__(self, profile: RouterProfile) -> None:
        self._profile = profile
        name = profile.setting("service", "kea")
        if name not in SERVICES:
            raise ConfigError(f"{profile.title}: `service` is {name!r}", hint="use kea or dnsmasq")
        self._service, self._web = SERVICES[name], Web(profile, basic=True)
        self.routing = OpnsenseRouting(profile, self._web)

    def close(self) -> None:
        self._web.close()

    def read(self) -> Sequence[Reservation]:
        return [self._parse(row) for row in self._rows()]

    def agrees(self, have: Reservation, want: Reservation) -> bool:
        return have == self._fitted(want)

    def put(self, wanted: Sequence[Reservation]) -> None:
        """Safe to repeat: what was made before a run was killed is deleted first. All of ours that change go before the
        first is made, because they may have changed their addresses with one another."""
        subnets = self._subnets() if self._service is KEA else {}
        fields = [self._fields(one, subnets) for one in wanted]
        self.drop(wanted)
        for one, values in zip(wanted, fields, strict=True):
            self._write(f"add{self._service.item}", {self._service.key: values}, one.owner)

    def drop(self, gone: Sequence[Reservation]) -> None:
        """Safe to repeat: one that is gone needs nothing."""
        owners = {one.owner for one in gone}
        for row in self._rows():
            if (owner := self._parse(row).owner) in owners:
                self._write(f"del{self._service.item}/{row['uuid']}", {}, owner)

    def settle(self) -> None:
        """Safe to repeat: the service takes over what is configured."""
        module = self._service.place.partition("/")[0]
        answer = self._call("POST", f"{module}/service/reconfigure", {})
        if answer.get("status") != "ok":
            raise RouterError(f"{self._profile.title}: {module} was not reconfigured: {answer}")

    # What there is.

    def _rows(self) -> list[Mapping[str, str]]:
        answer = self._call("POST", f"{self._service.place}/search{self._service.item}", EVERYTHING)
        return list(answer.get("rows", []))

    def _parse(self, row: Mapping[str, str]) -> Reservation:
        described = row.get(self._service.description, "")
        owner = described.removeprefix(MARK).strip() if described.startswith(MARK) else ""
        if self._service is KEA:
            return Reservation(owner, row["hw_address"].lower(), row["ip_address"], "", row.get("hostname", ""))
        addresses = [part.strip() for part in row.get("ip", "").split(",") if part.strip()]
        v4 = next((one for one in addresses if ":" not in one), "")
        v6 = next((one for one in addresses if ":" in one), "")
        name = ".".join(part for part in (row.get("host", ""), row.get("domain", "")) if part)
        return Reservation(owner, row.get("hwaddr", "").partition(",")[0].lower(), v4, v6, name)

    def _fitted(self, one: Reservation) -> Reservation:
        """As it can be there: its Kea has IPv4 in this list, and names without a domain."""
        return replace(one, ipv6="", hostname=one.label) if self._service is KEA else one

    # What is done.

    def _fields(self, one: Reservation, subnets: Mapping[str, str]) -> Mapping[str, str]:
        mark = f"{MARK}{one.owner}"
        if self._service is DNSMASQ:
            host, _, domain = one.hostname.partition(".")
            addresses = ",".join(filter(None, (one.ipv4, one.ipv6)))
            return {"host": host, "domain": domain, "ip": addresses, "hwaddr": one.mac, "descr": mark}
        if not one.ipv4:
            raise RouterError(f"{one.owner}: {self._profile.title}: its Kea is told of IPv4 addresses, and it has none")
        return {
            "subnet": subnets[choose_subnet(one, one.ipv4, subnets, self._profile.title)],
            "ip_address": one.ipv4,
            "hw_address": one.mac,
            "hostname": one.label,
            "description": mark,
        }

    def _subnets(self) -> Mapping[str, str]:
        """Their UUIDs."""
        rows = self._call("POST", f"{KEA.place}/searchSubnet", EVERYTHING).get("rows", [])
        return {str(row["subnet"]): str(row["uuid"]) for row in rows}

    def _write(self, command: str, body: object, owner: str) -> None:
        answer = self._call("POST", f"{self._service.place}/{command}", body)
        if answer.get("result") not in ("saved", "deleted", "not found"):
            told = "; ".join(_validations(answer)) or f"it answered {answer}"
            raise RouterError(f"{owner}: {self._profile.title}: {told}", hint="is there an entry of somebody else's?")

    def _call(self, method: str, path: str, body: object) -> Mapping[str, Any]:
        status, answer = self._web.call(method, f"/api/{path}", body)
        if status in (401, 403):
            raise RouterError(
                f"{self._profile.title}: {path}: HTTP status {status}",
                hint="look at username and secret (the API's key and secret), and at the user's privileges",
            )
        if status == 404:
            raise RouterError(
                f"{self._profile.title}: {path}: it does not know this call",
                hint="dnsmasq needs OPNsense 25.7 or later, and Kea 24.1",
            )
        if status != 200 or not isinstance(answer, Mapping):
            told = answer.get("errorMessage") if isinstance(answer, Mapping) else None
            raise RouterError(f"{self._profile.title}: {path}: {told or f'HTTP status {status}'}")
        return answer


def _validations(answer: Mapping[str, Any]) -> Iterator[str]:
    for field, text in (answer.get("validations") or {}).items():
        yield f"{field.partition('.')[2]}: {text}"
