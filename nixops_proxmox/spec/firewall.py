"""PVE's firewall: rules of machines and of security groups, IP sets, aliases. Addresses may be said by name."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field
from typing_extensions import override

from nixops_proxmox.spec import values as v
from nixops_proxmox.spec.frozen import Frozen
from nixops_proxmox.spec.resource import Comment, Objection, ResourceSpec
from nixops_proxmox.spec.virtual_network import VirtualNetwork

if TYPE_CHECKING:
    from nixops_proxmox.spec.machine import MachineSpec

_NAME = r"[A-Za-z][A-Za-z0-9_-]+"
_PVES = re.compile(rf"\+((dc|guest|sdn)/)?{_NAME}|(dc|guest)/{_NAME}")  # an IP set or an alias, as PVE's rules name it
NAMES = ("machine", "tag", "network", "set", "alias")  # what may stand before a colon
FILLED_IN = ("machine", "tag", "network")  # what addresses are filled in for
IP_SET, ALIAS, GROUP, FIREWALL = "ip-set", "address-alias", "security-group", "firewall"
CLUSTER_FIREWALL = "cluster-firewall"
MANAGEMENT = "management"  # PVE's IP set of those who may reach the nodes' interface and SSH, whatever the rules say
MANAGEMENT_PORT = 8006  # of the nodes' interface and API
GROUP_OF_PVE = "pve:"  # before a security group that is not described


@dataclass(frozen=True)
class Word:
    """One address of a rule, or a name for some. `kind` "": written as PVE takes it."""

    kind: str
    name: str
    negated: bool = False  # of an IP set: not these


def parse_word(text: str) -> Word:
    """ValueError for what is no address, and no name for some."""
    negated = text.startswith("!")
    bare = text.removeprefix("!")
    kind, colon, name = bare.partition(":")
    if colon and kind in NAMES:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name):
            raise ValueError(f"expected a name behind {kind}:")
        return Word(kind, name, negated)
    if not _PVES.fullmatch(bare) and not _is_address(bare):
        raise ValueError(f"expected an address, a range, or a name such as {', '.join(f'{one}:…' for one in NAMES)}")
    return Word("", bare, negated)


def _is_address(text: str) -> bool:
    first, dash, last = text.partition("-")
    try:
        if dash:
            return int(ip_address(first)) <= int(ip_address(last))
        ip_network(text)
    except ValueError:
        return False
    return True


def _word(text: str) -> str:
    parse_word(text)
    return text


def _member(text: str) -> str:
    word = parse_word(text)
    is_range = not word.kind and "-" in word.name and "/" not in word.name
    if word.kind == "set" or word.name.startswith("+") or is_range:
        raise ValueError("an IP set has addresses, networks and aliases: no ranges, and no other sets")
    return text


def _not_negated(text: str) -> str:
    if _word(text).startswith("!"):
        raise ValueError("only an IP set can leave addresses out")
    return text


RuleAddress = Annotated[str, AfterValidator(_not_negated)]
Member = Annotated[str, AfterValidator(_member)]
LogLevel = Literal["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug", "nolog"]
Policy = Literal["ACCEPT", "REJECT", "DROP"]


class Rule(Frozen):
    """What passes, and what does not. With `group`: the rules of that security group stand here."""

    direction: Literal["in", "out", "forward"] = "in"
    action: Policy = "ACCEPT"
    group: v.GroupRef | None = None
    macro: v.FirewallWord | None = None  # PVE's word for protocol and ports
    proto: v.FirewallWord | None = None
    port: v.Ports | None = None  # of the one who is spoken to
    source_port: v.Ports | None = None
    icmp_type: v.FirewallWord | None = None
    sources: Annotated[tuple[RuleAddress, ...], Field(validation_alias="from", serialization_alias="from")] = ()
    to: tuple[RuleAddress, ...] = ()
    nic: v.NicSlot | None = None
    log: LogLevel | None = None
    enable: bool = True
    comment: Comment = ""

    def words(self) -> Iterator[Word]:
        return map(parse_word, (*self.sources, *self.to))


class NamesAddresses(ResourceSpec):
    """What all that may name addresses have in common, on clusters and on routers."""

    def words(self) -> Iterator[Word]:
        """All names and addresses in it."""
        raise NotImplementedError

    @override
    def comes_after(self, machines: "Sequence[MachineSpec]") -> Collection[tuple[str, str]]:
        named = {word.name for word in self.words() if word.kind == "machine"}
        tags = {word.name.lower() for word in self.words() if word.kind == "tag"}
        tagged = {machine.name for machine in machines if tags & set(machine.tags)}
        networks = {word.name for word in self.words() if word.kind == "network"}
        return [
            *(("machine", name) for name in sorted(named | tagged)),
            *(("network", one) for one in sorted(networks)),
        ]


class _OfFirewalls(NamesAddresses):
    """What all of a firewall have in common."""

    @property
    @override
    def wants(self) -> Collection[tuple[str, str]]:
        kinds = {"set": IP_SET, "alias": ALIAS}
        return [(kinds[word.kind], word.name) for word in dict.fromkeys(self.words()) if word.kind in kinds]

    @property
    @override
    def needs_description(self) -> bool:
        return any(word.kind == "tag" for word in self.words())

    @override
    def objections(self, machines: "Sequence[MachineSpec]", others: "Sequence[ResourceSpec]") -> Iterable[Objection]:
        known = {machine.name for machine in machines}
        sets = {spec.name for spec in others if spec.kind == IP_SET and spec.profile == self.profile}
        aliases = {spec.name for spec in others if spec.kind == ALIAS and spec.profile == self.profile}
        networks = {spec.name: spec for spec in others if isinstance(spec, VirtualNetwork)}
        for word in dict.fromkeys(self.words()):
            there = {"machine": known, "set": sets, "alias": aliases, "network": networks}.get(word.kind)
            if there is not None and word.name not in there:
                yield Objection("", f"it names {word.kind}:{word.name}, and there is no such {word.kind} here")
            elif word.kind == "network" and networks[word.name].subnet is None:
                yield Objection("", f"it names network:{word.name}, and that has no subnet")


class _OfCluster(_OfFirewalls):
    """What the cluster has by a name: the one in the option `own_name`, or else the one here."""

    own_name: ClassVar[str]
    longest: ClassVar[int] = 64  # characters of PVE's name

    @property
    def pve_name(self) -> str:
        return getattr(self, self.own_name) or self.name

    @property
    @override
    def given_name(self) -> str:
        return self.pve_name

    @property
    @override
    def identity(self) -> tuple[str, ...]:
        return (self.profile, self.pve_name)

    @override
    def objections(self, machines: "Sequence[MachineSpec]", others: "Sequence[ResourceSpec]") -> Iterable[Objection]:
        yield from super().objections(machines, others)
        yield from _about_name(self.pve_name, self.own_name, self.longest)


class IpSet(_OfCluster):
    """An IP set of the cluster: addresses that rules name together."""

    kind = IP_SET
    option = "ipSets"
    own_name = "set"

    set: v.FirewallName | None = None  # PVE's name of it; None: the name here
    addresses: Annotated[tuple[Member, ...], v.Unique] = ()
    comment: Comment = ""

    @override
    def words(self) -> Iterator[Word]:
        return map(parse_word, self.addresses)


class AddressAlias(_OfCluster):
    """An alias of the cluster: another name of one address or network."""

    kind = ALIAS
    option = "addressAliases"
    own_name = "alias"

    alias: v.FirewallName | None = None  # PVE's name of it; None: the name here
    address: RuleAddress
    comment: Comment = ""

    @property
    @override
    def identity(self) -> tuple[str, ...]:
        return (self.profile, self.pve_name.lower())

    @override
    def words(self) -> Iterator[Word]:
        yield parse_word(self.address)

    @override
    def objections(self, machines: "Sequence[MachineSpec]", others: "Sequence[ResourceSpec]") -> Iterable[Objection]:
        yield from super().objections(machines, others)
        word = parse_word(self.address)
        if word.kind not in ("", "machine", "network") or (not word.kind and not _is_plain(word.name)):
            yield Objection("address", "expected one address or network, machine:NAME or network:NAME")


def _is_plain(text: str) -> bool:
    return "-" not in text and _is_address(text)


class SecurityGroup(_OfCluster):
    """A security group of the cluster: rules that machines have together."""

    kind = GROUP
    option = "securityGroups"
    own_name = "group"
    longest = 18

    group: v.GroupName | None = None  # PVE's name of it; None: the name here
    rules: tuple[Rule, ...] = ()
    comment: Comment = ""

    @override
    def words(self) -> Iterator[Word]:
        return (word for rule in self.rules for word in rule.words())

    @override
    def objections(self, machines: "Sequence[MachineSpec]", others: "Sequence[ResourceSpec]") -> Iterable[Objection]:
        yield from super().objections(machines, others)
        for place, rule in enumerate(self.rules):
            yield from _about_rule(rule, f"rules[{place}]")
            for field in ("group", "nic"):
                if getattr(rule, field) is not None:
                    yield Objection(f"rules[{place}].{field}", "has no meaning in a security group")


class _WithGroups(_OfFirewalls):
    """What has rules that may stand for those of a security group."""

    rules: tuple[Rule, ...] = ()

    @override
    def words(self) -> Iterator[Word]:
        return (word for rule in self.rules for word in rule.words())

    @property
    @override
    def wants(self) -> Collection[tuple[str, str]]:
        groups = dict.fromkeys(rule.group for rule in self.rules if rule.group is not None)
        described = [(GROUP, name) for name in groups if not name.startswith(GROUP_OF_PVE)]
        return [*described, *super().wants]

    @override
    def objections(self, machines: "Sequence[MachineSpec]", others: "Sequence[ResourceSpec]") -> Iterable[Objection]:
        yield from super().objections(machines, others)
        groups = {spec.name for spec in others if spec.kind == GROUP and spec.profile == self.profile}
        for place, rule in enumerate(self.rules):
            yield from _about_rule(rule, f"rules[{place}]")
            if rule.group is not None and not rule.group.startswith(GROUP_OF_PVE) and rule.group not in groups:
                text = f"there is no {rule.group} in resources.securityGroups"
                hint = f'one of PVE that is not described here is written "{GROUP_OF_PVE}NAME"'
                yield Objection(f"rules[{place}].group", text, hint=hint)


class ClusterFirewall(_WithGroups):
    """The firewall of a whole cluster: its options, and rules for the nodes themselves. What is unset is left alone."""

    kind = CLUSTER_FIREWALL
    option = "clusterFirewalls"

    enable: bool | None = None
    policy_in: Policy | None = None
    policy_out: Policy | None = None
    policy_forward: Literal["ACCEPT", "DROP"] | None = None  # 8.3+
    ebtables: bool | None = None  # whether what is no IP is filtered, too

    @property
    @override
    def identity(self) -> tuple[str, ...]:
        return (self.profile,)

    @override
    def comes_after(self, machines: "Sequence[MachineSpec]") -> Collection[tuple[str, str]]:
        """Those who may always reach the nodes are let in before it is turned on."""
        return [*super().comes_after(machines), (IP_SET, MANAGEMENT)]

    @override
    def objections(self, machines: "Sequence[MachineSpec]", others: "Sequence[ResourceSpec]") -> Iterable[Objection]:
        yield from super().objections(machines, others)
        for place, rule in enumerate(self.rules):
            if rule.nic is not None:
                yield Objection(f"rules[{place}].nic", "has no meaning in the rules of a cluster")
        same = [one.name for one in others if one.kind == self.kind and one.profile == self.profile]
        if len(same) > 1:
            yield Objection("profile", f"a cluster has one firewall: {' and '.join(sorted(same))} are for the same")


class MachineFirewall(_WithGroups):
    """The firewall of one machine, which has its name. Described as `firewall` of the machine, or under `resources`."""

    kind = FIREWALL
    option = "firewalls"

    enable: bool = True
    policy_in: Policy = "DROP"
    policy_out: Policy = "ACCEPT"
    dhcp: bool | None = None  # None: if a NIC gets its address so
    ndp: bool | None = None
    router_advertisement: bool | None = None
    mac_filter: bool | None = None
    ip_filter: bool | None = None
    log_in: LogLevel | None = None
    log_out: LogLevel | None = None
    sealed: bool = False  # no rule lets SSH in, and that is intended
    ip_sets: Mapping[v.FirewallName, tuple[Member, ...]] = {}  # the machine's own

    @override
    def words(self) -> Iterator[Word]:
        yield from super().words()
        yield from (parse_word(text) for members in self.ip_sets.values() for text in members)

    @property
    @override
    def wants(self) -> Collection[tuple[str, str]]:
        return [("machine", self.name), *super().wants]

    @override
    def comes_after(self, machines: "Sequence[MachineSpec]") -> Collection[tuple[str, str]]:
        return [("machine", self.name), *super().comes_after(machines)]

    @override
    def objections(self, machines: "Sequence[MachineSpec]", others: "Sequence[ResourceSpec]") -> Iterable[Objection]:
        yield from super().objections(machines, others)
        for place, rule in enumerate(self.rules):
            if rule.direction == "forward":
                yield Objection(f"rules[{place}].direction", "a machine has rules for what goes in and out")
        machine = next((one for one in machines if one.name == self.name), None)
        if machine is None:
            yield Objection("", f"there is no machine {self.name}")
        else:
            yield from self._about_machine(machine)

    def _about_machine(self, machine: "MachineSpec") -> Iterable[Objection]:
        if machine.profile != self.profile:
            yield Objection("profile", f"the machine {self.name} is on {machine.profile}")
        if any(nic.firewall is False for nic in machine.network) and self.enable:
            yield Objection("enable", f"a NIC of {self.name} says firewall = false, and is not filtered then")
        if self.enable and not self.sealed and not self.lets_in(machine.ssh.port):
            yield Objection(
                "rules", f"no rule lets SSH in (port {machine.ssh.port}), so that a deploy would lock itself out",
                hint='add one, such as { macro = "SSH"; from = [ "192.0.2.0/24" ]; }, or say sealed = true',
            )  # fmt: skip

    def lets_in(self, port: int) -> bool:
        """Is there a rule that may let SSH in? What a group says is not looked at."""
        return self.policy_in == "ACCEPT" or any(may_let_in(rule, port) for rule in self.rules)


def may_let_in(rule: Rule, port: int) -> bool:
    """May it let somebody in to this port of TCP? What a group says is not looked at."""
    if not rule.enable or (rule.group is None and (rule.direction, rule.action) != ("in", "ACCEPT")):
        return False
    if rule.group is not None:
        return True
    if rule.macro is not None:
        return rule.macro.lower() == "ssh" and port == 22
    return rule.proto in (None, "tcp", "6") and (rule.port is None or _has_port(rule.port, port))


def _has_port(ports: str, port: int) -> bool:
    for part in ports.split(","):
        first, _, last = part.partition(":")
        if part == "ssh" and port == 22:
            return True
        if first.isdigit() and int(first) <= port <= int(last if last.isdigit() else first):
            return True
    return False


def _about_name(name: str, field: str, longest: int) -> Iterator[Objection]:
    if not re.fullmatch(_NAME, name) or len(name) > longest:
        text = f"PVE does not take the name {name}: 2 to {longest} letters, digits, - and _, with a letter first"
        yield Objection(field, text)


def _about_rule(rule: Rule, where: str) -> Iterator[Objection]:
    if rule.group is not None:
        for field in ("macro", "proto", "port", "source_port", "icmp_type", "sources", "to", "log"):
            if getattr(rule, field):
                yield Objection(f"{where}.{'from' if field == 'sources' else field}", "has no meaning with group")
    for field in ("port", "source_port"):
        if getattr(rule, field) is not None and rule.proto is None and rule.macro is None:
            yield Objection(f"{where}.proto", "must be set: a port is one of tcp or udp")
    if rule.icmp_type is not None and rule.proto is None:
        yield Objection(f"{where}.proto", "must be set: icmp or icmpv6")
    if rule.direction == "forward" and rule.action == "REJECT":
        yield Objection(f"{where}.action", "PVE cannot reject what passes through: use DROP")


def filtered(machine: "MachineSpec", resources: Sequence[ResourceSpec]) -> "MachineSpec":
    """The machine whose NICs are filtered if it has a firewall, as far as they do not say."""
    mine = any(isinstance(one, MachineFirewall) and one.name == machine.name and one.enable for one in resources)
    if not mine or all(nic.firewall is not None for nic in machine.network):
        return machine
    nics = tuple(
        nic if nic.firewall is not None else nic.model_copy(update={"firewall": True}) for nic in machine.network
    )
    return machine.model_copy(update={"network": nics})
