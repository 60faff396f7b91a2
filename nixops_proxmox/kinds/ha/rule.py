"""The four functions of a rule of HA. Before 9.0, one of nodes is a group, which HA's resources name themselves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from nixops_proxmox.core.kind import Known, Thing
from nixops_proxmox.core.table import Attempt
from nixops_proxmox.errors import StateError
from nixops_proxmox.kinds.ha.ports import HaStore
from nixops_proxmox.kinds.ha.resource import find_sid, needs_of_ha, sid_of
from nixops_proxmox.kinds.resource import (
    Describable,
    ResourceWorld,
    Setting,
    Stranger,
    described_rows,
    pve_world,
    stranger_at,
)
from nixops_proxmox.pve.api.ha import HaRuleSeen
from nixops_proxmox.spec.ha import HA_RULE, HaRuleSpec, HaSpec
from nixops_proxmox.spec.marks import bears_mark, with_mark

NAME = HA_RULE
ABOUT = "where HA keeps machines"

World: TypeAlias = ResourceWorld[HaRuleSpec, HaStore]


class HaRuleKind:
    name = NAME

    def look(self, world: World, thing: Thing, /) -> HaRuleSeen | None:
        del thing
        rule = world.api.find_rule(world.spec.ruleid)
        return rule if rule is not None and bears_mark(rule.comment, world.mark) else None

    def diff(self, world: World, found: HaRuleSeen, /) -> Sequence[str]:
        sids = [sid for name in world.spec.machines if (sid := find_sid(world.setting, name)) is not None]
        return list(_differences(wanted(world, sids), found))

    def apply(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        sids = [sid_of(world.setting, name) for name in world.spec.machines]
        have = world.api.find_rule(world.spec.ruleid)
        if have is not None and not bears_mark(have.comment, world.mark):
            raise StateError(
                f"HA rule {thing.name}: {world.spec.profile} has one called {world.spec.ruleid}, and it is not ours",
                hint=f"give resources.haRules.{thing.name} another name by `rule`",
            )
        # Safe to repeat: what is there is changed to the same again.
        world.api.put_rule(world.spec.ruleid, wanted(world, sids), have)
        return attempt.facts

    def remove(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """StateError for a group that somebody else's resources are in."""
        del attempt
        have = world.api.find_rule(world.spec.ruleid)
        if have is None or not bears_mark(have.comment, world.mark):
            return Known()
        ours = {find_sid(world.setting, name) for name in world.spec.machines}
        strangers = sorted(have.members - ours)
        if strangers and not world.api.has_rules():
            raise StateError(
                f"HA rule {thing.name}: its group {world.spec.ruleid} is used by {', '.join(strangers)}",
                hint="take them out of it in PVE, and try again",
            )
        # Safe to repeat: PVE deletes one that is gone without a word.
        world.api.remove_rule(world.spec.ruleid, sorted(have.members))
        return Known()


def wanted(world: World, sids: Sequence[str]) -> HaRuleSeen:
    spec = world.spec
    failback = None if world.api.has_rules() else _failback(world)
    comment = with_mark(spec.comment, world.mark)
    return HaRuleSeen(frozenset(sids), spec.nodes, spec.strict, spec.affinity or "", spec.enabled, comment, failback)


def _failback(world: World) -> bool:
    """Before 9.0, the group says it for all that are in it."""
    network = None if world.setting is None else world.setting.network
    said = {
        spec.failback
        for spec in (() if network is None else network.resources)
        if isinstance(spec, HaSpec) and spec.name in world.spec.machines
    }
    if len(said) > 1:
        raise StateError(
            f"HA rule {world.spec.name}: before 9.0, all its machines fail back or none does",
            hint="say the same `ha.failback` at each",
        )
    return said != {False}


def _differences(want: HaRuleSeen, have: HaRuleSeen) -> Iterator[str]:
    pairs: Mapping[str, tuple[object, object]] = {
        "machines": (", ".join(sorted(have.members)), ", ".join(sorted(want.members))),
        "nodes": (_nodes(have), _nodes(want)),
        "strict": (have.strict, want.strict),
        "affinity": (have.affinity, want.affinity),
        "enabled": (have.enabled, want.enabled),
        "failback": (have.failback, want.failback),
        "comment": (have.comment, want.comment),
    }
    for name, (old, new) in pairs.items():
        if old != new:
            yield f"{name}: {_word(old)} becomes {_word(new)}"


def _nodes(rule: HaRuleSeen) -> str:
    return ", ".join(f"{name} ({number})" for name, number in sorted(rule.nodes.items()))


def _word(value: object) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value or "none")


def find_stranger(world: World) -> Stranger | None:
    name = world.spec.ruleid
    have = world.api.find_rule(name)
    if have is None:
        return None
    return stranger_at(
        have.comment,
        world.mark,
        lambda marked: HaRuleKind().diff(world, replace(have, comment=marked)),
        lambda marked: world.api.put_rule(name, replace(have, comment=marked), have),
    )


def make_world(spec: HaRuleSpec, setting: Setting) -> World:
    return pve_world(spec, setting, lambda hypervisor: hypervisor.ha_store)


LIFECYCLE = described_rows(HaRuleKind())
DESCRIBED = Describable(HaRuleSpec, make_world, needs_of_ha, stranger=find_stranger)
