"""Migrate machines to another node: live if they run.

What forbids it is told first. The machines are not changed otherwise.
A container is stopped for it, and started there.
"""

import argparse

from nixops_proxmox.cli.arguments import open_deployed
from nixops_proxmox.display.arguments import add_machines, add_migrate, add_run, select
from nixops_proxmox.display.dialogs import migrate
from nixops_proxmox.display.screen import Screen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_migrate(parser)
    add_machines(parser)
    add_run(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    with open_deployed(args, screen, described=None) as deployed:
        names = select([machine.name for machine in deployed.record.machines()], args)
        return migrate(screen, deployed, names, args.to, args.command)
