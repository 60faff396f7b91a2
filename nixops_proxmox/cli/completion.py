"""Print a completion script for your shell.

In bash: eval "$(nixops-proxmox completion bash)".
"""

import argparse

from nixops_proxmox.display.screen import Screen
from nixops_proxmox.messages.lines import Line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"])


def run(args: argparse.Namespace, screen: Screen) -> int:
    import shtab

    from nixops_proxmox.cli import build_parser

    text = str(shtab.complete(build_parser(), args.shell))
    screen.result_lines([Line(line) for line in text.rstrip("\n").split("\n")])
    return 0
