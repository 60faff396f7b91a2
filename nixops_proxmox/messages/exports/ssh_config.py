"""A file for OpenSSH's `Include`, and the known_hosts file that it pins."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from nixops_proxmox.model import Endpoint
from nixops_proxmox.operations.exporting import Exported
from nixops_proxmox.ssh.argv import Access, canonical_host, name_hops, quoted
from nixops_proxmox.ssh.known_hosts import KnownHost, known_hosts_text

FIXED = frozenset({
    "hostname", "port", "user", "hostkeyalias", "userknownhostsfile", "globalknownhostsfile", "stricthostkeychecking",
    "updatehostkeys", "checkhostip", "identityfile", "identitiesonly", "proxyjump", "proxycommand",
})  # fmt: skip


def config_lines(machines: Sequence[Exported], known_hosts: Path | None = None) -> list[str]:
    """`known_hosts`: the file for all; None: each machine's own, in the deployment's folder."""
    lines = ["# Written by nixops-proxmox; changes are lost. Include it at the top of ~/.ssh/config."]
    gates = {one.access.alias: one.access.endpoint for one in machines if one.access is not None}
    for one in machines:
        if one.access is not None:
            lines += ["", f"Host {one.name} {one.access.alias}", *_settings(one.access, known_hosts, gates)]
    return lines


def pinned_text(machines: Sequence[Exported]) -> str:
    """The known_hosts file: each machine's keys under its alias, and under no address."""
    return known_hosts_text(
        {one.name: KnownHost(one.host_keys, one.access.alias) for one in machines if one.access is not None}
    )


def known_hosts_beside(path: Path) -> Path:
    """A hidden file, which `Include folder/*` does not take for a configuration. No sweep takes it for a left-over."""
    return path.absolute().parent / f".{path.name}-known_hosts"


def _jump(endpoint: Endpoint, gates: Mapping[str, Endpoint]) -> str:
    """A jump host that is in the same file goes by its name there: so it is held to the key that we pin."""
    hops = name_hops(endpoint.jump, gates)
    return (hops[-1][1] if hops else "") or endpoint.jump or "none"


def _settings(access: Access, known_hosts: Path | None, gates: Mapping[str, Endpoint]) -> list[str]:
    endpoint = access.endpoint
    settings = [
        ("HostName", canonical_host(endpoint.host).replace("%", "%%")),
        ("User", endpoint.user),
        ("Port", str(endpoint.port)),
        ("HostKeyAlias", access.alias),
        ("UserKnownHostsFile", quoted(known_hosts or access.known_hosts)),
        ("GlobalKnownHostsFile", "/dev/null"),
        ("StrictHostKeyChecking", "yes"),
        ("UpdateHostKeys", "no"),
        ("CheckHostIP", "no"),
    ]
    if access.identity is not None:
        settings += [("IdentityFile", quoted(access.identity)), ("IdentitiesOnly", "yes")]
    settings.append(("ProxyJump", _jump(endpoint, gates)))
    theirs = [(name, value) for name, value in access.options.items() if _is_setting(name, value)]
    return [f"  {name} {value}" for name, value in (*settings, *theirs)]


def _is_setting(name: str, value: str) -> bool:
    return name.lower() not in FIXED and re.fullmatch(r"[A-Za-z]+", name) is not None and value.isprintable()
