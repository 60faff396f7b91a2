"""Where a VM may not be for reasons beside room: devices that only some nodes have, and what HA was told. Only read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from nixops_proxmox.errors import PveRefused
from nixops_proxmox.pve.api.answers import ClusterResources, GuestSeen, HaRule
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.api.ha import sid_of_guest
from nixops_proxmox.pve.cluster.guest_kinds import CONTAINERS
from nixops_proxmox.pve.cluster.verdicts import Verdict
from nixops_proxmox.pve.wire.properties import parse_properties

KINDS = {"hostpci": "pci", "usb": "usb"}  # PVE's keys, and whose mappings they name
UNMANAGED = ("", "ignored")


def mapped_devices(values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """(pci or usb, the mapping's name) of each mapped device in a configuration."""
    for key, value in sorted(values.items()):
        kind = KINDS.get(key.rstrip("0123456789"))
        name = parse_properties(str(value), "host").get("mapping", "") if kind else ""
        if kind and name:
            yield kind, name


@dataclass(frozen=True)
class Limits:
    """What HA's rules say against nodes. `wishes` are no conditions."""

    reasons: Mapping[str, tuple[str, ...]]
    wishes: Mapping[str, tuple[str, ...]]


def with_limits(verdict: Verdict, limits: Limits) -> Verdict:
    """The same, with what HA's rules say."""
    reasons = (*verdict.reasons, *limits.reasons.get(verdict.node, ()))
    wishes = limits.wishes.get(verdict.node, ())
    return replace(verdict, fits=not reasons, reasons=reasons, notes=() if reasons else (*verdict.notes, *wishes))


class Restrictions:
    """Each list is asked for once. If we may not see it, PVE itself says at the start or the migration."""

    def __init__(self, client: PveClient) -> None:
        self._client = client
        self._mappings: dict[str, Mapping[str, frozenset[str]] | None] = {}
        self._rules: tuple[HaRule, ...] | None = None

    def of_devices(self, values: Mapping[str, object], node: str) -> Iterator[str]:
        """Why the node cannot lend the mapped devices."""
        for kind, name in mapped_devices(values):
            known = self._mappings_of(kind)
            if known is not None and name not in known:
                yield f"there is no mapping {name} (or we lack Mapping.Use on /mapping/{kind}/{name})"
            elif known is not None and node not in known[name]:
                yield f"it has no device of the mapping {name}"

    def _mappings_of(self, kind: str) -> Mapping[str, frozenset[str]] | None:
        if kind not in self._mappings:
            try:
                self._mappings[kind] = self._client.list_mappings(kind)
            except PveRefused:
                self._mappings[kind] = None  # 7.4 has none
        return self._mappings[kind]

    def of_ha(self, guest: GuestSeen | None, seen: ClusterResources) -> Limits:
        """For a guest that HA manages. Others are free."""
        if guest is None or guest.ha in UNMANAGED:
            return Limits({}, {})
        sid = sid_of_guest(guest.vmid, container=guest.kind == CONTAINERS.type)
        rules = [rule for rule in self._ha_rules() if sid in rule.resources]
        names = [node.name for node in seen.nodes]
        said = {name: [(rule, text) for rule in rules if (text := _says(rule, sid, name, seen))] for name in names}
        return Limits(
            {name: tuple(text for rule, text in found if rule.strict) for name, found in said.items()},
            {name: tuple(text for rule, text in found if not rule.strict) for name, found in said.items()},
        )

    def _ha_rules(self) -> tuple[HaRule, ...]:
        if self._rules is None:
            self._rules = self._ask_ha()
        return self._rules

    def _ask_ha(self) -> tuple[HaRule, ...]:
        """A cluster that has no rules yet has groups."""
        for ask in (self._client.list_ha_rules, self._client.list_ha_groups):
            try:
                return ask()
            except PveRefused:
                continue
        return ()


def _says(rule: HaRule, sid: str, node: str, seen: ClusterResources) -> str:
    """What speaks against the node. PVE takes along what a rule keeps together, so that forbids nothing."""
    if rule.nodes and node not in rule.nodes:
        return f"HA's {rule.name} names {', '.join(sorted(rule.nodes))}"
    if not rule.apart:
        return ""
    others = sorted(rule.resources - {sid})
    there = [one for one in others if (guest := seen.guests.get(_vmid(one))) is not None and guest.node == node]
    return f"HA's {rule.name} keeps it away from {' and '.join(there)}, which is there" if there else ""


def _vmid(sid: str) -> int:
    number = sid.partition(":")[2]
    return int(number) if number.isdecimal() else 0
