"""List, detach, delete and adopt volumes: disks that outlive machines."""

import argparse
from typing import TYPE_CHECKING

from nixops_proxmox.cli.arguments import add_common, open_deployed
from nixops_proxmox.display.arguments import add_break_lock, add_json
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.messages.volumes import HEADS, volume_json, volume_row
from nixops_proxmox.spelling import Verb, command

if TYPE_CHECKING:
    from nixops_proxmox.operations import Deployed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    abouts = {
        "list": "List the volumes, and where each one is now",
        "detach": "Park a volume that the VM of a stopped machine has",
        "delete": "Delete a parked volume with its data; asks for its name",
        "adopt": "Record a volume that the cluster has and the record lost",
    }
    for name, about in abouts.items():
        action = actions.add_parser(name, help=about, description=about, allow_abbrev=False)
        if name == "list":
            add_json(action)
        else:
            action.add_argument("name", metavar="NAME", help="Work on this volume")
            add_break_lock(action)
        if name == "delete":
            action.add_argument(
                "--confirm", metavar="NAME", default="", help="Give the name again instead of typing it"
            )
        add_common(action)


def run(args: argparse.Namespace, screen: Screen) -> int:
    with open_deployed(args, screen, described=None) as deployed:
        if args.action == "list":
            return run_list(screen, deployed, as_json=args.json)
        if args.action == "delete" and not agree_to_delete(args, screen, deployed):
            screen.say("nothing was done")
            return 0
        done = {"detach": "parked", "delete": "deleted, with its data", "adopt": "recorded"}[args.action]
        work = {"detach": deployed.park_volume, "delete": deployed.delete_volume, "adopt": deployed.adopt_volume}
        work[args.action](args.name)
        screen.say(f"volume {args.name}: {done}")
    return 0


def run_list(screen: Screen, deployed: "Deployed", *, as_json: bool) -> int:
    found = deployed.list_volumes()
    if as_json:
        screen.json({"volumes": [volume_json(one) for one in found]})
    elif found:
        screen.table(HEADS, [volume_row(one) for one in found])
    else:
        screen.say("there are no volumes")
    return 0


def agree_to_delete(args: argparse.Namespace, screen: Screen, deployed: "Deployed") -> bool:
    """Nothing but its own name deletes a volume."""
    spec = deployed.volumes.spec(args.name)
    question = f"volume {args.name} ({spec.size / 2**30:g} GiB on {spec.storage}) and all its data will be deleted"
    again = command(Verb.VOLUME_DELETE, args.name, "--confirm", args.name)
    return screen.ask_for(args.name, question, given=args.confirm, otherwise=again)
