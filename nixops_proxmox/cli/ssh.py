"""Log in to a machine, or run a command there.

Its host key is already known.
"""

import argparse
import os
import shlex

from nixops_proxmox.cli.arguments import get_machine, open_deployed
from nixops_proxmox.cli.console import Console
from nixops_proxmox.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("machine", metavar="MACHINE")
    parser.add_argument("command_words", metavar="COMMAND", nargs=argparse.REMAINDER, help="Run this command there")
    parser.add_argument(
        "--print", action="store_true", dest="only_print", help="Print the command line instead of running it"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    words = args.command_words[1:] if args.command_words[:1] == ["--"] else args.command_words
    with open_deployed(args, console, described=False) as deployed:
        name = get_machine(args.machine, [machine.name for machine in deployed.machines()])
        argv = deployed.ssh_argv(name, words)
    return become(argv, console, only_print=args.only_print)


def become(argv: list[str], console: Console, *, only_print: bool = False) -> int:
    """Go on as that program; all that we opened is closed by now."""
    if only_print or console.verbosity:
        (console.result if only_print else console.say)(shlex.join(argv))
    if only_print:
        return 0
    try:
        os.execvp(argv[0], argv)  # noqa: S606 -- no shell is wanted
    except FileNotFoundError as error:
        raise ConfigError(f"there is no {argv[0]} on this computer", hint="install OpenSSH's client") from error
    return 0
