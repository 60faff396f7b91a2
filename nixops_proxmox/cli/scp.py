"""Copy files to and from a machine.

`MACHINE:path` is a path on that machine.
"""

import argparse
import re

from nixops_proxmox.cli.arguments import complete, open_deployed
from nixops_proxmox.cli.ssh import become
from nixops_proxmox.display.arguments import get_machine
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-r", "--recursive", action="store_true", help="Copy folders with everything in them")
    complete(
        parser.add_argument("source", metavar="SOURCE", nargs="+", help="Copy from a path, or MACHINE:path"), "file"
    )
    complete(parser.add_argument("target", metavar="TARGET", help="Copy to a path, or MACHINE:path"), "file")
    parser.add_argument(
        "--print", action="store_true", dest="only_print", help="Print the command line instead of running it"
    )


def run(args: argparse.Namespace, screen: Screen) -> int:
    with open_deployed(args, screen, described=False) as deployed:
        known = [machine.name for machine in deployed.machines()]
        name = get_machine(the_machine([*args.source, args.target]), known)
        with screen.busy(f"looking for the way to {name}"):
            argv = deployed.scp_argv(name, args.source, args.target, recursive=args.recursive)
    return become(argv, screen, only_print=args.only_print)


def the_machine(places: list[str]) -> str:
    """The one machine that the paths name. A colon after a slash belongs to a local path, as for scp itself."""
    named = {found[1] for place in places if (found := re.match(r"([^/:]+):", place))}
    if len(named) != 1:
        said = f"these are of {', '.join(sorted(named))}" if named else "none of these is a machine's"
        raise ConfigError(f"name paths of exactly one machine: {said}", hint="write MACHINE:path")
    return named.pop()
