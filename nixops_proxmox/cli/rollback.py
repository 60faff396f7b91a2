"""Go back to the system that a machine ran before.

Takes an older generation as well. The next deploy goes forward again.
"""

import argparse
from typing import TYPE_CHECKING

from nixops_proxmox.cli.arguments import open_deployed
from nixops_proxmox.display.arguments import add_json, add_run, get_machine, positive
from nixops_proxmox.display.runs import carry_out
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.messages.shapes import machines as shapes

if TYPE_CHECKING:
    from nixops_proxmox.operations.generations import Generation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("machine", metavar="MACHINE")
    parser.add_argument(
        "generation",
        metavar="GENERATION",
        nargs="?",
        type=positive,
        help="Go back to this generation (default: the one before)",
    )
    parser.add_argument("--list", action="store_true", help="List the generations instead")
    add_run(parser)
    add_json(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.operations.generations import list_generations, return_to

    with open_deployed(args, screen, described=None) as deployed:
        name = get_machine(args.machine, [machine.name for machine in deployed.record.machines()])
        if args.list or args.json:
            with screen.busy(f"asking {name}"):
                found = list_generations(deployed.read_only(name))
            show(args, screen, found)
            return 0
        return carry_out(
            args.command,
            screen,
            [name],
            "rolled back",
            lambda: deployed.work_on([name], lambda pursuit, _hypervisor: return_to(pursuit, args.generation)),
            deployed.machines,
        )


def show(args: argparse.Namespace, screen: Screen, found: "tuple[Generation, ...]") -> None:
    if args.json:
        rows: list[shapes.GenerationJson] = [
            {"generation": one.number, "system": one.system, "active": one.active} for one in found
        ]
        screen.json(shapes.GenerationsJson(machine=args.machine, generations=rows))
        return
    screen.table(
        ("generation", "system", ""), [[str(one.number), one.system, "active" if one.active else ""] for one in found]
    )
