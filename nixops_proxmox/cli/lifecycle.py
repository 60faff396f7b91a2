"""Show the phases of a machine's life and the steps between them.

Also shows what may be found in place of each phase.
"""

import argparse

from nixops_proxmox.display.arguments import add_json, add_kind, add_mermaid
from nixops_proxmox.display.results import show_lifecycle
from nixops_proxmox.display.screen import Screen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_kind(parser)
    add_mermaid(parser)
    add_json(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.kinds.registry import find_kind

    return show_lifecycle(screen, find_kind(args.kind).lifecycle, as_mermaid=args.mermaid, as_json=args.json)
