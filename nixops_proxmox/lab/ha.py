"""What HA is told: resources, groups (before 9.0) and rules (since), with its refusals. What it does: vms/ha.py."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nixops_proxmox.lab.refusals import Refused, die

Rule = dict[str, Any]
CLASSES = "resources are in a resource affinity rule and cannot be in node affinity rules with multiple priorities"
MOVES = "relocate"  # what a container is at while HA takes it to another node
MODIFIED = "detected modified configuration - file changed by other user? Try again."


@dataclass
class HaResource:
    """`state` is what is asked for, `crm` what the manager is at. `settings`: as resources.cfg has them.
    `patience`: seconds that the next stop gives the guest; 0: none."""

    state: str = "started"
    crm: str = "queued"
    settings: dict[str, Any] = field(default_factory=dict)
    patience: float = 60.0
    failures: int = 0  # starts since it last ran

    @property
    def managed(self) -> bool:
        """Do calls of power and migration become requests?"""
        return self.state != "ignored"


@dataclass
class Ha:
    """/etc/pve/ha. `work`: the manager's rounds, while something is to be done."""

    rules: dict[str, Rule] = field(default_factory=dict)
    groups: dict[str, Rule] = field(default_factory=dict)
    work: "asyncio.Task[None] | None" = None
    again: bool = False
    changed: Callable[[], None] = lambda: None  # something that HA manages has ended

    async def settle(self) -> None:
        if self.work is not None and not self.work.done():
            await asyncio.wait([self.work])

    def end(self) -> None:
        if self.work is not None:
            self.work.cancel()

    def take_out(self, sid: str) -> None:
        """`purge`, since 9.1: out of all rules; one that is left empty goes."""
        for name, rule in list(self.rules.items()):
            rest = [one for one in members(rule) if one != sid]
            rule["resources"] = ",".join(rest)
            if not rest:
                del self.rules[name]


def members(rule: Mapping[str, Any]) -> list[str]:
    return [one for one in str(rule.get("resources", "")).split(",") if one]


def priorities(nodes: str) -> dict[str, int]:
    """n1:2,n2 → {n1: 2, n2: 0}"""
    found = (one.partition(":") for one in nodes.split(",") if one)
    return {name: int(number or 0) for name, _, number in found}


def digest(section: object) -> str:
    return hashlib.sha1(json.dumps(section, sort_keys=True, default=str).encode(), usedforsecurity=False).hexdigest()


def check_digest(given: object, section: object) -> None:
    if given and given != digest(section):
        die(MODIFIED)


def refuse_infeasible(rules: Mapping[str, Rule], name: str, nodes: int) -> None:
    """As PVE::HA::Rules checks them; rules that are off do not count."""
    found = list(_why_not(rules, name, nodes))
    if found:
        raise Refused(400, f"Rule '{name}' is invalid.", {"resources": ", ".join(found)})


def _why_not(rules: Mapping[str, Rule], name: str, nodes: int) -> Iterator[str]:
    rule, mine = rules[name], set(members(rules[name]))
    if rule.get("disable"):
        return
    others = [one for key, one in rules.items() if key != name and not one.get("disable")]
    if rule["type"] == "node-affinity":
        yield from _node_rule(rule, mine, others)
        return
    if len(mine) < 2:
        yield "rule is ineffective as there are less than two resources"
    if rule["affinity"] == "negative" and len(mine) > nodes:
        yield "rule defines more resources than available nodes"
    for other in others:
        if (
            other["type"] == rule["type"]
            and other["affinity"] != rule["affinity"]
            and len(mine & {*members(other)}) > 1
        ):
            yield f"rule shares two or more resources with a {other['affinity']} resource affinity rule"
        if other["type"] == "node-affinity" and _has_classes(other) and mine & {*members(other)}:
            yield CLASSES


def _node_rule(rule: Rule, mine: set[str], others: list[Rule]) -> Iterator[str]:
    for other in others:
        common = sorted(mine & {*members(other)})
        if other["type"] == "node-affinity":
            for sid in common:
                yield f"resource '{sid}' is already used in another node affinity rule"
        elif common and _has_classes(rule):
            yield CLASSES


def _has_classes(rule: Rule) -> bool:
    return len({*priorities(rule["nodes"]).values()}) > 1
