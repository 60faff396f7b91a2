"""Kea: the configuration is read, edited, tested, set and written. Kea's own reservation commands need a hook that 2.x
does not have. What is ours says so in its user-context, which Kea keeps."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from nixops_proxmox.errors import RouterError
from nixops_proxmox.routers.profile import RouterProfile
from nixops_proxmox.routers.reservation import Reservation, choose_subnet
from nixops_proxmox.routers.web import Web

MARK = "nixops-proxmox"
TRIES = 5  # how often a change is begun again because somebody else changed the configuration meanwhile
OK, EMPTY = 0, 3

Edit = Callable[[dict[str, Any]], bool]  # of the configuration of one daemon; False: there is nothing to change


class Kea:
    """`direct`: the daemon itself answers (3.0 and later), and no control agent. `ipv6`: DHCPv6, too."""

    marks = True

    def __init__(self, profile: RouterProfile) -> None:
        self._profile = profile
        self._web = Web(profile, basic=True)
        self._families = (4, 6) if profile.settings.get("ipv6") else (4,)

    def close(self) -> None:
        self._web.close()

    def read(self) -> Sequence[Reservation]:
        """DHCPv4's and DHCPv6's entries of one owner and MAC are one."""
        found: dict[tuple[str, str], Reservation] = {}
        for family in self._families:
            config, _ = self._get(family)
            for _, entry in _entries(config, family):
                one = _parse(entry, family)
                before = found.get((one.owner, one.mac))
                key = (one.owner, one.mac or f"{family} {one.ipv4}{one.ipv6}")
                found[key] = one if before is None else before.joined(one)
        return list(found.values())

    def put(self, wanted: Sequence[Reservation]) -> None:
        for family in self._families:
            self._change(family, partial(_put, family=family, wanted=wanted, title=self._profile.title))

    def agrees(self, have: Reservation, want: Reservation) -> bool:
        """Without `ipv6`, its DHCPv6 is not asked."""
        return have == (want if 6 in self._families else replace(want, ipv6=""))

    def drop(self, gone: Sequence[Reservation]) -> None:
        owners = [one.owner for one in gone]
        for family in self._families:
            self._change(family, partial(_drop, family=family, owners=owners))

    def settle(self) -> None:
        """Safe to repeat: Kea writes its file with what it has now."""
        for family in self._families:
            self._ask(family, "config-write")

    def _change(self, family: int, edit: Edit) -> None:
        """Safe to repeat: each try begins with what is there now, and one that finds all done changes nothing."""
        for _ in range(TRIES):
            config, version = self._get(family)
            if not edit(config):
                return
            whole = {_root(family): config}
            self._ask(family, "config-test", whole)
            if self._get(family)[1] != version:
                continue  # somebody else has set another one since
            self._ask(family, "config-set", whole)
            return
        raise RouterError(
            f"{self._profile.title}: its configuration was changed by others {TRIES} times while we changed it",
            hint="try again when they are done",
        )

    def _get(self, family: int) -> tuple[dict[str, Any], object]:
        """The configuration as it can be set again, and what tells whether it is still that one: the hash, or before
        2.4, all of it."""
        arguments = dict(self._ask(family, "config-get"))
        version = arguments.pop("hash", None)
        config = arguments.get(_root(family))
        if not isinstance(config, dict):
            raise RouterError(f"{self._profile.title}: its answer to config-get has no {_root(family)}")
        config.pop("hash", None)
        return config, version or repr(config)

    def _ask(self, family: int, command: str, arguments: object = None) -> Any:
        body: dict[str, object] = {"command": command}
        if not self._profile.settings.get("direct"):
            body["service"] = [f"dhcp{family}"]
        if arguments is not None:
            body["arguments"] = arguments
        status, answer = self._web.call("POST", "/", body)
        first = answer[0] if isinstance(answer, list) and answer else answer
        what = f"{self._profile.title}: {command} of dhcp{family}"
        if status == 401:
            raise RouterError(f"{what}: it does not accept our user and secret", hint="look at username and secret")
        if status != 200 or not isinstance(first, dict) or first.get("result") not in (OK, EMPTY):
            text = first.get("text", "") if isinstance(first, dict) else ""
            raise RouterError(f"{what}: {text or f'HTTP status {status}'}", hint=_hint(text))
        return first.get("arguments") or {}


def _hint(text: str) -> str:
    if "is not within the" in text:
        return "the address must be in one of the server's subnets"
    if "unable to forward command" in text:
        return "is the daemon running, and does its control-socket fit the agent's?"
    return ""


def _root(family: int) -> str:
    return f"Dhcp{family}"


def _subnets(config: dict[str, Any], family: int) -> Iterator[dict[str, Any]]:
    key = f"subnet{family}"
    yield from config.get(key, [])
    for shared in config.get("shared-networks", []):
        yield from shared.get(key, [])


def _entries(config: dict[str, Any], family: int) -> Iterator[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Each entry, with the list that it is in: those for all subnets, too."""
    for place in (config, *_subnets(config, family)):
        for entry in place.get("reservations", []):
            yield place["reservations"], entry


def _owner(entry: dict[str, Any]) -> str:
    return str((entry.get("user-context") or {}).get(MARK, ""))


def _parse(entry: dict[str, Any], family: int) -> Reservation:
    addresses = [entry.get("ip-address", "")] if family == 4 else entry.get("ip-addresses", [])
    address = str(addresses[0]) if addresses and addresses[0] else ""
    mac, name = str(entry.get("hw-address", "")).lower(), str(entry.get("hostname", ""))
    v4, v6 = (address, "") if family == 4 else ("", address)
    return Reservation(_owner(entry), mac, v4, v6, name)


def _drop(config: dict[str, Any], family: int, owners: Sequence[str]) -> bool:
    ours = [(place, entry) for place, entry in _entries(config, family) if _owner(entry) in owners]
    for place, entry in ours:
        place.remove(entry)
    return bool(ours)


def _put(config: dict[str, Any], family: int, wanted: Sequence[Reservation], title: str) -> bool:
    changed = False
    for one in wanted:
        address = one.ipv4 if family == 4 else one.ipv6
        if not address:
            changed |= _drop(config, family, [one.owner])
            continue
        entry: dict[str, Any] = {"hw-address": one.mac, "hostname": one.hostname, "user-context": {MARK: one.owner}}
        entry |= {"ip-address": address} if family == 4 else {"ip-addresses": [address]}
        there = [found for _, found in _entries(config, family) if _owner(found) == one.owner]
        if len(there) == 1 and _parse(there[0], family) == _parse(entry, family):
            continue
        _drop(config, family, [one.owner])
        subnets = {subnet["subnet"]: subnet for subnet in _subnets(config, family)}
        subnets[choose_subnet(one, address, subnets, title)].setdefault("reservations", []).append(entry)
        changed = True
    return changed
