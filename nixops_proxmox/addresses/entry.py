"""One entry of a list: whose MAC it is, and which addresses and name belong to it."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from pathlib import Path

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.spec.values import parse_mac
from nixops_proxmox.texts import is_machine_name

FIELDS = ("host", "ipv4", "ipv6", "mac", "user", "date")
_SPELLINGS = {"hostname": "host", "name": "host", "fqdn": "host", "ip": "ipv4", "hwaddr": "mac", "hw_address": "mac"}
_MARK = re.compile(r"\(([^()/\s]+/[^()/\s]+)\)\Z")


@dataclass(frozen=True)
class PoolEntry:
    """`line`: where it begins in the file, from 1. `mac`: upper case. Without a `user` it is free."""

    line: int
    mac: str
    host: str = ""
    ipv4: IPv4Interface | None = None
    ipv6: IPv6Interface | None = None
    user: str = ""
    date: str = ""

    @property
    def label(self) -> str:
        """The host name's first label, lower case."""
        return self.host.partition(".")[0].lower()

    @property
    def mark(self) -> str:
        """Which machine of which deployment has it, if one of ours has: `DEPLOYMENT/MACHINE`."""
        found = _MARK.search(self.user)
        return found[1] if found else ""

    @property
    def title(self) -> str:
        return f"{self.host or self.mac} (line {self.line})"


def mark_of(deployment: str, machine: str, slot: str) -> str:
    """What an entry's user ends in, in parentheses. A machine's first NIC is not named."""
    return f"{deployment}/{machine}" + ("" if slot == "net0" else f".{slot}")


def field_of(key: str) -> str:
    """The field that a column or key means, whatever its case; empty: none of ours."""
    word = key.strip().lower()
    word = _SPELLINGS.get(word, word)
    return word if word in FIELDS else ""


def parse_entry(path: Path, line: int, values: Mapping[str, object]) -> PoolEntry:
    """`values` by the file's own keys. ConfigError names file and line."""
    texts = {field: _text(value) for key, value in values.items() if (field := field_of(key))}
    where = f"{path}, line {line}"
    if not texts.get("mac"):
        raise ConfigError(f"{where}: the entry has no MAC", hint="give it a line such as MAC: DE:AD:BE:EF:00:00")
    host = texts.get("host", "").rstrip(".")
    try:
        mac = parse_mac(texts["mac"].replace("-", ":"))
        if host and not is_machine_name(host):
            raise ValueError("expected a host name such as pvm001.example.com")
        v4, v6 = _address(texts.get("ipv4", ""), 4), _address(texts.get("ipv6", ""), 6)
    except ValueError as error:
        shown = ", ".join(f"{key}: {_text(value)}" for key, value in values.items() if field_of(key))
        raise ConfigError(f"{where}: {error}, in {shown!r}") from error
    assert not isinstance(v4, IPv6Interface) and not isinstance(v6, IPv4Interface)
    return PoolEntry(line, mac, host, v4, v6, texts.get("user", ""), texts.get("date", ""))


def _text(value: object) -> str:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, date) else str(value).strip()


def _address(text: str, family: int) -> IPv4Interface | IPv6Interface | None:
    """A bare address has the prefix of a single one."""
    if not text:
        return None
    found = ip_interface(text)
    if found.version != family:
        raise ValueError(f"expected an IPv{family} address")
    return found


def refuse_doubles(path: Path, entries: Sequence[PoolEntry]) -> None:
    seen: dict[str, PoolEntry] = {}
    for entry in entries:
        if entry.mac in seen:
            lines = f"lines {seen[entry.mac].line} and {entry.line}"
            raise ConfigError(f"{path}: {lines} have the same MAC, {entry.mac}", hint="give one of them another MAC")
        seen[entry.mac] = entry


def tell_users(entries: Iterable[PoolEntry]) -> str:
    """Who has taken how many: `Lars 5, Anna 2`."""
    users = Counter(_MARK.sub("", entry.user).strip() or entry.user for entry in entries if entry.user)
    return ", ".join(f"{user} {count}" for user, count in users.most_common())
