"""List, attach, detach, delete, grow and adopt volumes.

A volume is a disk that outlives the machines which have it attached.
"""

import argparse

from nixops_proxmox.cli.arguments import add_common, open_deployed
from nixops_proxmox.display.arguments import add_break_lock, add_json
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.display.volumes import ABOUTS, ADOPT, DELETE, LIST, add_confirm, add_disk, run_volume_verb


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    for name, about in ABOUTS.items():
        action = actions.add_parser(name, help=about, description=about, allow_abbrev=False)
        if name == LIST:
            add_json(action)
        else:
            action.add_argument("name", metavar="NAME", help="Work on this volume")
            add_break_lock(action)
        if name == DELETE:
            add_confirm(action)
        if name == ADOPT:
            add_disk(action)
        add_common(action)


def run(args: argparse.Namespace, screen: Screen) -> int:
    with open_deployed(args, screen, described=None) as deployed:
        return run_volume_verb(args, screen, deployed)
