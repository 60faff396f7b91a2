"""What machines, clusters and security groups have in common: rules, some of which somebody else may have written."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from nixops_proxmox.kinds.firewall import editing, rules
from nixops_proxmox.kinds.firewall.ports import FirewallStore, Given, Shown
from nixops_proxmox.kinds.firewall.words import Neighbourhood
from nixops_proxmox.kinds.resource import ResourceWorld, Stranger
from nixops_proxmox.pve.api.firewall import Where

RuledWorld: TypeAlias = ResourceWorld[Any, FirewallStore]  # whose description has `rules`


def wanted_list(world: RuledWorld) -> list[Given]:
    return rules.wanted_rules(world.spec.rules, Neighbourhood.of(world.setting), world.mark)


def claim_rules(world: RuledWorld, spot: Where) -> None:
    editing.claim_rules(world.api, spot, wanted_list(world), world.mark, world.clock)


def claimed_list(world: RuledWorld, spot: Where) -> list[Shown]:
    """The rules that are there, when those are ours that are as described."""
    return rules.as_claimed(world.api.rules(spot), wanted_list(world), world.mark)


def strange_rules(
    world: RuledWorld, spot: Where, differences: Callable[[Sequence[Shown]], Sequence[str]]
) -> Stranger | None:
    """Rules that somebody else wrote, and that are as described; None: there are none. `differences`: by the list when
    they are ours."""
    found, wanted = world.api.rules(spot), wanted_list(world)
    if not rules.claimable(found, wanted, world.mark):
        return None
    claimed = rules.as_claimed(found, wanted, world.mark)
    return Stranger("", differences(claimed), lambda: claim_rules(world, spot))


def waiting_rules(world: RuledWorld) -> Iterator[str]:
    """The described rules that stand for none now, a line each."""
    for words in rules.idle_rules(world.spec.rules, Neighbourhood.of(world.setting)):
        yield f"a rule waits: nothing that it names has an address yet ({words})"
