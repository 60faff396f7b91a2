"""Print a completion script for your shell.

Packages put one where bash, zsh and fish look. Otherwise, in bash: eval "$(nixops-proxmox completion bash)".
"""

import argparse
import sys
from collections.abc import Iterator

from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=["bash", "zsh", "fish", "tcsh"])


def run(args: argparse.Namespace, screen: Screen) -> int:
    del screen  # a shell reads it, which begins with this: so it is written as it is
    sys.stdout.write(completion_script(args.shell).rstrip("\n") + "\n")
    return 0


def completion_script(shell: str) -> str:
    import shtab

    from nixops_proxmox.cli import build_parser

    if shell not in shtab.SUPPORTED_SHELLS:
        raise ConfigError(f"the installed shtab knows no {shell}", hint="upgrade it: pip install -U shtab")
    parser = build_parser(in_full=True)
    for action in _actions(parser):
        match getattr(action, "completes", ""):
            case "file":
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            case "folder":
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All arguments: those of the parser, then those of the parsers below it."""
    for action in parser._actions:  # noqa: SLF001 -- argparse has no other way to its arguments
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for below in action.choices.values():
                yield from _actions(below)
