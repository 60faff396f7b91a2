"""Who machines are, for people, for programs, and as lines of files."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.messages.shapes.machines import IdentityJson, NextIdentityJson
from nixops_proxmox.ssh.age import age_recipient
from nixops_proxmox.ssh.argv import known_hosts_pattern

if TYPE_CHECKING:
    from nixops_proxmox.operations.identity_verb import KnownKey

HEADS = ("machine", "", "host key", "age")


def identity_rows(one: "KnownKey") -> Sequence[tuple[str, ...]]:
    """One for each key that it has, and one for the key that it gets."""
    whens = ("now", "next") if one.next_key else ("",)
    return [(one.machine, when, _plain(key), _age(key) or "-") for when, key in zip(whens, _keys(one), strict=True)]


def identity_json(one: "KnownKey") -> IdentityJson:
    following: NextIdentityJson = {"host_key": _plain(one.next_key), "age": _age(one.next_key) or None}
    return {
        "machine": one.machine,
        "uuid": one.uuid,
        "host_key": _plain(one.host_key),
        "age": _age(one.host_key) or None,
        "known_hosts": "\n".join(known_hosts_lines(one)),
        "new": one.is_new,
        "next": following if one.next_key else None,
    }


def age_lines(one: "KnownKey") -> list[str]:
    """Raises ConfigError if age has no recipients of such keys."""
    try:
        return [age_recipient(key) for key in _keys(one)]
    except ConfigError as error:
        raise ConfigError(f"{one.machine}: {error.message}", hint="`--ssh` prints the key itself") from error


def ssh_lines(one: "KnownKey") -> list[str]:
    return [f"{_plain(key)} {one.machine}" for key in _keys(one)]


def known_hosts_lines(one: "KnownKey") -> list[str]:
    names = [one.machine, *(known_hosts_pattern(host, port) for host, port in one.places)]
    return [f"{','.join(dict.fromkeys(names))} {_plain(key)}" for key in _keys(one)]


def _keys(one: "KnownKey") -> list[str]:
    """While it gets another one, both are its keys."""
    return [one.host_key, one.next_key] if one.next_key else [one.host_key]


def _plain(key: str) -> str:
    """Without the comment."""
    return " ".join(key.split()[:2])


def _age(key: str) -> str:
    try:
        return age_recipient(key)
    except ConfigError:
        return ""
