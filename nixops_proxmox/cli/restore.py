"""Restore a machine from a backup, even if its VM is gone.

Asks first.
"""

import argparse

from nixops_proxmox.cli.arguments import add_run, add_yes, get_machine, open_deployed
from nixops_proxmox.cli.console import Console
from nixops_proxmox.cli.runs import carry_out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("machine", metavar="MACHINE")
    parser.add_argument(
        "backup",
        metavar="BACKUP",
        nargs="?",
        default="",
        help="Restore this volume of `backup --list` (default: the newest)",
    )
    add_run(parser)
    add_yes(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    from nixops_proxmox.wiring.backups import restore

    with open_deployed(args, console, described=None) as deployed:
        name = get_machine(args.machine, [machine.name for machine in deployed.record.machines()])
        what = args.backup or "its newest backup"
        if not console.ask(f"restore {name} from {what}, and lose what is on its disks now?", yes=args.yes):
            console.say("nothing was done")
            return 0
        return carry_out(
            args,
            console,
            [name],
            "restored",
            lambda: deployed.work_on([name], lambda pursuit, hypervisor: restore(hypervisor, pursuit, args.backup)),
            deployed.machines,
        )
