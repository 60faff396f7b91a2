"""Machines that are moved to another hypervisor: told, asked, done. The same for several doors."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nixops_proxmox.display.runs import carry_out
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.messages.moves import describe_move, what_to_describe

if TYPE_CHECKING:
    from nixops_proxmox.operations import Deployed
    from nixops_proxmox.operations.moving import Passage


def move(
    screen: Screen, deployed: "Deployed", names: Sequence[str], args: argparse.Namespace, *, yes: bool, typed: str
) -> int:
    """`args`: what `add_move` takes. Tells of each machine what forbids it or what it takes; then moves those that
    can."""
    if not args.machines and not args.only and not args.to:
        names = [name for name in names if deployed.is_elsewhere(name)]
    found = [_look(screen, deployed, name, args) for name in names]
    going = [one.name for one in found if one.source != one.target or one.left is not None]
    free = [one.name for one in found if one.name in going and not one.blocked]
    if not going or args.dry_run or (free and not screen.ask(f"move {', '.join(free)}?", yes=yes)):
        screen.say("nothing was done")
        return 0
    deployed.agree()
    status = carry_out(
        typed, screen, going, "moved", lambda: deployed.move(going, args.to, args.storage), deployed.machines
    )
    for one in found:
        described = deployed.spec(one.name).profile if one.name in deployed.described() else ""
        text = what_to_describe(one, described)
        if text and deployed.record.machine(one.name).facts.profile == one.target:
            screen.warn(text)
    return status


def _look(screen: Screen, deployed: "Deployed", name: str, args: argparse.Namespace) -> "Passage":
    with screen.busy(f"looking where {name} can go"):
        found = deployed.foresee_move(name, args.to, args.storage)
    for line in describe_move(found):
        screen.say(line)
    return found
