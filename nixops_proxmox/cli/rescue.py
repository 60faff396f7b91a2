"""Boot machines into the installer, beside the untouched system.

`start` leads back, and so does `deploy --allow-reboot`.
"""

import argparse

from nixops_proxmox.cli.arguments import add_machines, add_run, open_deployed, select
from nixops_proxmox.cli.console import Console
from nixops_proxmox.cli.runs import carry_out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_machines(parser)
    add_run(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    with open_deployed(args, console, described=None) as deployed:
        names = select([machine.name for machine in deployed.record.machines()], args)
        return carry_out(args, console, names, "rescue", lambda: deployed.rescue(names), deployed.machines)
