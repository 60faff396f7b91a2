"""Install machines again on their VMs.

The VMID, UUID, MAC addresses and host key stay the same. Disks marked `keep` are not written.
"""

import argparse

from nixops_proxmox.cli.arguments import open_deployed
from nixops_proxmox.display.arguments import add_machines, add_run, add_yes, select
from nixops_proxmox.display.dialogs import reinstall
from nixops_proxmox.display.screen import Screen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_machines(parser)
    add_run(parser)
    add_yes(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    with open_deployed(args, screen) as deployed:
        names = select(deployed.described(), args)
        return reinstall(screen, deployed, names, args.command, yes=args.yes)
