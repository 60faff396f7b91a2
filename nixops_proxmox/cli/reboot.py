"""Restart machines.

A restart also applies the changes that wait for one.
"""

import argparse

from nixops_proxmox.cli.arguments import open_deployed
from nixops_proxmox.display.arguments import add_machines, add_run, select
from nixops_proxmox.display.runs import carry_out
from nixops_proxmox.display.screen import Screen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_machines(parser)
    add_run(parser)
    parser.add_argument("--hard", action="store_true", help="Switch the VMs off instead of asking the guests")


def run(args: argparse.Namespace, screen: Screen) -> int:
    with open_deployed(args, screen, described=None) as deployed:
        names = select([machine.name for machine in deployed.record.machines()], args)
        return carry_out(
            args.command,
            screen,
            names,
            "ready again",
            lambda: deployed.reboot(names, hard=args.hard),
            deployed.machines,
        )
