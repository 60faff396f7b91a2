"""Print a completion script for your shell.

In bash: eval "$(nixops-proxmox completion bash)".
"""

import argparse

from nixops_proxmox.cli.console import Console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"])


def run(args: argparse.Namespace, console: Console) -> int:
    import shtab

    from nixops_proxmox.cli import build_parser

    console.result(str(shtab.complete(build_parser(), args.shell)).rstrip("\n"))
    return 0
