"""Show the phases of a machine's life and the steps between them.

Also shows what may be found in place of each phase.
"""

import argparse

from nixops_proxmox.cli.arguments import add_json
from nixops_proxmox.cli.console import Console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mermaid", action="store_true", help="Print a Mermaid state diagram")
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    from nixops_proxmox.lifecycle.diagram import mermaid, table
    from nixops_proxmox.lifecycle.shape import label
    from nixops_proxmox.lifecycle.table import LIFECYCLE

    if args.json:
        moves = [
            {"goal": m.goal.value, "standing": m.standing.value, "step": label(m.step), "to": m.to.value}
            for m in LIFECYCLE.moves
        ]
        seen = [
            {"standing": s.standing.value, "seen": s.sees.__name__.replace("_", " "), "phase": s.phase.value}
            for s in LIFECYCLE.sightings
        ]
        console.json({"moves": moves, "sightings": seen})
    else:
        console.result((mermaid if args.mermaid else table)(LIFECYCLE).rstrip("\n"))
    return 0
