"""Open the encrypted disks of machines that wait for it when they boot.

The key of `encryption.unlock.tool` is typed into the serial console, through
the hypervisor, and only where the first stage asks for the passphrase of a
disk.
"""

import argparse

from nixops_proxmox.cli.arguments import open_deployed
from nixops_proxmox.display.arguments import add_machines, add_run, select
from nixops_proxmox.display.dialogs import unlock
from nixops_proxmox.display.screen import Screen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_machines(parser)
    add_run(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    with open_deployed(args, screen, described=False) as deployed:
        names = select([machine.name for machine in deployed.record.machines()], args)
        return unlock(screen, deployed, names, args.command)
