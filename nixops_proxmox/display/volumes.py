"""What doors do with volumes by hand, and what they ask before."""

import argparse
from typing import TYPE_CHECKING

from nixops_proxmox.display.arguments import add_break_lock, add_json
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.messages.shapes.volumes import VolumesJson
from nixops_proxmox.messages.volumes import HEADS, volume_json, volume_row
from nixops_proxmox.spelling import Verb, command

if TYPE_CHECKING:
    from nixops_proxmox.operations import Deployed

LIST = "list"
DELETE = "delete"
ADOPT = "adopt"
ABOUTS = {
    LIST: "List the volumes, and where each one is now",
    "attach": "Attach a volume to the machine that describes it",
    "detach": "Park a volume that the VM of a stopped machine has",
    DELETE: "Delete a parked volume with its data; asks for its name",
    "grow": "Grow a volume to the described size",
    ADOPT: "Record a volume that the cluster has, or a disk as a volume",
}
DONE = {
    "attach": "attached",
    "detach": "parked",
    DELETE: "deleted, with its data",
    "grow": "grown; the next deploy of its machine grows what is on it",
    ADOPT: "recorded",
}


def add_volume(parser: argparse.ArgumentParser) -> None:
    """For a door whose verbs have no verbs below them."""
    parser.add_argument("action", metavar="ACTION", choices=ABOUTS, help=f"One of {', '.join(ABOUTS)}")
    parser.add_argument("name", metavar="NAME", nargs="?", default="", help="Work on this volume")
    add_confirm(parser)
    add_disk(parser)
    add_break_lock(parser)
    add_json(parser)


def add_confirm(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--confirm", metavar="NAME", default="", help="Give the name again instead of typing it")


def add_disk(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--disk", metavar="MACHINE:SLOT", default="", help="Make this disk the volume; it stays where it is"
    )


def run_volume_verb(args: argparse.Namespace, screen: Screen, deployed: "Deployed") -> int:
    if args.action == LIST:
        return show_volumes(screen, deployed, as_json=args.json)
    if not args.name:
        raise ConfigError(f"volume {args.action}: which volume?", hint=f"{command(Verb.VOLUME_LIST)} shows them")
    if args.action == DELETE and not agree_to_delete(args, screen, deployed):
        screen.say("nothing was done")
        return 0

    def adopt(name: str) -> None:
        deployed.adopt_volume(name, args.disk)

    work = {
        "attach": deployed.attach_volume,
        "detach": deployed.park_volume,
        DELETE: deployed.delete_volume,
        "grow": deployed.grow_volume,
        ADOPT: adopt,
    }
    with screen.busy(f"working on the volume {args.name}"):
        work[args.action](args.name)
    screen.say(f"volume {args.name}: {DONE[args.action]}")
    return 0


def show_volumes(screen: Screen, deployed: "Deployed", *, as_json: bool) -> int:
    with screen.busy("asking the cluster"):
        found = deployed.list_volumes()
    if as_json:
        screen.json(VolumesJson(volumes=[volume_json(one) for one in found]))
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
