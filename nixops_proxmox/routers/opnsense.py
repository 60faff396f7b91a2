"""OPNsense, by its API: reservations of its Kea, or hosts of its dnsmasq (25.7 and later), which are names in DNS, too.

Kea has a list for each family, and its DHCPv6 knows MACs since 26.1. An entry's description says whose it is. A refusal
comes as HTTP 200. Nothing acts before its service is reconfigured.
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
KEA_SIX = Service("kea/dhcpv6", "Reservation", "description")
DNSMASQ = Service("dnsmasq/settings", "Host", "descr")
SERVICES = {"kea": KEA, "dnsmasq": DNSMASQ}


class Opnsense:
    """`service`: kea or dnsmasq. `ipv6`: its Kea's DHCPv6, too. The user is the API's key, the secret its secret."""

    marks = True

    def __init__(self, profile: RouterProfile) -> None:
        self._profile = profile
        name = profile.setting("service", "kea")
        if name not in SERVICES:
            raise ConfigError(f"{profile.title}: `service` is {name!r}", hint="use kea or dnsmasq")
        first = SERVICES[name]
        self._services = (KEA, KEA_SIX) if first is KEA and profile.settings.get("ipv6") else (first,)
        self._web = Web(profile, basic=True)
        self.routing = OpnsenseRouting(profile, self._web)

    def close(self) -> None:
        self._web.close()

    def read(self) -> Sequence[Reservation]:
        """DHCPv4's and DHCPv6's entries of one owner and MAC are one."""
        found: dict[tuple[str, str], Reservation] = {}
        for service in self._services:
            for row in self._rows(service):
                one = _parse(row, service)
                key = (one.owner, one.mac or f"{one.ipv4} {one.ipv6}")
                before = found.get(key)
                found[key] = one if before is None else before.joined(one)
        return list(found.values())

    def agrees(self, have: Reservation, want: Reservation) -> bool:
        return have == self._fitted(want)

    def put(self, wanted: Sequence[Reservation]) -> None:
        """Safe to repeat: what was made before a run was killed is deleted first. All of ours that change go before the
        first is made, because they may have changed their addresses with one another."""
        entries = [(service, one, fields) for service in self._services for one, fields in self._told(service, wanted)]
        self.drop(wanted)
        for service, one, fields in entries:
            self._write(service, f"add{service.item}", {service.key: fields}, one.owner)

    def drop(self, gone: Sequence[Reservation]) -> None:
        """Safe to repeat: one that is gone needs nothing."""
        owners = {one.owner for one in gone}
        for service in self._services:
            for row in self._rows(service):
                if (owner := _parse(row, service).owner) in owners:
                    self._write(service, f"del{service.item}/{row['uuid']}", {}, owner)

    def settle(self) -> None:
        """Safe to repeat: the service takes over what is configured."""
        module = self._services[0].place.partition("/")[0]
        answer = self._call("POST", f"{module}/service/reconfigure", {})
        if answer.get("status") != "ok":
            raise RouterError(f"{self._profile.title}: {module} was not reconfigured: {answer}")

    # What there is.

    def _rows(self, service: Service) -> list[Mapping[str, str]]:
        answer = self._call("POST", f"{service.place}/search{service.item}", EVERYTHING)
        return list(answer.get("rows", []))

    def _fitted(self, one: Reservation) -> Reservation:
        """As it can be there: its Kea has names without a domain, and IPv6 if it is told of it."""
        if DNSMASQ in self._services:
            return one
        return replace(one, ipv6=one.ipv6 if KEA_SIX in self._services else "", hostname=one.label)

    # What is done.

    def _told(self, service: Service, wanted: Sequence[Reservation]) -> Iterator[tuple[Reservation, Mapping[str, str]]]:
        """What a service is told of each that it can have."""
        subnets = {} if service is DNSMASQ else self._subnets(service)
        for one in wanted:
            if service is DNSMASQ:
                yield one, _host(one)
            elif address := one.ipv6 if service is KEA_SIX else one.ipv4:
                subnet = subnets[choose_subnet(one, address, subnets, self._profile.title)]
                yield one, _reservation(one, address, subnet)
            elif KEA_SIX not in self._services:
                raise RouterError(
                    f"{one.owner}: {self._profile.title}: its Kea is told of IPv4 addresses, and it has none",
                    hint="with OPNsense 26.1 or later, set ipv6 = true in routers.toml",
                )

    def _subnets(self, service: Service) -> Mapping[str, str]:
        """Their UUIDs. One whose prefix comes from the provider has no text, and no reservations."""
        rows = self._call("POST", f"{service.place}/searchSubnet", EVERYTHING).get("rows", [])
        return {str(row["subnet"]): str(row["uuid"]) for row in rows if row.get("subnet")}

    def _write(self, service: Service, command: str, body: object, owner: str) -> None:
        answer = self._call("POST", f"{service.place}/{command}", body)
        if answer.get("result") not in ("saved", "deleted", "not found"):
            told = "; ".join(_validations(answer)) or f"it answered {answer}"
            raise RouterError(f"{owner}: {self._profile.title}: {told}", hint=_hint(service, told))

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
                hint="dnsmasq and Kea's DHCPv6 need OPNsense 25.7 or later, and Kea 24.1",
            )
        if status != 200 or not isinstance(answer, Mapping):
            told = answer.get("errorMessage") if isinstance(answer, Mapping) else None
            raise RouterError(f"{self._profile.title}: {path}: {told or f'HTTP status {status}'}")
        return answer


def _parse(row: Mapping[str, str], service: Service) -> Reservation:
    described = row.get(service.description, "")
    owner = described.removeprefix(MARK).strip() if described.startswith(MARK) else ""
    if service is not DNSMASQ:
        address, mac = row.get("ip_address", ""), row.get("hw_address", "").lower()
        v4, v6 = ("", address) if service is KEA_SIX else (address, "")
        return Reservation(owner, mac, v4, v6, row.get("hostname", ""))
    addresses = [part.strip() for part in row.get("ip", "").split(",") if part.strip()]
    v4 = next((one for one in addresses if ":" not in one), "")
    v6 = next((one for one in addresses if ":" in one), "")
    name = ".".join(part for part in (row.get("host", ""), row.get("domain", "")) if part)
    return Reservation(owner, row.get("hwaddr", "").partition(",")[0].lower(), v4, v6, name)


def _host(one: Reservation) -> Mapping[str, str]:
    host, _, domain = one.hostname.partition(".")
    addresses = ",".join(filter(None, (one.ipv4, one.ipv6)))
    return {"host": host, "domain": domain, "ip": addresses, "hwaddr": one.mac, "descr": f"{MARK}{one.owner}"}


def _reservation(one: Reservation, address: str, subnet: str) -> Mapping[str, str]:
    return {
        "subnet": subnet,
        "ip_address": address,
        "hw_address": one.mac,
        "hostname": one.label,
        "description": f"{MARK}{one.owner}",
    }


def _hint(service: Service, told: str) -> str:
    if service is KEA_SIX and "duid:" in told:
        return "its DHCPv6 knows MACs since OPNsense 26.1: without ipv6 in routers.toml, it is told of IPv4 alone"
    return "is there an entry of somebody else's?"


def _validations(answer: Mapping[str, Any]) -> Iterator[str]:
    for field, text in (answer.get("validations") or {}).items():
        yield f"{field.partition('.')[2]}: {text}"
