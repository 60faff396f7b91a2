"""Open a machine's serial console or display, through the hypervisor.

Ctrl-] leaves the serial console. With --spice or --vnc, the machine's display is shown in remote-viewer.
"""

import argparse

from nixops_proxmox.cli.arguments import open_deployed
from nixops_proxmox.display.arguments import add_console, get_machine
from nixops_proxmox.display.dialogs import open_console
from nixops_proxmox.display.screen import Screen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_console(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    with open_deployed(args, screen, described=False) as deployed:
        name = get_machine(args.machine, [machine.name for machine in deployed.record.machines()])
        return open_console(screen, deployed, name, args)
