"""What the parameters of firewall rules look like, with PVE's texts (PVE::Firewall's verify functions)."""

import re
from ipaddress import ip_address, ip_interface, ip_network

from nixops_proxmox.lab.schema.types import Check

NAME = r"[A-Za-z][A-Za-z0-9\-\_]+"
NAME_LENGTH = 64


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SCOPED_ALIAS = re.compile(rf"(dc/|guest/)?({NAME})")
PROTOCOLS = _words(
    "ip icmp igmp ggp ipencap st tcp egp igp pup udp hmp xns-idp rdp iso-tp4 dccp xtp ddp idpr-cmtp ipv6 "
    "ipv6-route ipv6-frag idrp rsvp gre esp ah skip ipv6-icmp icmpv6 ipv6-nonxt ipv6-opts rspf vmtp eigrp ospf "
    "ax.25 ipip etherip encap pim ipcomp vrrp l2tp isis sctp fc mobility-header udplite mpls-in-ip hip shim6 "
    "wesp rohc ethernet"
)
ICMP_4 = _words(
    "any echo-reply destination-unreachable network-unreachable host-unreachable protocol-unreachable port- "
    "unreachable fragmentation-needed source-route-failed network-unknown host-unknown network-prohibited "
    "host-prohibited TOS-network-unreachable TOS-host-unreachable communication-prohibited host-precedence- "
    "violation precedence-cutoff source-quench redirect network-redirect host-redirect TOS-network-redirect "
    "TOS-host-redirect echo-request router-advertisement router-solicitation time-exceeded ttl-zero-during- "
    "transit ttl-zero-during-reassembly parameter-problem ip-header-bad required-option-missing timestamp- "
    "request timestamp-reply address-mask-request address-mask-reply"
)
ICMP_6 = _words(
    "destination-unreachable no-route communication-prohibited beyond-scope address-unreachable port- "
    "unreachable failed-policy reject-route packet-too-big time-exceeded ttl-zero-during-transit ttl-zero- "
    "during-reassembly parameter-problem bad-header unknown-header-type unknown-option echo-request echo-reply "
    "router-solicitation router-advertisement neighbor-solicitation neighbour-solicitation neighbor- "
    "advertisement neighbour-advertisement redirect"
)
SERVICES = _words(
    "ftp ssh telnet smtp domain bootps bootpc tftp http kerberos pop3 sunrpc ntp imap2 snmp ldap https "
    "submission ldaps imaps pop3s ms-sql-s openvpn nfs mysql rdp postgresql sip amqp http-alt"
)


def ip_or_cidr(value: str) -> str | None:
    """PVE clears the bits of the host before it looks."""
    try:
        ip_interface(value)
    except ValueError:
        return "value does not look like a valid IP address or CIDR network\n"
    return None


def ip_or_cidr_or_alias(value: str) -> str | None:
    return None if SCOPED_ALIAS.fullmatch(value) else ip_or_cidr(value)


def clean_cidr(value: str) -> str:
    """What is kept of it: the network of 10.0.0.7/24, and no /32 and /128."""
    if "/" not in value:
        return value
    return str(ip_network(value, strict=False)).removesuffix("/32").removesuffix("/128")


def addresses(value: str) -> str | None:
    try:
        family_of(value)
    except ValueError as error:
        return f"{error}\n"
    return None


def family_of(value: str) -> int:
    """The family of an address, a range or a list; 0: a set or an alias. ValueError with PVE's text."""
    if re.fullmatch(r"\+\S+", value):
        return 0 if len(value) <= NAME_LENGTH + 1 else _bad("ipset name too long")
    if SCOPED_ALIAS.fullmatch(value):
        return 0 if len(value) <= NAME_LENGTH else _bad("alias name too long")
    parts = value.split(",")
    if value.rstrip(",") != value or not all(parts):
        _bad("extraneous commas in list")
    families = {_family_of_one(part) for part in parts}
    if len(families) > 1:
        _bad(f"detected mixed ipv4/ipv6 addresses in address list '{value}'")
    if len(parts) > 1 and any("-" in part for part in parts):
        _bad("you can't use a range in a list")
    return families.pop()


def _family_of_one(part: str) -> int:
    first, dash, last = part.partition("-")
    try:
        if dash and int(ip_address(first)) > int(ip_address(last)):
            raise ValueError(part)
        return ip_network(first).version
    except ValueError:
        return _bad(f"invalid IP address: Invalid chars in IP {part}")


def _bad(text: str) -> int:
    raise ValueError(text)


def _ports(*, icmp: bool) -> Check:
    def check(value: str) -> str | None:
        try:
            check_ports(value, icmp=icmp)
        except ValueError as error:
            return f"{error}\n"
        return None

    return check


def check_ports(value: str, *, icmp: bool) -> None:
    """`icmp`: types of ICMP count as ports, as they did before they had a parameter."""
    parts, count, types = value.split(","), 0, False
    if not all(parts):
        _bad("extraneous commas in list")
    for part in parts:
        numbers = re.fullmatch(r"(\d+)(?::(\d+))?", part)
        if numbers is None:
            types |= _check_name(part, icmp=icmp)
            continue
        found = [int(number) for number in numbers.groups() if number is not None]
        count += len(found)
        for number in found:
            if number > 65535:
                _bad(f"invalid port '{number}'")
        if found != sorted(found):
            _bad(f"backwards range '{part}' not allowed, did you mean '{found[1]}:{found[0]}'?")
    if types and count:
        _bad("ICMP ports not allowed in port range")
    if count > 15:
        _bad("too many entries in port list (> 15 numbers)")


def _check_name(part: str, *, icmp: bool) -> bool:
    if icmp and part in ICMP_4 | ICMP_6:
        return True
    if part not in SERVICES:
        _bad(f"invalid port '{part}'")
    return False


def protocol(value: str) -> str | None:
    known = not value or value in PROTOCOLS or (value.isdigit() and int(value) <= 255)
    return None if known else f"unknown protocol '{value}'\n"


def icmp_type(value: str) -> str | None:
    return None if not value or value in ICMP_4 | ICMP_6 else f"invalid icmp-type value '{value}'\n"


FORMATS: dict[str, Check] = {
    "IPorCIDR": ip_or_cidr,
    "IPorCIDRorAlias": ip_or_cidr_or_alias,
    "pve-fw-addr-spec": addresses,
    "pve-fw-sport-spec": _ports(icmp=False),
    "pve-fw-dport-spec": _ports(icmp=True),
    "pve-fw-protocol-spec": protocol,
    "pve-fw-icmp-type-spec": icmp_type,
}
