"""The calls of HA: its resources, its groups (before 9.0) and its rules (since)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nixops_proxmox.pve.api import answers

KEYS = {"resources": "sid", "groups": "group", "rules": "rule"}  # what names an entry
Settings = Mapping[str, str]


def sid_of_guest(vmid: int, *, container: bool) -> str:
    """What HA calls it."""
    return f"{'ct' if container else 'vm'}:{vmid}"


@dataclass(frozen=True)
class HaRuleSeen:
    """A rule, or a group of before 9.0, with the resources that are in it. `nodes`: priorities. `affinity` empty: it is
    one of nodes. `failback` None: each resource says it itself, as since 9.0."""

    members: frozenset[str]
    nodes: Mapping[str, int]
    strict: bool
    affinity: str
    enabled: bool
    comment: str
    failback: bool | None = None


class HaCalls:
    """`ask`: the client's. `what`: resources, groups or rules. Reading needs Sys.Audit on /, writing Sys.Console."""

    def __init__(self, ask: Callable[..., Any]) -> None:
        self._ask = ask

    def list_entries(self, what: str) -> Mapping[str, Settings]:
        """By name. What was never set is not there."""
        return answers.parse_ha_entries(self._ask("GET", "/cluster/ha/{what}", what=what), KEYS[what])

    def add(self, what: str, name: str, settings: Settings) -> None:
        self._ask("POST", "/cluster/ha/{what}", {**settings, KEYS[what]: name}, what=what)

    def change(self, what: str, name: str, settings: Settings, gone: Sequence[str] = ()) -> None:
        """`gone`: the settings that go back to PVE's own."""
        params = {**settings, "delete": ",".join(gone)} if gone else settings
        self._ask("PUT", "/cluster/ha/{what}/{name}", params, what=what, name=name)

    def remove(self, what: str, name: str) -> None:
        self._ask("DELETE", "/cluster/ha/{what}/{name}", what=what, name=name)
