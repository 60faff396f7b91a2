"""The firewall of a whole cluster: its options, and the rules that hold on every node, for the nodes themselves. What
others have set there stays.

A rule is ours by our mark in its comment, an option if the record says that we changed it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nixops_proxmox.core.kind import Known, Thing
from nixops_proxmox.core.table import Attempt
from nixops_proxmox.errors import StateError
from nixops_proxmox.kinds.firewall import editing, rules
from nixops_proxmox.kinds.firewall.options import as_options, knowing, known_options, option_differences
from nixops_proxmox.kinds.firewall.ports import FirewallStore, Shown
from nixops_proxmox.kinds.firewall.ruled import strange_rules, waiting_rules, wanted_list
from nixops_proxmox.kinds.resource import Describable, ResourceWorld, Setting, Stranger, described_rows, pve_world
from nixops_proxmox.pve.api.firewall import of_cluster
from nixops_proxmox.pve.api.versions import Release
from nixops_proxmox.pve.cluster.permissions import Need
from nixops_proxmox.spec.firewall import CLUSTER_FIREWALL, MANAGEMENT, MANAGEMENT_PORT, ClusterFirewall, may_let_in

NAME = CLUSTER_FIREWALL
ABOUT = "the firewall of a whole cluster: options, and rules for its nodes"
USUAL = {"enable": "0", "ebtables": "1", "policy_in": "DROP", "policy_out": "ACCEPT", "policy_forward": "ACCEPT"}

World: TypeAlias = ResourceWorld[ClusterFirewall, FirewallStore]


@dataclass(frozen=True)
class ClusterSeen:
    """What there is of it. `known`: the options that we have changed before."""

    options: Shown
    rules: Sequence[Shown]
    known: Sequence[str]


class ClusterFirewallKind:
    name = NAME

    def look(self, world: World, thing: Thing, /) -> ClusterSeen | None:
        """One that is described without rules and with options as they are anyway is there once it was made."""
        found, known = world.api.rules(of_cluster()), known_options(thing.facts)
        if not thing.facts.values and not rules.ours_in(found, world.mark):
            return None
        return ClusterSeen(world.api.options(of_cluster()), found, known)

    def diff(self, world: World, found: ClusterSeen, /) -> Sequence[str]:
        options = option_differences(found.options, wanted_options(world.spec), USUAL, found.known)
        return [*options, *rules.rule_differences(found.rules, wanted_list(world), world.mark)]

    def apply(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """The switch comes last, when all that lets us in is there. An option that is as described already is not ours:
        it stays when ours go."""
        wanted, known = wanted_options(world.spec), known_options(attempt.facts)
        before = _options(world)
        changed = [key for key, value in wanted.items() if editing.option_in(before, key, USUAL) != value]
        mine = knowing(attempt.facts, {*known, *changed})
        attempt.note(mine)
        editing.put_rules_right(world.api, of_cluster(), wanted_list(world), world.mark, world.clock)
        if why := _objection(world, before):
            raise StateError(f"cluster firewall {thing.name}: {why}", hint=HINT)
        gone = [name for name in known if name not in wanted]
        editing.put_options_right(world.api, of_cluster(), wanted, USUAL, gone, world.clock)
        return knowing(mine, {*known, *changed} - set(gone))

    def remove(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """The options that we have changed go back to what PVE does without them; so does the switch, first."""
        del thing
        editing.put_options_right(world.api, of_cluster(), {}, USUAL, known_options(attempt.facts), world.clock)
        editing.put_rules_right(world.api, of_cluster(), (), world.mark, world.clock)
        return Known()


HINT = (
    "PVE then lets only the nodes' own network in to port 8006 and SSH: put your addresses into"
    " resources.ipSets.management, or add a rule for port 8006"
)


def _objection(world: World, options: Shown) -> str:
    """Why the firewall is not turned on now. Empty: it is on, or is not to be, or the nodes can still be reached."""
    api, spot = world.api, of_cluster()
    if not world.spec.enable or editing.option_in(options, "enable", USUAL) != "0":
        return ""
    options = {**options, **wanted_options(world.spec)}
    if editing.option_in(options, "policy_in", USUAL) == "ACCEPT":
        return ""
    if MANAGEMENT in api.sets(spot) and api.members(spot, MANAGEMENT):
        return ""
    if any(may_let_in(rule, MANAGEMENT_PORT) for rule in world.spec.rules):
        return ""
    return "it is not turned on, for the IP set management is empty, and no rule lets anybody in to port 8006"


def wanted_options(spec: ClusterFirewall) -> dict[str, str]:
    """By PVE's names. What is left unset is left alone."""
    said: Mapping[str, bool | str | None] = {
        "enable": spec.enable,
        "ebtables": spec.ebtables,
        "policy_in": spec.policy_in,
        "policy_out": spec.policy_out,
        "policy_forward": spec.policy_forward,
    }
    return as_options(said)


def _options(world: World) -> Shown:
    return world.api.options(of_cluster())


def remarks(world: World) -> Iterator[str]:
    yield from waiting_rules(world)
    options = _options(world)
    if why := _objection(world, options):
        yield why
    is_off = editing.option_in(options, "enable", USUAL) == "0"
    if is_off and not world.spec.enable and world.spec.rules:
        yield "its rules have no effect: the firewall of the cluster is off (enable = true turns it on)"


def find_stranger(world: World) -> Stranger | None:
    def differences(claimed: Sequence[Shown]) -> Sequence[str]:
        return ClusterFirewallKind().diff(world, ClusterSeen(_options(world), claimed, ()))

    return strange_rules(world, of_cluster(), differences)


LIFECYCLE = described_rows(ClusterFirewallKind())


def needs(spec: ClusterFirewall, release: Release) -> Iterator[Need]:
    del spec, release
    yield Need(("/",), ("Sys.Audit",), "see the cluster's firewall")
    yield Need(("/",), ("Sys.Modify",), "set the options and rules of the cluster's firewall")


def make_world(spec: ClusterFirewall, setting: Setting) -> World:
    return pve_world(spec, setting, lambda hypervisor: hypervisor.firewall_store)


DESCRIBED = Describable(ClusterFirewall, make_world, needs, remarks=remarks, stranger=find_stranger)
