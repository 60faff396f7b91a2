"""The firewall of one machine: its options, IP sets and rules. What others have set there stays.

A rule or a set is ours by our mark in its comment, an option if the record says that we set it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nixops_proxmox.core.kind import Known, Thing
from nixops_proxmox.core.table import Attempt
from nixops_proxmox.errors import PermissionDenied, StateError
from nixops_proxmox.kinds.firewall import editing, rules
from nixops_proxmox.kinds.firewall.names import wanted_members
from nixops_proxmox.kinds.firewall.options import as_options, knowing, known_options, option_differences
from nixops_proxmox.kinds.firewall.ports import FirewallStore, Shown
from nixops_proxmox.kinds.firewall.ruled import strange_rules, waiting_rules, wanted_list
from nixops_proxmox.kinds.firewall.words import Neighbourhood
from nixops_proxmox.kinds.resource import (
    Describable,
    ResourceWorld,
    Setting,
    Stranger,
    described_rows,
    pve_world,
    vm_facts,
)
from nixops_proxmox.model import Finding, Level
from nixops_proxmox.pve.api.firewall import Where, of_cluster
from nixops_proxmox.pve.api.versions import Release
from nixops_proxmox.pve.cluster.permissions import Need
from nixops_proxmox.spec.firewall import FIREWALL, MachineFirewall
from nixops_proxmox.spec.marks import bears_mark

NAME = FIREWALL
ABOUT = "the firewall of a machine: options, IP sets, rules"
USUAL = {"enable": "0", "dhcp": "0", "ndp": "1", "radv": "0", "macfilter": "1", "ipfilter": "0", "policy_in": "DROP",
         "policy_out": "ACCEPT", "log_level_in": "nolog", "log_level_out": "nolog"}  # fmt: skip

World: TypeAlias = ResourceWorld[MachineFirewall, FirewallStore]


@dataclass(frozen=True)
class FirewallSeen:
    """What there is of it. `sets`: ours, by name. `known`: the options that we have set before."""

    options: Shown
    rules: Sequence[Shown]
    sets: Mapping[str, Sequence[Shown]]
    known: Sequence[str]


class FirewallKind:
    name = NAME

    def look(self, world: World, thing: Thing, /) -> FirewallSeen | None:
        spot, known = find_spot(world), known_options(thing.facts)
        if spot is None:
            return None
        api, mark = world.api, world.mark
        names = [name for name, comment in api.sets(spot).items() if bears_mark(comment, mark)]
        found = api.rules(spot)
        if not known and not names and not rules.ours_in(found, mark):
            return None
        return FirewallSeen(api.options(spot), found, {name: api.members(spot, name) for name in names}, known)

    def diff(self, world: World, found: FirewallSeen, /) -> Sequence[str]:
        return tuple(_differences(world, found))

    def apply(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """Sets before the rules that name them, and the switch last, when all that lets us in is there."""
        spot, api, mark = find_spot(world), world.api, world.mark
        if spot is None:
            raise StateError(f"firewall {thing.name}: the machine {thing.name} has no VM yet")
        wanted, known = wanted_options(world.spec, world), known_options(attempt.facts)
        attempt.note(knowing(attempt.facts, {*known, *wanted}))
        self._put_sets_right(world, spot)
        editing.put_rules_right(api, spot, wanted_list(world), mark, world.clock)
        self._drop_sets(world, spot, keep=world.spec.ip_sets)
        gone = [name for name in known if name not in wanted]
        editing.put_options_right(api, spot, wanted, USUAL, gone, world.clock)
        for remark in remarks(world):
            world.reporter.warn(thing, remark)
        return knowing(attempt.facts, wanted)

    def remove(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """The options that we have set go back to what PVE does without them."""
        del thing
        spot = find_spot(world)
        if spot is not None:
            editing.put_options_right(world.api, spot, {}, USUAL, known_options(attempt.facts), world.clock)
            editing.put_rules_right(world.api, spot, (), world.mark, world.clock)
            self._drop_sets(world, spot, keep=())
        return Known()

    def _put_sets_right(self, world: World, spot: Where) -> None:
        api, there = world.api, world.api.sets(spot)
        for name, words in world.spec.ip_sets.items():
            if name not in there:
                # Safe to repeat: PVE refuses a second set of this name, and we have just looked.
                api.add_set(spot, name, world.mark)
            elif not bears_mark(there[name], world.mark):
                raise StateError(
                    f"firewall {world.spec.name}: its VM has an IP set {name}, and it is not ours",
                    hint="give the set another name, or name theirs in rules: +guest/" + name,
                )
            members = wanted_members(words, Neighbourhood.of(world.setting), world.mark)
            editing.put_members_right(api, spot, name, members, world.mark, world.clock)

    def _drop_sets(self, world: World, spot: Where, *, keep: Sequence[str] | Mapping[str, object]) -> None:
        for name, comment in world.api.sets(spot).items():
            if bears_mark(comment, world.mark) and name not in keep:
                editing.put_members_right(world.api, spot, name, {}, world.mark, world.clock)
                # Safe to repeat: one that is gone is not listed.
                world.api.delete_set(spot, name)


def find_spot(world: World) -> Where | None:
    """Where the machine's VM is; None: there is none."""
    facts = vm_facts(world.setting, world.spec.name)
    return None if facts is None else world.api.find_vm(facts)


