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
    parser.add_argument("--foreign", action="store_true", help="Take a backup of another machine: it becomes this one")
    add_run(parser)
    add_yes(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    from nixops_proxmox.wiring.restoring import choose_archive, restore

    with open_deployed(args, console, described=None) as deployed:
        name = get_machine(args.machine, [machine.name for machine in deployed.record.machines()])
        chosen = choose_archive(
            deployed.hypervisor_of(name), deployed.record.machine(name), args.backup, foreign=args.foreign
        )
        what = chosen.archive.volume
        if chosen.uuid != deployed.record.machine(name).facts.uuid.lower():
            what += f", which holds another machine ({chosen.whose()})"
        if not console.ask(f"restore {name} from {what}, and lose what is on its disks now?", yes=args.yes):
            console.say("nothing was done")
            return 0
        return carry_out(
            args,
            console,
            [name],
            "restored",
            lambda: deployed.work_on(
                [name],
                lambda pursuit, hypervisor: restore(hypervisor, pursuit, chosen.archive.volume, foreign=args.foreign),
            ),
            deployed.machines,
        )
