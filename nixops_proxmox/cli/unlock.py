"""Open the encrypted disks of machines that wait for it when they boot.

With `encryption.unlock.ssh`, the key goes to the SSH server of the first stage,
whose host key is pinned. Otherwise it is typed into the serial console, through
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
