"""Send the keys of `deployment.keys` to machines that run.

A deploy sends them, too. They are in the machine's memory, so a boot takes
them away.
"""

import argparse

from nixops_proxmox.cli.arguments import add_common, open_deployed
from nixops_proxmox.display.arguments import add_machines, add_run, select
from nixops_proxmox.display.dialogs import send_keys
from nixops_proxmox.display.screen import Screen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    about = "Write each machine's keys into its memory"
    send = actions.add_parser("send", help=about, description=about, allow_abbrev=False)
    add_machines(send)
    add_run(send)
    add_common(send)


def run(args: argparse.Namespace, screen: Screen) -> int:
    with open_deployed(args, screen) as deployed:
        names = select(deployed.described(), args)
        return send_keys(screen, deployed, names, args.command)
