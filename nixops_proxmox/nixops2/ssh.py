"""The way into a machine for NixOps's own ssh, scp, rsync and nix-copy-closure."""

from dataclasses import dataclass

from nixops_proxmox.errors import NoPath
from nixops_proxmox.model import Machine
from nixops_proxmox.reach.guests import Guests
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.ssh.argv import canonical_host, nix_sshopts
from nixops_proxmox.ssh.known_hosts import KnownHost, known_hosts_lines


@dataclass(frozen=True)
class Way:
    """`name` is what stands after the @. `flags` have no blanks, for NixOps joins them with blanks."""

    name: str
    flags: tuple[str, ...]
    identity: str
    host_keys: str


def find_way(machine: Machine, spec: MachineSpec, guests: Guests) -> Way:
    """By the proven endpoint. Nothing is asked of the network. Raises ConfigError if a path has blanks in it."""
    endpoint = machine.facts.endpoint
    if endpoint is None:
        raise NoPath(f"{machine.name}: it has no known address")
    access = guests.access_at(endpoint, machine, spec)
    flags = nix_sshopts(access).split(" ")
    name = canonical_host(endpoint.host)
    if endpoint.is_ipv6:
        # scp wants brackets where ssh wants none, and NixOps gives both the same: a name suits both.
        flags += ["-o", f"HostName={name}"]
        name = machine.name
    keys = machine.facts.shown_keys
    lines = known_hosts_lines(KnownHost(tuple(keys), access.alias, ((endpoint.host, endpoint.port),)))
    return Way(name, tuple(flags), str(access.identity or ""), "\n".join(lines))
