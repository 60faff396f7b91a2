"""How a NIC's addresses may be written, and what they must agree on."""

from ipaddress import IPv4Address, IPv6Address, ip_network

from nixops_proxmox.spec.machine import IpSpec
from nixops_proxmox.spec.tree import Mistakes, Node, below

_METHODS = ("dhcp", "auto", "none")


def spell_out(node: Node, *, family: int) -> Node:
    """The attribute set that a short form means: "dhcp", "none", "10.0.0.2/24", or an address that is one of these."""
    if isinstance(node.value, str):
        return Node(node.path, _from_text(node))
    if not isinstance(node.value, dict):
        return node
    fields = dict(node.value)
    address, prefix = fields.get("address"), fields.get("prefix")
    if prefix is not None and isinstance(prefix.value, str):
        fields["prefix"] = _number(prefix)
    if address is not None and isinstance(address.value, str):
        del fields["address"]
        fields = _from_text(address) | fields
    if "method" not in fields:
        method = "static" if "address" in fields else "dhcp" if family == 4 else "auto"
        fields["method"] = Node(node.path, method)
    return Node(node.path, fields)


def _from_text(node: Node) -> dict[str, Node]:
    text = str(node.value).strip()
    if text in _METHODS:
        return {"method": Node(node.path, text)}
    address, slash, prefix = text.partition("/")
    fields = {"method": Node(node.path, "static"), "address": Node(node.path, address)}
    return {**fields, "prefix": _number(Node(node.path, prefix))} if slash else fields


def _number(node: Node) -> Node:
    """Turn text that is a small number into that number. Other text stays, and is refused later."""
    text = str(node.value)
    return Node(node.path, int(text)) if text.isascii() and text.isdecimal() and len(text) < 4 else node


def check_ip(ip: IpSpec, node: Node, mistakes: Mistakes, *, family: int) -> None:
    """`node` is where the family's addresses were written."""
    name = f"IPv{family}"
    if ip.method != "static":
        if ip.method == "auto" and family == 4:
            mistakes.add(node.path, 'IPv4 has no "auto": expected dhcp, none, or an address with its prefix')
        expects = ip.method == "dhcp" and ip.address is not None  # which address the server gives
        if expects and ip.address is not None and ip.address.version != family:
            mistakes.add(node.path, f"expected an {name} address, got {ip.address}")
        for field in ("prefix", "gateway") if expects else ("address", "prefix", "gateway"):
            if getattr(ip, field) is not None:
                mistakes.add(below(node.path, field), f"has no meaning with the method {ip.method}")
        return
    if ip.prefix is None:
        mistakes.add(node.path, f'a static address needs its prefix, as in "{_example(family)}"')
        return
    if ip.address is None:
        return  # it must come from a list of MACs, or the NIC says so
    if ip.address.version != family or (ip.gateway is not None and ip.gateway.version != family):
        mistakes.add(node.path, f'expected {name} addresses such as "{_example(family)}"')
        return
    if ip.prefix > ip.address.max_prefixlen:
        mistakes.add(node.path, f"expected a prefix from 0 to {ip.address.max_prefixlen}, got {ip.prefix}")
        return
    _check_host(ip.address, ip.prefix, node, mistakes)
    if ip.gateway is not None:
        _check_gateway(ip.gateway, ip.address, ip.prefix, node, mistakes)


def check_source(ip: IpSpec, pool: str | None, path: str, mistakes: Mistakes, *, family: int) -> None:
    """Does a static address come from somewhere?"""
    if ip.method == "static" and ip.address is None and pool is None and not mistakes.below(path):
        text = f'a static address needs its address, as in "{_example(family)}"'
        mistakes.add(path, text, hint="or take one from a list: set pool")


def _check_host(address: IPv4Address | IPv6Address, prefix: int, node: Node, mistakes: Mistakes) -> None:
    network = ip_network(f"{address}/{prefix}", strict=False)
    if address.is_multicast or address.is_loopback or address.is_unspecified:
        mistakes.add(node.path, f"{address} cannot be a machine's address")
    elif address.version == 4 and prefix < 31 and address in (network.network_address, network.broadcast_address):
        mistakes.add(node.path, f"{address} is the network's own address or its broadcast address in {network}")


def _check_gateway(
    gateway: IPv4Address | IPv6Address, address: IPv4Address | IPv6Address, prefix: int, node: Node, mistakes: Mistakes
) -> None:
    """A gateway outside is right for a single address (/32, /128), as some providers hand them out, and if it is
    link-local."""
    network = ip_network(f"{address}/{prefix}", strict=False)
    if gateway == address:
        mistakes.add(node.path, f"the gateway {gateway} is the machine's own address")
    elif prefix < address.max_prefixlen and gateway not in network and not gateway.is_link_local:
        mistakes.add(node.path, f"the gateway {gateway} is not in {network}")


def _example(family: int) -> str:
    return "10.0.0.2/24" if family == 4 else "fd00::2/64"
