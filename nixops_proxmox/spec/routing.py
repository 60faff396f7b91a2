"""What a router is to have for the machines: networks, routes, names, forwarded ports, rules."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_network
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol

from pydantic import AfterValidator, Field
from typing_extensions import override

from nixops_proxmox.spec import values as v
from nixops_proxmox.spec.firewall import NamesAddresses, RuleAddress, Word, parse_word
from nixops_proxmox.spec.frozen import Frozen
from nixops_proxmox.spec.resource import Comment, Objection, ResourceSpec
from nixops_proxmox.spec.virtual_network import VirtualNetwork

if TYPE_CHECKING:
    from nixops_proxmox.spec.machine import MachineSpec

ROUTING = "routing"
GROUP = "group:"  # before the name of a group that is described here


class _Versioned(Protocol):
    """An address or a network."""

    @property
    def version(self) -> int: ...


def _address_or_group(text: str) -> str:
    if text.startswith(GROUP):
        v.check_group_name(text.removeprefix(GROUP))
    elif (word := parse_word(text)).negated or word.kind in ("set", "alias") or word.name.startswith(("+", "dc/")):
        raise ValueError("expected an address, a network, machine:NAME, tag:NAME, network:NAME or group:NAME")
    return text


def _address(text: str) -> str:
    if text.startswith(GROUP):
        raise ValueError("a group cannot stand here: expected an address, machine:NAME, tag:NAME or network:NAME")
    return _address_or_group(text)


Addresses = Annotated[tuple[Annotated[RuleAddress, AfterValidator(_address)], ...], v.Unique]
Ends = Annotated[tuple[Annotated[str, AfterValidator(_address_or_group)], ...], v.Unique]
Proto = Literal["tcp", "udp", "tcp_udp", "icmp", "all"]
NatFamily = Literal["ipv4", "ipv6"]
ConnectionState = Literal["established", "related", "new", "invalid"]


class Numbers(Frozen):
    """The numbers of rules that are ours."""

    first: Annotated[int, Field(ge=1, le=999_999)] = 5000
    last: Annotated[int, Field(ge=1, le=999_999)] = 5999


class RouterVlan(Frozen):
    """A VLAN on an interface of the router, with the router's addresses in it."""

    interface: v.RouterInterface
    vlan: v.Vlan
    addresses: Annotated[tuple[v.InterfaceAddress, ...], v.Unique] = ()
    comment: Comment = ""


class Route(Frozen):
    """A static route."""

    to: v.Cidr
    via: v.IpAddress | None = None  # None: what goes there is thrown away
    distance: Annotated[int, Field(ge=1, le=255)] | None = None
    comment: Comment = ""


class DhcpNetwork(Frozen):
    """A network in which the router gives addresses."""

    name: v.RouterWord
    subnet: v.Cidr
    first: v.IpAddress  # of those that anybody gets
    last: v.IpAddress
    router: v.IpAddress | None = None
    dns: Annotated[tuple[v.IpAddress, ...], v.Unique] = ()
    domain: v.DnsName | None = None
    lease: Annotated[int, Field(ge=60, le=31_536_000)] | None = None  # seconds
    comment: Comment = ""


class Masquerade(Frozen):
    """What leaves by this interface gets another address."""

    interface: v.RouterInterface
    family: NatFamily = "ipv4"
    sources: Annotated[Addresses, Field(validation_alias="from", serialization_alias="from")] = ()
    address: v.IpAddress | None = None  # None: the one of the interface
    prefix: v.Cidr | None = None  # of IPv6: each address gets this prefix, and keeps the rest
    comment: Comment = ""


class PortForward(Frozen):
    """What comes for a port or an address of the router goes to a machine."""

    interface: v.RouterInterface
    family: NatFamily = "ipv4"
    proto: Literal["tcp", "udp", "tcp_udp"] = "tcp"
    port: v.RouterPorts | None = None  # None: all that comes for `address`
    address: v.IpAddress | None = None  # the router's, where it has several
    to: Annotated[str, AfterValidator(_address)]
    to_port: v.RouterPorts | None = None  # None: the same
    comment: Comment = ""


class RouterRule(Frozen):
    """What passes the router, and what does not."""

    rule_set: v.RouterWord = "forward"
    action: Literal["accept", "drop", "reject"] = "accept"
    proto: Proto = "all"
    port: v.RouterPorts | None = None
    sources: Annotated[Ends, Field(validation_alias="from", serialization_alias="from")] = ()
    to: Ends = ()
    from_interface: v.RouterInterface | None = None
    to_interface: v.RouterInterface | None = None
    states: Annotated[tuple[ConnectionState, ...], v.Unique] = ()
    enable: bool = True
    comment: Comment = ""


