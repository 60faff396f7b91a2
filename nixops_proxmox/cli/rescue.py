"""Boot machines into the installer, beside the untouched system.

`start` leads back, and so does `deploy --allow-reboot`.
"""

import argparse

from nixops_proxmox.cli.arguments import open_deployed
from nixops_proxmox.display.arguments import add_machines, add_run, select
from nixops_proxmox.display.dialogs import rescue
from nixops_proxmox.display.screen import Screen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_machines(parser)
    add_run(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    with open_deployed(args, screen, described=None) as deployed:
        names = select([machine.name for machine in deployed.record.machines()], args)
        return rescue(screen, deployed, names, args.command)
