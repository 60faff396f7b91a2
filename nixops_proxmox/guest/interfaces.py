"""What the agent says of the guest's network, as addresses."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

from nixops_proxmox.model import Address, Reach
from nixops_proxmox.pve.api.answers import AgentInterface

Classify = Callable[[IPv4Address | IPv6Address], Reach | None]
NO_MAC = "00:00:00:00:00:00"  # of lo and some tunnels


def addresses_of(interfaces: Iterable[AgentInterface], classify: Classify) -> tuple[Address, ...]:
    """Every address once, in the guest's order. `classify` tells its reach. One of no use (None: link-local, …) is kept
    as private, so that the choice can say why it leaves it out."""
    found = (
        Address(_without_zone(ip), classify(ip) or Reach.PRIVATE, _name(interface.name), _mac(interface.mac))
        for interface in interfaces
        for ip, _ in interface.addresses
    )
    return tuple(dict.fromkeys(found))


def with_mac(addresses: Iterable[Address], macs: Iterable[str]) -> tuple[Address, ...]:
    """Those on one of the VM's NICs, in the order of the NICs."""
    order = {mac.lower(): index for index, mac in enumerate(macs)}
    mine = [replace(address, mac=address.mac.lower()) for address in addresses if address.mac.lower() in order]
    return tuple(sorted(mine, key=lambda address: order[address.mac]))


def _without_zone(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Drop the zone: it is the guest's own name of a link, and means nothing outside."""
    return ip_address(int(ip).to_bytes(16, "big")) if ip.version == 6 else ip


def _mac(text: str) -> str:
    """Lower case with colons (Windows has dashes)."""
    plain = text.strip().lower().replace("-", ":")
    return "" if plain == NO_MAC else plain


def _name(text: str) -> str:
    """Printable, and not longer than anything that is a name: a guest may answer anything."""
    return "".join(character for character in text if character.isprintable())[:64]
