"""Rules: what a description makes of PVE's list, how that differs, and what has to be done next. All pure.

Ours bear our mark in their comments, and keep their order among themselves. Rules of others keep their places.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import product

from nixops_proxmox.kinds.firewall.ports import Given, Shown
from nixops_proxmox.kinds.firewall.words import Neighbourhood, family_of, fields_of
from nixops_proxmox.spec.firewall import GROUP_OF_PVE, Rule, SecurityGroup
from nixops_proxmox.spec.marks import bears_mark, with_mark, without_mark

KEYS = ("type", "action", "enable", "macro", "proto", "source", "dest", "sport", "dport", "iface", "icmp-type", "log",
        "comment")  # fmt: skip
FOLDED = ("macro",)  # PVE spells them its own way
ICMP_OF = {4: ("icmp",), 6: ("icmpv6", "ipv6-icmp")}

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Insert:
    """Put a rule before the one at `before` now."""

    rule: Given
    before: int


@dataclass(frozen=True)
class Rewrite:
    """Make the rule at `place` another."""

    place: int
    values: Given
    gone: tuple[str, ...]


@dataclass(frozen=True)
class Drop:
    place: int


RuleEdit = Insert | Rewrite | Drop


def wanted_rules(rules: Iterable[Rule], around: Neighbourhood, mark: str) -> list[Given]:
    """PVE's rules, in order. A rule that names only what has no address yet stands for none: without its addresses it
    would be open to all."""
    return [made for rule in rules for made in _expanded(rule, around, mark)]


def idle_rules(rules: Iterable[Rule], around: Neighbourhood) -> list[str]:
    """The rules that stand for none now, a few words each."""
    return [
        " ".join((*rule.sources, *rule.to))
        for rule in rules
        if rule.group is None and not any(_expanded(rule, around, ""))
    ]


def _expanded(rule: Rule, around: Neighbourhood, mark: str) -> Iterator[Given]:
    base = {key: value for key, value in _fixed(rule, around, mark).items() if value is not None}
    sources = fields_of(rule.sources, around) if rule.sources else [""]
    targets = fields_of(rule.to, around) if rule.to else [""]
    for source, target in product(sources, targets):
        families = {family_of(field) for field in (source, target) if field} - {0}
        if len(families) > 1 or any(rule.proto in ICMP_OF[4 if family == 6 else 6] for family in families):
            continue
        ends = {"source": source, "dest": target}
        yield {**base, **{key: value for key, value in ends.items() if value}}


def _fixed(rule: Rule, around: Neighbourhood, mark: str) -> Mapping[str, str | None]:
    comment = with_mark(rule.comment, mark)
    common = {"enable": str(int(rule.enable)), "comment": comment, "iface": rule.nic}
    if rule.group is not None:
        return {"type": "group", "action": _group(rule.group, around), **common}
    return {
        **common,
        "type": rule.direction,
        "action": rule.action,
        "macro": rule.macro,
        "proto": rule.proto,
        "dport": rule.port,
        "sport": rule.source_port,
        "icmp-type": rule.icmp_type,
        "log": rule.log,
    }


def _group(name: str, around: Neighbourhood) -> str:
    """PVE's name of it."""
    if name.startswith(GROUP_OF_PVE):
        return name.removeprefix(GROUP_OF_PVE)
    described = (one for one in around.resources if isinstance(one, SecurityGroup) and one.name == name)
    return next((one.pve_name for one in described), name)


def pairs(rule: Mapping[str, object]) -> Pairs:
    """What makes two rules the same."""
    texts = {key: str(rule[key]) for key in KEYS if rule.get(key) not in (None, "")}
    texts |= {key: texts[key].lower() for key in FOLDED if key in texts}
    texts["enable"] = "0" if texts.get("enable", "1") == "0" else "1"
    return tuple(sorted(texts.items()))


def is_ours(rule: Shown, mark: str) -> bool:
    return bears_mark(str(rule.get("comment", "")), mark)


def ours_in(found: Sequence[Shown], mark: str) -> list[int]:
    """The places of our rules."""
    return [place for place, rule in enumerate(found) if is_ours(rule, mark)]


