"""What HA is told of our machines: resources, and rules, which are groups before 9.0."""

from collections.abc import Callable, Mapping, Sequence

from nixops_proxmox.errors import PveRefused
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.api.ha import HaRuleSeen
from nixops_proxmox.pve.api.versions import Release

HA_ERROR = "error"
NODES, GUESTS = "node-affinity", "resource-affinity"


def in_ha_error(guest: str) -> PveRefused:
    """HA gave up on it. `guest`: such as VM 100."""
    repair = "see why in its tasks; in PVE, ask HA for the state disabled, repair it, and ask for started"
    return PveRefused(f"{guest}: HA gave up on it (its state is error)", hint=repair)


class HaStore:
    """Satisfies `kinds.ha.ports.HaStore`."""

    def __init__(self, client: PveClient, release: Callable[[], Release]) -> None:
        self._client, self._release = client, release

    def has_rules(self) -> bool:
        return self._release().major >= 9

    def count_nodes(self) -> int:
        return len(self._client.get_resources(0.0).nodes)

    def resources(self) -> Mapping[str, Mapping[str, str]]:
        return self._client.ha.list_entries("resources")

    def add(self, sid: str, settings: Mapping[str, str], /) -> None:
        self._client.ha.add("resources", sid, settings)

    def change(self, sid: str, settings: Mapping[str, str], /) -> None:
        self._client.ha.change("resources", sid, settings)

    def remove(self, sid: str, /) -> None:
        if sid in self.resources():
            self._client.ha.remove("resources", sid)

    def find_rule(self, name: str, /) -> HaRuleSeen | None:
        if self.has_rules():
            rule = self._client.ha.list_entries("rules").get(name)
            return None if rule is None else _of_rule(rule)
        group = self._client.ha.list_entries("groups").get(name)
        return None if group is None else _of_group(group, self._members(name))

    def _members(self, group: str) -> frozenset[str]:
        return frozenset(sid for sid, one in self.resources().items() if one.get("group") == group)

    def put_rule(self, name: str, wanted: HaRuleSeen, have: HaRuleSeen | None, /) -> None:
        if not self.has_rules():
            return self._put_group(name, wanted, have)
        settings = _rule_settings(wanted)
        if have is None:
            return self._client.ha.add("rules", name, settings)
        return self._client.ha.change("rules", name, settings)

    def _put_group(self, name: str, wanted: HaRuleSeen, have: HaRuleSeen | None) -> None:
        if wanted.affinity or not wanted.enabled:
            what = "rules that keep machines together or apart" if wanted.affinity else "groups that are off"
            raise PveRefused(
                f"HA of this PVE has no {what}: they came with 9.0", hint="upgrade PVE, or remove the rule"
            )
        settings = {
            "nodes": _print_nodes(wanted.nodes),
            "restricted": str(int(wanted.strict)),
            "nofailback": str(int(wanted.failback is False)),
            "comment": wanted.comment,
        }
        # Safe to repeat: a group that is there is changed to the same again, and so is each member.
        if have is None:
            self._client.ha.add("groups", name, settings)
        else:
            self._client.ha.change("groups", name, settings)
        there = frozenset() if have is None else have.members
        for sid in sorted(wanted.members - there):
            self._client.ha.change("resources", sid, {"group": name})
        self._take_out(sorted(there - wanted.members))

    def _take_out(self, sids: Sequence[str]) -> None:
        for sid in sids:
            self._client.ha.change("resources", sid, {}, ("group",))

    def remove_rule(self, name: str, members: Sequence[str], /) -> None:
        if self.has_rules():
            self._client.ha.remove("rules", name)
            return
        self._take_out(members)
        self._client.ha.remove("groups", name)


def _of_rule(rule: Mapping[str, str]) -> HaRuleSeen:
    return HaRuleSeen(
        frozenset(one for one in rule.get("resources", "").split(",") if one),
        _parse_nodes(rule.get("nodes", "")),
        rule.get("strict") == "1",
        rule.get("affinity", ""),
        rule.get("disable") != "1",
        rule.get("comment", ""),
    )


def _of_group(group: Mapping[str, str], members: frozenset[str]) -> HaRuleSeen:
    return HaRuleSeen(
        members,
        _parse_nodes(group.get("nodes", "")),
        group.get("restricted") == "1",
        "",
        True,
        group.get("comment", ""),
        group.get("nofailback") != "1",
    )


def _rule_settings(rule: HaRuleSeen) -> Mapping[str, str]:
    settings = {
        "resources": ",".join(sorted(rule.members)),
        "disable": str(int(not rule.enabled)),
        "comment": rule.comment,
    }
    if rule.affinity:
        return {**settings, "type": GUESTS, "affinity": rule.affinity}
    return {**settings, "type": NODES, "nodes": _print_nodes(rule.nodes), "strict": str(int(rule.strict))}


def _parse_nodes(text: str) -> Mapping[str, int]:
    """`pve1:2,pve2`: with priorities."""
    found = (part.partition(":") for part in text.split(",") if part)
    return {name: int(number or 0) for name, _, number in found}


def _print_nodes(nodes: Mapping[str, int]) -> str:
    return ",".join(f"{name}:{number}" if number else name for name, number in sorted(nodes.items()))
