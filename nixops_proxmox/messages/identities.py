"""Who machines are, for people, for programs, and as lines of files."""

from typing import TYPE_CHECKING, Any

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.ssh.age import age_recipient
from nixops_proxmox.ssh.argv import known_hosts_pattern

if TYPE_CHECKING:
    from nixops_proxmox.operations.identity_verb import KnownKey

HEADS = ("machine", "host key", "age")


def identity_row(one: "KnownKey") -> tuple[str, ...]:
    return (one.machine, _plain(one), _age(one) or "-")


def identity_json(one: "KnownKey") -> dict[str, Any]:
    return {
        "machine": one.machine,
        "uuid": one.uuid,
        "host_key": _plain(one),
        "age": _age(one) or None,
        "known_hosts": known_hosts_line(one),
        "new": one.is_new,
    }


def age_line(one: "KnownKey") -> str:
    """Raises ConfigError if age has no recipients of such keys."""
    try:
        return age_recipient(one.host_key)
    except ConfigError as error:
        raise ConfigError(f"{one.machine}: {error.message}", hint="`--ssh` prints the key itself") from error


def ssh_line(one: "KnownKey") -> str:
    return f"{_plain(one)} {one.machine}"


def known_hosts_line(one: "KnownKey") -> str:
    names = [one.machine, *(known_hosts_pattern(host, port) for host, port in one.places)]
    return f"{','.join(dict.fromkeys(names))} {_plain(one)}"


def _plain(one: "KnownKey") -> str:
    """Without the comment."""
    return " ".join(one.host_key.split()[:2])


def _age(one: "KnownKey") -> str:
    try:
        return age_recipient(one.host_key)
    except ConfigError:
        return ""