def claimable(found: Sequence[Shown], wanted: Sequence[Given], mark: str) -> list[int]:
    """The places of rules that have no mark of ours and are as described, one for each that is described."""
    ours = [pairs(found[place]) for place in ours_in(found, mark)]
    left = [pairs(rule) for rule in wanted]
    for one in ours:
        if one in left:
            left.remove(one)
    places = []
    for place, rule in enumerate(found):
        marked = pairs(_marked(rule, mark))
        if not is_ours(rule, mark) and marked in left:
            left.remove(marked)
            places.append(place)
    return places


def as_claimed(found: Sequence[Shown], wanted: Sequence[Given], mark: str) -> list[Shown]:
    """The list when those are ours."""
    places = claimable(found, wanted, mark)
    return [_marked(rule, mark) if place in places else rule for place, rule in enumerate(found)]


def _marked(rule: Shown, mark: str) -> Shown:
    return {**rule, "comment": with_mark(str(rule.get("comment", "")), mark)}


def next_edit(found: Sequence[Shown], wanted: Sequence[Given], mark: str) -> RuleEdit | None:
    """What to do next; None: all is as wanted. What is missing comes before what is too much, so that nothing that is
    wanted is cut off on the way."""
    edits = list(_edits(found, wanted, mark))
    return next((one for one in edits if not isinstance(one, Drop)), edits[0] if edits else None)


def _edits(found: Sequence[Shown], wanted: Sequence[Given], mark: str) -> Iterator[RuleEdit]:
    places = ours_in(found, mark)
    old, new = [pairs(found[place]) for place in places], [pairs(rule) for rule in wanted]
    for what, i1, i2, j1, j2 in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what == "equal":
            continue
        for i, j in zip(range(i1, i2), range(j1, j2), strict=False):
            yield _rewritten(places[i], found[places[i]], wanted[j])
        paired = min(i2 - i1, j2 - j1)
        if j2 - j1 > paired:
            yield Insert(wanted[j1 + paired], _before(places, i1 + paired))
        yield from (Drop(places[i]) for i in reversed(range(i1 + paired, i2)))


def _before(places: Sequence[int], index: int) -> int:
    """Where ours number `index` goes: right behind ours before it, else in front of ours, else in front of all."""
    if index > 0:
        return places[index - 1] + 1
    return places[0] if places else 0


def _rewritten(place: int, have: Shown, want: Given) -> Rewrite:
    gone = tuple(key for key in KEYS if have.get(key) not in (None, "") and key not in want)
    return Rewrite(place, want, gone)


# In words.


def rule_text(rule: Mapping[str, object], mark: str) -> str:
    """One line: in ACCEPT SSH from 192.0.2.0/24"""
    said = {key: str(value) for key, value in rule.items() if value not in (None, "")}
    parts = ["group", said["action"]] if said["type"] == "group" else [said["type"], said["action"]]
    parts += [said[key] for key in ("macro", "proto") if key in said]
    words = {"dport": "port", "sport": "source port", "icmp-type": "type", "source": "from", "dest": "to",
             "iface": "on", "log": "log"}  # fmt: skip
    parts += [f"{word} {said[key]}" for key, word in words.items() if key in said]
    comment = without_mark(said.get("comment", ""), mark)
    parts += [f"({comment})"] if comment else []
    return " ".join(parts) + (" (off)" if said.get("enable", "1") == "0" else "")


def rule_differences(found: Sequence[Shown], wanted: Sequence[Given], mark: str) -> Iterator[str]:
    old = [found[place] for place in ours_in(found, mark)]
    matcher = SequenceMatcher(None, [pairs(one) for one in old], [pairs(one) for one in wanted], autojunk=False)
    for what, i1, i2, j1, j2 in matcher.get_opcodes():
        if what == "equal":
            continue
        for i, j in zip(range(i1, i2), range(j1, j2), strict=False):
            yield f"rule {j + 1}: {rule_text(old[i], mark)} becomes {rule_text(wanted[j], mark)}"
        paired = min(i2 - i1, j2 - j1)
        yield from (f"rule {j + 1} is missing: {rule_text(wanted[j], mark)}" for j in range(j1 + paired, j2))
        yield from (f"not described any more: {rule_text(old[i], mark)}" for i in range(i1 + paired, i2))