def wanted_options(spec: MachineFirewall, world: World) -> dict[str, str]:
    """By PVE's names. What is left unset is left alone, but for DHCP: who gets an address so must be let to it."""
    said: dict[str, bool | str | None] = {
        "enable": spec.enable,
        "policy_in": spec.policy_in,
        "policy_out": spec.policy_out,
        "dhcp": _uses_dhcp(world) if spec.dhcp is None else spec.dhcp,
        "ndp": spec.ndp,
        "radv": spec.router_advertisement,
        "macfilter": spec.mac_filter,
        "ipfilter": spec.ip_filter,
        "log_level_in": spec.log_in,
        "log_level_out": spec.log_out,
    }
    return as_options(said)


def _uses_dhcp(world: World) -> bool | None:
    """True where the description says so; else PVE's setting is left alone."""
    described = (one for one in Neighbourhood.of(world.setting).specs if one.name == world.spec.name)
    methods = {nic.ipv4.method for spec in described for nic in spec.network}
    return True if "dhcp" in methods else None


def _differences(world: World, found: FirewallSeen) -> Iterator[str]:
    wanted = wanted_options(world.spec, world)
    yield from option_differences(found.options, wanted, USUAL, found.known)
    for name, words in world.spec.ip_sets.items():
        if name not in found.sets:
            yield f"IP set {name} is missing"
            continue
        members = wanted_members(words, Neighbourhood.of(world.setting), world.mark)
        yield from editing.member_differences(found.sets[name], members, world.mark, f"IP set {name}: ")
    yield from (f"IP set {name} is not described any more" for name in found.sets if name not in world.spec.ip_sets)
    yield from rules.rule_differences(found.rules, wanted_list(world), world.mark)


def remarks(world: World) -> Iterator[str]:
    """What keeps the rules from having an effect: PVE says nothing of it by itself."""
    yield from waiting_rules(world)
    if world.spec.enable and not _cluster_filters(world):
        yield "nothing is filtered: the firewall of the whole cluster is off (docs/firewall.md says how to turn it on)"


def _cluster_filters(world: World) -> bool:
    """True where we may not see it."""
    try:
        return str(world.api.options(of_cluster()).get("enable", "0")) != "0"
    except PermissionDenied:
        return True


def find_stranger(world: World) -> Stranger | None:
    spot = find_spot(world)
    if spot is None:
        return None

    def differences(claimed: Sequence[Shown]) -> Sequence[str]:
        return FirewallKind().diff(world, FirewallSeen(world.api.options(spot), claimed, {}, ()))

    return strange_rules(world, spot, differences)


LIFECYCLE = described_rows(FirewallKind())


def needs(spec: MachineFirewall, release: Release) -> Iterator[Need]:
    """The machine itself needs the rights on its VM."""
    del spec, release
    yield Need(("/",), ("Sys.Audit",), "see whether the cluster's firewall is on", must=False)


def make_world(spec: MachineFirewall, setting: Setting) -> World:
    return pve_world(spec, setting, lambda hypervisor: hypervisor.firewall_store)


def examine(spec: MachineFirewall, setting: Setting) -> Iterator[Finding]:
    if spec.enable and not _cluster_filters(make_world(spec, setting)):
        hint = "docs/firewall.md says what to look at before you turn it on: it also filters what reaches the nodes"
        yield Finding(
            Level.WARNING, "firewall", f"{spec.name}: nothing is filtered: the cluster's firewall is off", hint
        )


DESCRIBED = Describable(MachineFirewall, make_world, needs, remarks=remarks, examine=examine, stranger=find_stranger)
