"""Host keys as known_hosts lines: our own file per deployment, and a look into the user's for jump hosts.

Ours, because paramiko's HostKeys knows neither patterns nor `@revoked` nor `@cert-authority`, which OpenSSH obeys.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nixops_proxmox.paths import expanded
from nixops_proxmox.ssh.argv import DEFAULT_PORT, known_hosts_pattern
from nixops_proxmox.ssh.files import ensure_private_directory, replace_file

USER_FILES = (
    Path("~/.ssh/known_hosts"),
    Path("~/.ssh/known_hosts2"),
    Path("/etc/ssh/ssh_known_hosts"),
    Path("/etc/ssh/ssh_known_hosts2"),
)
KEY_TYPES = frozenset(
    {"ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"}
)  # those that paramiko can prove
SUFFIX = "-cert-v01@openssh.com"  # of the types of certificates


@dataclass(frozen=True)
class KnownHost:
    """One machine: its keys under its alias, and under the addresses it has (host, port)."""

    keys: tuple[str, ...]
    alias: str = ""
    addresses: tuple[tuple[str, int], ...] = ()


def known_hosts_lines(host: KnownHost) -> list[str]:
    """One line per key: `alias,10.0.0.5,[fd77::5]:2222 ssh-ed25519 AAAA…`."""
    names = [host.alias] if host.alias else []
    names += [known_hosts_pattern(address, port) for address, port in host.addresses]
    patterns = ",".join(dict.fromkeys(names))
    return [f"{patterns} {' '.join(key.split()[:2])}" for key in host.keys] if patterns else []


def known_hosts_text(hosts: Mapping[str, KnownHost]) -> str:
    """The whole file. `hosts` by machine name."""
    lines = ["# Written by nixops-proxmox; changes are lost."]
    for name in sorted(hosts):
        lines += [f"# {name}", *known_hosts_lines(hosts[name])]
    return "\n".join(lines) + "\n"


def write_known_hosts(path: Path, hosts: Mapping[str, KnownHost]) -> None:
    """Replace the file as a whole, atomically."""
    ensure_private_directory(path.parent)
    replace_file(path, known_hosts_text(hosts))


@dataclass(frozen=True)
class Trusted:
    """What known_hosts files say of one host, as it stands there: its keys, the authorities that may certify it, and
    what is revoked. `bare`: the same of its name without the port, where OpenSSH looks next."""

    keys: tuple[str, ...] = ()
    authorities: tuple[str, ...] = ()
    revoked: frozenset[str] = frozenset()
    bare: "Trusted | None" = None

    def __bool__(self) -> bool:
        return bool(self.keys or self.authorities or self.bare)


def find_host_keys(host: str, port: int, files: Sequence[Path] = USER_FILES) -> tuple[str, ...]:
    """The keys that known_hosts files have for a host, without revoked ones. Empty: unknown."""
    found = find_trusted(host, port, files)
    if not (found.keys or found.authorities) and found.bare is not None:
        found = found.bare
    return _without(found.keys, found.revoked)


def find_trusted(host: str, port: int, files: Sequence[Path] = USER_FILES, alias: str = "") -> Trusted:
    """Look by name and port, and also by the name alone. With an alias (HostKeyAlias), look by that and nothing
    else."""
    lines = [entry for entry in map(_parse, _lines(files)) if entry is not None]
    found = _of(lines, alias.lower() or known_hosts_pattern(host, port))
    if alias or port == DEFAULT_PORT:
        return found
    return replace(found, bare=_of(lines, known_hosts_pattern(host)))


@dataclass(frozen=True)
class _Line:
    marker: str
    hosts: str
    key: str


def _of(lines: Iterable[_Line], name: str) -> Trusted:
    mine = [line for line in lines if _matches(line.hosts, name)]

    def marked(marker: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(line.key for line in mine if line.marker == marker))

    return Trusted(marked(""), marked("@cert-authority"), frozenset(marked("@revoked")))


def _without(keys: Iterable[str], revoked: frozenset[str]) -> tuple[str, ...]:
    return tuple(key for key in keys if key not in revoked)


def _matches(hosts: str, name: str) -> bool:
    """A list of patterns: one must fit, and none with `!` in front. A hashed name is never part of a list."""
    if hosts.startswith("|"):
        return _is_hash_of(hosts, name)
    patterns = hosts.lower().split(",")
    if any(_fits(pattern[1:], name) for pattern in patterns if pattern.startswith("!")):
        return False
    return any(_fits(pattern, name) for pattern in patterns)


def _fits(pattern: str, name: str) -> bool:
    """OpenSSH knows `*` and `?`, and no brackets of other shells."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), name) is not None


def _is_hash_of(hashed: str, name: str) -> bool:
    """|1|salt|HMAC-SHA1 of the name"""
    try:
        _, magic, salt, digest = hashed.split("|")
        made = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
        return magic == "1" and hmac.compare_digest(made, base64.b64decode(digest))
    except ValueError:
        return False


def _parse(line: str) -> _Line | None:
    """None for a comment, and for a line that is broken or has a marker that OpenSSH does not know."""
    words = line.split()
    marker = words.pop(0) if line.startswith("@") else ""
    if line.startswith("#") or marker not in ("", "@revoked", "@cert-authority") or len(words) < 3:
        return None
    hosts, kind, blob = words[:3]
    try:
        data = base64.b64decode(blob, validate=True)
    except ValueError:
        return None
    named = data[4 : 4 + len(kind)] == kind.encode() and int.from_bytes(data[:4], "big") == len(kind)
    return _Line(marker, hosts, f"{kind} {blob}") if named and kind in KEY_TYPES else None


def _lines(files: Iterable[Path]) -> Iterable[str]:
    for file in files:
        try:
            text = expanded(file).read_text(errors="replace")
        except (FileNotFoundError, PermissionError):  # as for ssh: not there, nothing known
            continue
        yield from (line.strip() for line in text.splitlines() if line.strip())
