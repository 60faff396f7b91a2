"""Take over VMs and resources that somebody else made.

Describes VMs, proves that a deploy would do nothing, and asks before it marks them. A resource is named by the
path of its description, such as resources.pools.front. Until it has asked, it changes nothing.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nixops_proxmox.cli.arguments import complete, open_deployed
from nixops_proxmox.display.arguments import add_break_lock, add_json, add_yes
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.messages.adoptions import (
    HEADS,
    adoption_json,
    adoption_remarks,
    adoption_row,
    network_text,
    stranger_json,
    stranger_lines,
)
from nixops_proxmox.messages.lines import Line
from nixops_proxmox.messages.shapes.setup import AdoptionsJson, StrangeResourcesJson
from nixops_proxmox.spelling import Verb, command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nixops_proxmox.operations.adopting import Adoption

CANNOT = 1
RESOURCES = "resources."  # begins the path of a described resource; a VM that is called so has its VMID


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("targets", metavar="VMID|NAME|PATH", nargs="*", help="Take over these")
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
    paths = [word for word in args.targets if word.startswith(RESOURCES)]
    if not paths:
        return run_for_vms(args, screen)
    if len(paths) < len(args.targets) or args.called or args.pool or args.tfstate or args.out:
        raise ConfigError("VMs and resources are taken over one after the other", hint=f"name only {paths[0]}")
    return run_for_resources(args, screen, paths)


def run_for_resources(args: argparse.Namespace, screen: Screen, paths: "Sequence[str]") -> int:
    with open_deployed(args, screen) as deployed:
        with screen.busy("looking at what is there"):
            found = deployed.strange_resources(paths)
        if args.json:
            screen.json(StrangeResourcesJson(resources=[stranger_json(*one) for one in found]))
        for line in (line for one in found for line in stranger_lines(*one)):
            screen.say(line)
        if args.dry_run:
            return 0
        names = ", ".join(paths)
        if not screen.ask(f"mark {names} as ours, and record them in {deployed.record.name}?", yes=args.yes):
            screen.say("nothing was done")
            return 0
        deployed.adopt_resources(paths)
        screen.say(f"taken over: {names}; {command(Verb.PLAN)} says what a deploy changes")
    return 0


def run_for_vms(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.operations.networks import described_profiles
    from nixops_proxmox.pve.wire.networks import enter_networks

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
        screen.json(AdoptionsJson(vms=[adoption_json(one) for one in found]))
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