class RoutingSpec(NamesAddresses):
    """One of `resources.routing`: all that one router has of this deployment, so that a change is one commit."""

    kind = ROUTING
    option = "routing"
    leads: ClassVar[bool] = True

    profile: Literal[""] = ""  # no hypervisor has it
    router: v.ProfileName | None = None  # in routers.toml; None: called as this is
    numbers: Numbers = Numbers()
    vlans: tuple[RouterVlan, ...] = ()
    routes: tuple[Route, ...] = ()
    dhcp: tuple[DhcpNetwork, ...] = ()
    hosts: Mapping[v.DnsName, Addresses] = {}
    masquerade: tuple[Masquerade, ...] = ()
    forwards: tuple[PortForward, ...] = ()
    groups: Mapping[v.RouterName, Addresses] = {}
    rules: tuple[RouterRule, ...] = ()
    verify: Annotated[tuple[v.DnsName, ...], v.Unique] = ()  # machines; none: all that answered before
    confirm: Annotated[int, Field(ge=1, le=60)] = 2  # minutes

    @property
    @override
    def identity(self) -> tuple[str, ...]:
        return (self.router or self.name,)

    @property
    def router_name(self) -> str:
        return self.router or self.name

    @override
    def words(self) -> Iterator[Word]:
        """All names and addresses in it, but for groups."""
        texts = [text for members in (*self.hosts.values(), *self.groups.values()) for text in members]
        texts += [text for one in self.masquerade for text in one.sources]
        texts += [one.to for one in self.forwards]
        texts += [text for rule in self.rules for text in (*rule.sources, *rule.to) if not text.startswith(GROUP)]
        return map(parse_word, texts)

    @override
    def covers(self, machine: str) -> bool:
        """A machine that boots for the first time may need its VLAN, and an address of DHCP."""
        del machine
        return bool(self.vlans or self.dhcp)

    @property
    @override
    def needs_description(self) -> bool:
        return any(word.kind == "tag" for word in self.words())

    @override
    def objections(self, machines: "Sequence[MachineSpec]", others: "Sequence[ResourceSpec]") -> Iterable[Objection]:
        yield from self._about_names({machine.name for machine in machines}, others)
        yield from self._about_itself()
        for place, network in enumerate(self.dhcp):
            yield from _about_dhcp(network, f"dhcp[{place}]")
        for place, rule in enumerate(self.rules):
            yield from self._about_rule(rule, f"rules[{place}]")

    def _about_names(self, machines: Collection[str], others: "Sequence[ResourceSpec]") -> Iterator[Objection]:
        networks = {spec.name: spec for spec in others if isinstance(spec, VirtualNetwork)}
        for word in dict.fromkeys(self.words()):
            known = {"machine": machines, "network": networks}.get(word.kind)
            if known is not None and word.name not in known:
                yield Objection("", f"it names {word.kind}:{word.name}, and there is no such {word.kind} here")
            elif word.kind == "network" and networks[word.name].subnet is None:
                yield Objection("", f"it names network:{word.name}, and that has no subnet")
        for name in self.verify:
            if name not in machines:
                yield Objection("verify", f"there is no machine {name}")

    def _about_itself(self) -> Iterator[Objection]:
        if self.numbers.first > self.numbers.last:
            yield Objection("numbers.last", f"is before numbers.first, which is {self.numbers.first}")
        for field, keys in (
            ("vlans", [(one.interface, one.vlan) for one in self.vlans]),
            ("routes", [one.to for one in self.routes]),
            ("dhcp", [one.name for one in self.dhcp]),
        ):
            for place, key in enumerate(keys):
                if key in keys[:place]:
                    yield Objection(f"{field}[{place}]", f"is described twice: {key}")
        for place, route in enumerate(self.routes):
            if route.via is not None and route.via.version != route.to.version:
                yield Objection(f"routes[{place}].via", f"is of another family than {route.to}")
        for place, one in enumerate(self.masquerade):
            yield from _about_masquerade(one, f"masquerade[{place}]")
        for place, forward in enumerate(self.forwards):
            yield from _about_forward(forward, f"forwards[{place}]")

    def _about_rule(self, rule: RouterRule, where: str) -> Iterator[Objection]:
        if rule.port is not None and rule.proto not in ("tcp", "udp", "tcp_udp"):
            yield Objection(f"{where}.proto", "must be tcp, udp or tcp_udp: a port is of one of these")
        for text in (*rule.sources, *rule.to):
            name = text.removeprefix(GROUP)
            if text != name and name not in self.groups:
                yield Objection(where, f"it names {text}, and there is no such group in groups")
        for field, ends in (("from", rule.sources), ("to", rule.to)):
            if len(ends) > 1 and any(text.startswith(GROUP) for text in ends):
                yield Objection(f"{where}.{field}", "a group stands alone: put the other addresses into it")


def _about_masquerade(one: Masquerade, where: str) -> Iterator[Objection]:
    yield from _about_family(one.family, f"{where}.address", one.address)
    if one.prefix is None:
        return
    if one.family == "ipv4":
        yield Objection(f"{where}.prefix", 'has no meaning in IPv4: set family = "ipv6", or address')
    elif one.address is not None:
        yield Objection(f"{where}.prefix", "has no meaning with address")
    yield from _about_family(one.family, f"{where}.prefix", one.prefix)


def _about_forward(one: PortForward, where: str) -> Iterator[Objection]:
    yield from _about_family(one.family, f"{where}.address", one.address)
    if one.port is None and one.address is None:
        yield Objection(
            f"{where}.port", "must be set, or address: else the router itself would not be reached any more"
        )
    if one.port is None and one.to_port is not None:
        yield Objection(f"{where}.to_port", "has no meaning without port: all that comes for the address goes there")


def _about_family(family: str, where: str, value: _Versioned | None) -> Iterator[Objection]:
    if value is not None and f"ipv{value.version}" != family:
        yield Objection(where, f"is not of {family}, which `family` says")


def _about_dhcp(network: DhcpNetwork, where: str) -> Iterator[Objection]:
    if network.subnet.version != 4:
        yield Objection(f"{where}.subnet", "expected an IPv4 network")
    for field in ("first", "last", "router"):
        address = getattr(network, field)
        if address is not None and (address.version != 4 or address not in ip_network(network.subnet)):
            yield Objection(f"{where}.{field}", f"is not in {network.subnet}")
    if int(network.last) < int(network.first):
        yield Objection(f"{where}.last", f"is before {network.first}")
