"""Print a completion script for your shell.

In bash: eval "$(nixops-proxmox completion bash)".
"""

import argparse

from nixops_proxmox.display.screen import Screen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"])


def run(args: argparse.Namespace, screen: Screen) -> int:
    import shtab

    from nixops_proxmox.cli import build_parser

    screen.result(str(shtab.complete(build_parser(), args.shell)).rstrip("\n"))
    return 0
