"""What kind of address an IP is, by the IANA special-purpose registries (RFC 6890), in tables of our own.

Python's `is_private` and `is_global` differ between patch releases (3.11.9, 3.12.4, 3.13), so they are not used.
Three answers: private, public, or of no use for reaching a machine. How the ranges that need an opinion are read:

- ULA (fc00::/7), RFC 1918 and CGNAT (100.64.0.0/10) are private: reachable, but only from inside.
- Documentation and benchmarking ranges are private: none is routed, so a guest that has one is in a closed network.
- Link-local addresses are of no use: they mean another machine on every link, and need the operator's own zone.
- The withdrawn 6to4 anycast (192.88.99.0/24), Teredo and 6to4 are public: routed by those who still have them.
- IPv6 outside of 2000::/3 that no registry names is of no use: it is not assigned to anybody.
"""

from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from nixops_proxmox.model import Reach

Ip = IPv4Address | IPv6Address


@dataclass(frozen=True)
class AddressRange:
    """A range of addresses. `reach` is None where no machine can be reached by such an address."""

    network: IPv4Network | IPv6Network
    name: str
    reach: Reach | None


# fmt: off
_PRIVATE = (
    ("10.0.0.0/8", "private use (RFC 1918)"), ("172.16.0.0/12", "private use (RFC 1918)"),
    ("192.168.0.0/16", "private use (RFC 1918)"), ("100.64.0.0/10", "shared by a carrier's NAT (RFC 6598)"),
    ("192.0.2.0/24", "documentation (RFC 5737)"), ("198.51.100.0/24", "documentation (RFC 5737)"),
    ("203.0.113.0/24", "documentation (RFC 5737)"), ("198.18.0.0/15", "benchmarking (RFC 2544)"),
    ("192.0.0.0/24", "IETF protocol assignments (RFC 6890)"),
    ("fc00::/7", "unique local (RFC 4193)"), ("fec0::/10", "site-local, withdrawn (RFC 3879)"),
    ("2001:db8::/32", "documentation (RFC 3849)"), ("3fff::/20", "documentation (RFC 9637)"),
    ("2001:2::/48", "benchmarking (RFC 5180)"), ("64:ff9b:1::/48", "local-use translation (RFC 8215)"),
    ("2001::/23", "IETF protocol assignments (RFC 2928)"),
)
_PUBLIC = (
    ("0.0.0.0/0", "public"), ("2000::/3", "public"),
    ("192.88.99.0/24", "6to4 relay anycast, withdrawn (RFC 7526)"),
    ("192.0.0.9/32", "PCP anycast (RFC 7723)"), ("192.0.0.10/32", "TURN anycast (RFC 8155)"),
    ("192.31.196.0/24", "AS112-v4 (RFC 7535)"), ("192.52.193.0/24", "AMT (RFC 7450)"),
    ("192.175.48.0/24", "AS112 direct delegation (RFC 7534)"),
    ("64:ff9b::/96", "IPv4-IPv6 translation (RFC 6052)"), ("2001::/32", "Teredo (RFC 4380)"),
    ("2002::/16", "6to4 (RFC 3056)"), ("2001:3::/32", "AMT (RFC 7450)"), ("2001:4:112::/48", "AS112-v6 (RFC 7535)"),
    ("2001:1::1/128", "PCP anycast (RFC 7723)"), ("2001:1::2/128", "TURN anycast (RFC 8155)"),
    ("2001:1::3/128", "DNS-SD SRP anycast (RFC 9665)"), ("2620:4f:8000::/48", "AS112 direct delegation (RFC 7534)"),
)
_NO_USE = (
    ("0.0.0.0/8", "this network (RFC 791)"), ("127.0.0.0/8", "loopback (RFC 1122)"),
    ("169.254.0.0/16", "link-local (RFC 3927)"), ("192.0.0.8/32", "dummy (RFC 7600)"),
    ("192.0.0.170/31", "NAT64 discovery (RFC 8880)"), ("224.0.0.0/4", "multicast (RFC 5771)"),
    ("240.0.0.0/4", "reserved (RFC 1112)"), ("255.255.255.255/32", "broadcast (RFC 8190)"),
    ("::/0", "not assigned"), ("::/128", "unspecified (RFC 4291)"), ("::1/128", "loopback (RFC 4291)"),
    ("::ffff:0:0/96", "IPv4-mapped (RFC 4291)"), ("100::/64", "discard (RFC 6666)"),
    ("100:0:0:1::/64", "dummy (RFC 9780)"), ("2001:10::/28", "ORCHID, withdrawn (RFC 4843)"),
    ("2001:20::/28", "ORCHIDv2 (RFC 7343)"), ("2001:30::/28", "drone identifiers (RFC 9374)"),
    ("5f00::/16", "segment routing (RFC 9602)"), ("fe80::/10", "link-local (RFC 4291)"),
    ("ff00::/8", "multicast (RFC 4291)"),
)
# fmt: on


def _kinds() -> tuple[AddressRange, ...]:
    """All ranges, the most specific first, so that the first match is the right one."""
    rows = [(rows, reach) for rows, reach in ((_PRIVATE, Reach.PRIVATE), (_PUBLIC, Reach.PUBLIC), (_NO_USE, None))]
    kinds = [AddressRange(ip_network(text), name, reach) for table, reach in rows for text, name in table]
    return tuple(sorted(kinds, key=lambda kind: -kind.network.prefixlen))


KINDS = _kinds()


@cache
def _kinds_of(version: int) -> tuple[AddressRange, ...]:
    return tuple(kind for kind in KINDS if kind.network.version == version)


def classify(ip: Ip) -> AddressRange:
    """The most specific range that holds the address. A zone (fe80::1%eth0) does not matter."""
    number = int(ip)
    for kind in _kinds_of(ip.version):
        if int(kind.network.network_address) <= number <= int(kind.network.broadcast_address):
            return kind
    raise ValueError(f"no range holds {ip}")  # unreachable: both families have a /0


def find_reach(ip: Ip) -> Reach | None:
    """Private, public, or None: no machine can be reached by it."""
    return classify(ip).reach
