"""Log in to a machine, or run a command there.

Its host key is already known.
"""

import argparse
import os
import shlex

from nixops_proxmox.cli.arguments import open_deployed
from nixops_proxmox.display.arguments import get_machine
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("machine", metavar="MACHINE")
    parser.add_argument("command_words", metavar="COMMAND", nargs=argparse.REMAINDER, help="Run this command there")
    parser.add_argument(
        "--print", action="store_true", dest="only_print", help="Print the command line instead of running it"
    )


def run(args: argparse.Namespace, screen: Screen) -> int:
    words = args.command_words[1:] if args.command_words[:1] == ["--"] else args.command_words
    with open_deployed(args, screen, described=False) as deployed:
        name = get_machine(args.machine, [machine.name for machine in deployed.machines()])
        with screen.busy(f"looking for the way to {name}"):
            argv = deployed.ssh_argv(name, words)
    return become(argv, screen, only_print=args.only_print)


def become(argv: list[str], screen: Screen, *, only_print: bool = False) -> int:
    """Go on as that program. All that we opened is closed by now."""
    if only_print or screen.verbosity:
        (screen.result if only_print else screen.say)(shlex.join(argv))
    if only_print:
        return 0
    try:
        os.execvp(argv[0], argv)  # noqa: S606 -- no shell is wanted
    except FileNotFoundError as error:
        raise ConfigError(f"there is no {argv[0]} on this computer", hint="install OpenSSH's client") from error
