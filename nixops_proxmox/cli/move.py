"""Move machines to another hypervisor, by backup and restore.

Asks first. A move that was cut off goes on.
"""

import argparse

from nixops_proxmox.cli.arguments import open_deployed
from nixops_proxmox.display.arguments import add_machines, add_move, add_run, add_yes, select
from nixops_proxmox.display.moves import move
from nixops_proxmox.display.screen import Screen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_move(parser)
    add_machines(parser)
    add_run(parser)
    add_yes(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    with open_deployed(args, screen, described=None) as deployed:
        names = select([machine.name for machine in deployed.record.machines()], args)
        return move(screen, deployed, names, args, yes=args.yes, typed=args.command)
