"""What a DHCP server or a name server is told of one NIC."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Protocol

from nixops_proxmox.errors import RouterError, StateError


@dataclass(frozen=True, order=True)
class Reservation:
    """`owner`: `DEPLOYMENT/MACHINE.SLOT`; empty: somebody else's. `mac`: lower case. Addresses are without a prefix,
    and empty if there is none. `hostname`: with a domain or without one."""

    owner: str
    mac: str
    ipv4: str = ""
    ipv6: str = ""
    hostname: str = ""

    @property
    def label(self) -> str:
        """The host name without its domain."""
        return self.hostname.partition(".")[0]

    @property
    def key(self) -> str:
        """A name that no other NIC of the deployment has, for systems that want one."""
        return self.owner.rpartition("/")[2].removesuffix(".net0").replace(".", "-")

    def full_name(self, domain: str) -> str:
        """`domain`: of a name that has none."""
        return self.hostname if "." in self.hostname or not domain else f"{self.hostname}.{domain}"

    def joined(self, other: "Reservation") -> "Reservation":
        """Two entries of one NIC as one. Where both say something, this one counts."""
        mac, ipv4, ipv6 = self.mac or other.mac, self.ipv4 or other.ipv4, self.ipv6 or other.ipv6
        return Reservation(self.owner, mac, ipv4, ipv6, self.hostname or other.hostname)

    @property
    def title(self) -> str:
        return " ".join(filter(None, (self.hostname, self.mac, self.ipv4, self.ipv6)))


class Router(Protocol):
    """A system that keeps reservations. All methods raise RouterError. One process calls one method at a time.

    `marks`: its entries say whose they are. Where they cannot, the entry with the MAC of a machine of ours is ours."""

    @property
    def marks(self) -> bool: ...

    def read(self) -> Sequence[Reservation]:
        """All that it has, ours and others', settled or not."""
        ...

    def agrees(self, have: Reservation, want: Reservation) -> bool:
        """Is that entry what it makes of this one? A router may keep less than it is told. Nothing is asked of it but,
        once, its release."""
        ...

    def put(self, wanted: Sequence[Reservation]) -> None:
        """Make these as they are described, all in one change. They have owners, and entries of others stay."""
        ...

    def drop(self, gone: Sequence[Reservation]) -> None:
        """Remove what has one of these owners, all in one change, and nothing else."""
        ...

    def settle(self) -> None:
        """Let what was put and dropped act, and last beyond a restart. Safe to repeat."""
        ...


def find_conflict(wanted: Reservation, there: Iterable[Reservation], router: str) -> StateError | None:
    """The error for an entry of somebody else's that stands in the way."""
    for other in there:
        if other.owner == wanted.owner:
            continue
        same = [
            what
            for what, mine, theirs in (
                ("MAC", wanted.mac, other.mac),
                ("IPv4 address", wanted.ipv4, other.ipv4),
                ("IPv6 address", wanted.ipv6, other.ipv6),
            )
            if mine and mine == theirs
        ]
        if same:
            whose = f"the machine {other.owner}" if other.owner else "somebody else"
            return StateError(
                f"{wanted.owner}: {router} has {other.title} for {whose}, with the same {' and '.join(same)}",
                hint="remove that entry there, or describe another address",
            )
    return None


def choose_subnet(one: Reservation, address: str, subnets: Collection[str], router: str, where: str = "") -> str:
    """The one that the address is in. RouterError if none is."""
    found = next((subnet for subnet in subnets if ip_address(address) in ip_network(subnet)), None)
    if found is None:
        raise RouterError(
            f"{one.owner}: {router} has no subnet for {address}{where}",
            hint=f"its subnets: {', '.join(subnets) or 'none'}",
        )
    return found
