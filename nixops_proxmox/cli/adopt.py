"""Take over VMs that somebody else made.

Describes them, proves that a deploy would do nothing, and asks before it marks them. Until then, it changes nothing.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nixops_proxmox.cli.arguments import complete, open_deployed
from nixops_proxmox.display.arguments import add_break_lock, add_json, add_yes
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.messages.adoptions import HEADS, adoption_json, adoption_remarks, adoption_row, network_text
from nixops_proxmox.messages.lines import Line
from nixops_proxmox.spelling import Verb, command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nixops_proxmox.operations.adopting import Adoption

CANNOT = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("targets", metavar="VMID|NAME", nargs="*", help="Take over these VMs")
    parser.add_argument("--as", dest="called", metavar="NAME", default="", help="Give the machine this name")
    parser.add_argument("--pool", metavar="POOL", default="", help="Take over all VMs of this pool")
    state = parser.add_argument("--tfstate", metavar="FILE", type=Path, help="Take over the VMs of a Terraform state")
    complete(state, "file")
    out = parser.add_argument("--out", metavar="FILE", type=Path, help="Write the network to a new file")
    complete(out, "file")
    parser.add_argument("--dry-run", action="store_true", help="Show what would be taken over, and stop there")
    add_break_lock(parser)
    add_yes(parser)
    add_json(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.operations.networks import described_profiles, enter_networks

    with open_deployed(args, screen, described=None) as deployed:
        profiles = described_profiles(deployed, args.profile)
        if len(profiles) != 1:
            raise ConfigError("several hypervisors are described", hint="name the one that has the VMs with --profile")
        enter_networks(profiles)
        with screen.busy(f"looking at {profiles[0]}"):
            found = deployed.examine(
                profiles[0], args.targets, called=args.called, pool=args.pool, tfstate=args.tfstate
            )
        show(args, screen, found)
        ready = [one for one in found if one.ready]
        status = 0 if len(ready) == len(found) else CANNOT
        if args.dry_run or not ready:
            return status
        names = ", ".join(one.machine.name for one in ready if one.machine is not None)
        if not screen.ask(f"mark {names} as ours, and record them in {deployed.record.name}?", yes=args.yes):
            screen.say("nothing was done")
            return 0
        deployed.adopt(ready)
        screen.say(f"taken over: {names}; {command(Verb.PLAN)} with this description does nothing")
        for one in ready:
            if one.target.address:
                screen.say(f"then: terraform state rm '{one.target.address}'")
    return status


def show(args: argparse.Namespace, screen: Screen, found: "Sequence[Adoption]") -> None:
    if args.json:
        screen.json({"vms": [adoption_json(one) for one in found]})
        return
    screen.table(HEADS, [adoption_row(one) for one in found])
    for line in (line for one in found for line in adoption_remarks(one)):
        screen.say(line)
    if not any(one.ready for one in found):
        return
    text = network_text(found)
    if args.out is None:
        screen.result_lines([Line(line) for line in text.rstrip("\n").split("\n")])
        return
    try:
        with args.out.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"cannot write {args.out}: {error.strerror}", hint="name a file that is not there") from error
    screen.say(f"wrote {args.out}")
