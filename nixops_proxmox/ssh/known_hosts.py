"""Host keys as known_hosts lines: our own file per deployment, and a look into the user's for jump hosts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from paramiko.hostkeys import HostKeyEntry, HostKeys, InvalidHostKey
from paramiko.ssh_exception import SSHException

from nixops_proxmox.ssh.argv import known_hosts_pattern
from nixops_proxmox.ssh.files import ensure_private_directory, replace_file

USER_FILES = (Path("~/.ssh/known_hosts"), Path("~/.ssh/known_hosts2"), Path("/etc/ssh/ssh_known_hosts"))


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
    """The whole file; `hosts` by machine name."""
    lines = ["# Written by nixops-proxmox; changes are lost."]
    for name in sorted(hosts):
        lines += [f"# {name}", *known_hosts_lines(hosts[name])]
    return "\n".join(lines) + "\n"


def write_known_hosts(path: Path, hosts: Mapping[str, KnownHost]) -> None:
    """Replace the file as a whole, atomically."""
    ensure_private_directory(path.parent)
    replace_file(path, known_hosts_text(hosts))


def find_host_keys(host: str, port: int, files: Sequence[Path] = USER_FILES) -> tuple[str, ...]:
    """The keys that known_hosts files have for a host (hashed names too), without revoked ones; empty: unknown."""
    hosts = HostKeys()
    revoked: set[str] = set()
    for line in _lines(files):
        if line.startswith("@revoked"):
            revoked.add(" ".join(line.split()[2:4]))
        elif not line.startswith(("@", "#")):
            _add(hosts, line)
    found = hosts.lookup(known_hosts_pattern(host, port))
    keys = (f"{kind} {key.get_base64()}" for kind, key in found.items()) if found else ()
    return tuple(key for key in keys if key not in revoked)


def _lines(files: Iterable[Path]) -> Iterable[str]:
    for file in files:
        try:
            text = file.expanduser().read_text(errors="replace")
        except (FileNotFoundError, PermissionError):  # as for ssh: not there, nothing known
            continue
        yield from (line.strip() for line in text.splitlines() if line.strip())


def _add(hosts: HostKeys, line: str) -> None:
    try:
        entry = HostKeyEntry.from_line(line)
    except (InvalidHostKey, SSHException, ValueError):  # a broken line knows nobody
        return
    if entry is not None:
        for name in entry.hostnames:
            hosts.add(name, entry.key.get_name(), entry.key)
