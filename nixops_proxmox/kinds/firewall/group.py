"""A security group of the cluster: rules that machines have together. It is ours if its comment bears our mark; so is a
rule in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nixops_proxmox.core.kind import Known, Thing
from nixops_proxmox.core.table import Attempt
from nixops_proxmox.errors import StateError
from nixops_proxmox.kinds.firewall import editing, rules
from nixops_proxmox.kinds.firewall.names import needs, refuse_used
from nixops_proxmox.kinds.firewall.ports import FirewallStore, Shown
from nixops_proxmox.kinds.firewall.ruled import claim_rules, claimed_list, wanted_list
from nixops_proxmox.kinds.resource import (
    Describable,
    ResourceWorld,
    Setting,
    Stranger,
    comment_changes,
    described_rows,
    pve_world,
    stranger_at,
)
from nixops_proxmox.pve.api.firewall import Where, of_group
from nixops_proxmox.spec.firewall import GROUP, SecurityGroup
from nixops_proxmox.spec.marks import bears_mark, with_mark

World: TypeAlias = ResourceWorld[SecurityGroup, FirewallStore]


@dataclass(frozen=True)
class GroupSeen:
    comment: str
    rules: Sequence[Shown]


class GroupKind:
    name = GROUP

    def look(self, world: World, thing: Thing, /) -> GroupSeen | None:
        del thing
        comment = world.api.groups().get(world.spec.pve_name)
        if comment is None or not bears_mark(comment, world.mark):
            return None
        return GroupSeen(comment, world.api.rules(_spot(world)))

    def diff(self, world: World, found: GroupSeen, /) -> Sequence[str]:
        comment = comment_changes(found.comment, world.spec.comment, world.mark)
        return [*comment, *rules.rule_differences(found.rules, wanted_list(world), world.mark)]

    def apply(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        api, name, comment = world.api, world.spec.pve_name, with_mark(world.spec.comment, world.mark)
        have = api.groups().get(name)
        if have is None:
            # Safe to repeat: PVE refuses a second group of this name, and we have just looked.
            api.add_group(name, comment)
        elif not bears_mark(have, world.mark):
            raise StateError(
                f"security group {thing.name}: {world.spec.profile} has one {name}, and it is not ours",
                hint=f'machines can use it as it is: group = "pve:{name}"',
            )
        elif have != comment:
            # Safe to repeat: the same comment again changes nothing.
            api.set_group_comment(name, comment)
        editing.put_rules_right(api, _spot(world), wanted_list(world), world.mark, world.clock)
        return attempt.facts

    def remove(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """StateError for one that machines use, and for one that others have put rules into."""
        del attempt
        found = self.look(world, thing)
        if found is None:
            return Known()
        name, ours = world.spec.pve_name, rules.ours_in(found.rules, world.mark)
        refuse_used(world.api, "security group", name, f"group {name}")
        others = [rules.rule_text(rule, "") for place, rule in enumerate(found.rules) if place not in ours]
        if others:
            raise StateError(
                f"cannot delete the security group {name}: others have put in: {'; '.join(others)}",
                hint="take them out of it, and try again",
            )
        editing.put_rules_right(world.api, _spot(world), (), world.mark, world.clock)
        # Safe to repeat: PVE deletes only an empty group, and one that is gone needs nothing.
        world.api.delete_group(name)
        return Known()


def _spot(world: World) -> Where:
    return of_group(world.spec.pve_name)


def find_stranger(world: World) -> Stranger | None:
    """Rules in it that are as described become ours, too: others stay what they are."""
    api, name, spot = world.api, world.spec.pve_name, _spot(world)

    def claim(marked: str) -> None:
        claim_rules(world, spot)
        api.set_group_comment(name, marked)

    return stranger_at(
        api.groups().get(name),
        world.mark,
        lambda marked: GroupKind().diff(world, GroupSeen(marked, claimed_list(world, spot))),
        claim,
    )


LIFECYCLE = described_rows(GroupKind())


def make_world(spec: SecurityGroup, setting: Setting) -> World:
    return pve_world(spec, setting, lambda hypervisor: hypervisor.firewall_store)


DESCRIBED = Describable(SecurityGroup, make_world, needs, stranger=find_stranger)
