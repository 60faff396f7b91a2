"""What the kinds of HA need of a cluster."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from nixops_proxmox.pve.api.ha import HaRuleSeen, Settings


class HaStore(Protocol):
    """HA of one cluster."""

    def has_rules(self) -> bool:
        """Since 9.0. Before that, there are groups."""
        ...

    def count_nodes(self) -> int: ...

    def resources(self) -> Mapping[str, Settings]:
        """By service, such as vm:100 or ct:101."""
        ...

    def add(self, sid: str, settings: Settings, /) -> None: ...
    def change(self, sid: str, settings: Settings, /) -> None: ...
    def remove(self, sid: str, /) -> None: ...

    def find_rule(self, name: str, /) -> HaRuleSeen | None:
        """None: there is no such rule or group."""
        ...

    def put_rule(self, name: str, wanted: HaRuleSeen, have: HaRuleSeen | None, /) -> None:
        """Make it, or change it to that. PveRefused for what the release does not have."""
        ...

    def remove_rule(self, name: str, members: Sequence[str], /) -> None:
        """`members`: the resources that are taken out of a group first."""
        ...
