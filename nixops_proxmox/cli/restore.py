"""Restore a machine from a backup, even if its VM is gone.

Asks first.
"""

import argparse

from nixops_proxmox.cli.arguments import open_deployed
from nixops_proxmox.display.arguments import add_run, add_yes, get_machine
from nixops_proxmox.display.runs import carry_out
from nixops_proxmox.display.screen import Screen


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


def run(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.operations.restoring import choose_archive, restore

    with open_deployed(args, screen, described=None) as deployed:
        name = get_machine(args.machine, [machine.name for machine in deployed.record.machines()])
        with screen.busy(f"looking for backups of {name}"):
            chosen = choose_archive(
                deployed.hypervisor_of(name), deployed.record.machine(name), args.backup, foreign=args.foreign
            )
        what = chosen.archive.volume
        if chosen.uuid != deployed.record.machine(name).facts.uuid.lower():
            what += f", which holds another machine ({chosen.whose()})"
        if not screen.ask(f"restore {name} from {what}, and lose what is on its disks now?", yes=args.yes):
            screen.say("nothing was done")
            return 0
        deployed.agree()
        return carry_out(
            args.command,
            screen,
            [name],
            "restored",
            lambda: deployed.work_on(
                [name],
                lambda pursuit, hypervisor: restore(hypervisor, pursuit, chosen.archive.volume, foreign=args.foreign),
            ),
            deployed.machines,
        )
