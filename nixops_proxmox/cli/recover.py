"""Rebuild a lost record from the marks on the cluster's VMs.

Changes no VM.
"""

import argparse
from typing import TYPE_CHECKING, Any

from nixops_proxmox.cli.arguments import add_json, add_yes, choose_profile, enter_networks, open_deployed
from nixops_proxmox.cli.console import Console
from nixops_proxmox.spelling import Verb, command

if TYPE_CHECKING:
    from nixops_proxmox.wiring import Sighted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="Show what is found, and write nothing")
    parser.add_argument("--break-lock", action="store_true", help="Take the lock from a run that has certainly ended")
    add_yes(parser)
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    with open_deployed(args, console, described=None) as deployed:
        profiles = sorted({deployed.spec(name).profile for name in deployed.described()})
        profiles = profiles or [choose_profile(args) or "default"]
        enter_networks(profiles)
        with console.busy(f"looking at {', '.join(profiles)}"):
            found = deployed.recoverable(profiles)
        show(args, console, found)
        new = [one for one in found if one.machine is not None]
        if not new:
            console.say(f"there is nothing to recover for {deployed.record.name}")
            return 0
        names = ", ".join(one.mark.machine for one in new)
        if args.dry_run or not console.ask(f"record {names} in {deployed.record.name}?", yes=args.yes):
            console.say("nothing was recorded")
            return 0
        deployed.recover(new)
        console.say(f"recorded: {names}; {command(Verb.DEPLOY)} goes on from there")
    return 0


def show(args: argparse.Namespace, console: Console, found: "list[Sighted]") -> None:
    if args.json:
        console.json({"found": [to_json(one) for one in found]})
        return
    from nixops_proxmox.wiring.recovery import shown

    heads = ("machine", "deployment", "node", "vmid", "phase", "why not")
    rows = [
        [
            shown(one.mark.machine),
            shown(one.mark.deployment),
            one.node,
            str(one.vmid),
            one.machine.phase.value if one.machine else "-",
            one.problem or "-",
        ]
        for one in found
    ]
    if rows:
        console.table(heads, rows, phases=4)
    for one in found:
        for remark in one.remarks:
            console.warn(f"{shown(one.mark.machine)}: {remark}")


def to_json(one: "Sighted") -> dict[str, Any]:
    return {
        "machine": one.mark.machine,
        "deployment": one.mark.deployment,
        "uuid": one.mark.uuid,
        "node": one.node,
        "vmid": one.vmid,
        "phase": one.machine.phase.value if one.machine else None,
        "problem": one.problem or None,
        "remarks": list(one.remarks),
    }
