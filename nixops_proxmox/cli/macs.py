"""List the MACs of machines, and give entries of lists back."""

import argparse

from nixops_proxmox.cli.arguments import add_common, open_deployed
from nixops_proxmox.display.arguments import add_break_lock, add_json
from nixops_proxmox.display.offers import offer_commits
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.messages.addresses import HEADS, mac_json, mac_row
from nixops_proxmox.messages.shapes.machines import MacsJson


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    about = "List each NIC's MAC, where it comes from, and its addresses"
    listing = actions.add_parser("list", help=about, description=about, allow_abbrev=False)
    listing.add_argument(
        "--check", action="store_true", help="Ask the clusters which other VMs and containers have one of the MACs"
    )
    add_json(listing)
    add_common(listing)
    about = "Give back what destroyed machines have taken from lists of MACs"
    release = actions.add_parser("release", help=about, description=about, allow_abbrev=False)
    release.add_argument("machines", metavar="MACHINE", nargs="+", help="Give back the entries of this machine")
    add_break_lock(release)
    add_common(release)


def run(args: argparse.Namespace, screen: Screen) -> int:
    with open_deployed(args, screen, described=True if args.action == "list" else None) as deployed:
        if args.action == "release":
            if not deployed.release(args.machines):
                screen.say("these machines have taken nothing")
            offer_commits(screen, deployed.takings, "gets back")
            return 0
        with screen.busy("looking at the lists of MACs"):
            found = deployed.addresses.table(look=args.check)
        if args.json:
            screen.json(MacsJson(macs=[mac_json(one) for one in found]))
        else:
            screen.table(HEADS, [mac_row(one) for one in found])
    doubled = [one for one in found if one.elsewhere]
    for one in doubled:
        screen.warn(f"{one.machine}: its MAC {one.mac} is on {one.elsewhere}, too")
    return 3 if doubled else 0
