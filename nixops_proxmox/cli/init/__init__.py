"""Set up a hypervisor: profile, token, and a network to begin with.

Asks on a terminal, and takes every answer as an option. It shows the certificate and pins it, makes a token with an
administrator's password or takes one of yours, looks at what the cluster has, and tests it all. It overwrites no file.
Run it again, and it goes on where it stopped.
"""

import argparse
from typing import TYPE_CHECKING

from nixops_proxmox.cli.arguments import complete
from nixops_proxmox.display.arguments import add_json, add_yes
from nixops_proxmox.errors import ConfigError

if TYPE_CHECKING:
    from nixops_proxmox.display.screen import Screen

FORMS = ("file", "flake", "none")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    folder = parser.add_argument("folder", metavar="FOLDER", nargs="?", default=".", help="Write the network here")
    complete(folder, "folder")
    parser.add_argument("--url", metavar="URL", default="", help="Use the API at this address")
    parser.add_argument(
        "--fingerprint", metavar="SHA256", default="", help="Trust the certificate with this fingerprint"
    )
    parser.add_argument(
        "--admin", metavar="USER@REALM", default="", help="Make the token as this user; asks for the password"
    )
    parser.add_argument(
        "--token-id", metavar="USER@REALM!NAME", default="", help="Use this token (default: nixops@pve!deploy)"
    )
    parser.add_argument(
        "--secret-command", metavar="COMMAND", default="", help="Run this command to get the token's secret"
    )
    parser.add_argument("--storage", metavar="NAME", default="", help="Use this storage for disks")
    parser.add_argument("--bridge", metavar="NAME", default="", help="Use this bridge")
    parser.add_argument("--iso", metavar="VOLUME", default="", help="Boot new machines from this ISO")
    parser.add_argument(
        "--write", choices=FORMS, default=FORMS[0], help="Write the network as a file or a flake (default: file)"
    )
    parser.add_argument(
        "--read-only", action="store_true", help="Make a token that may only look, and write no network"
    )
    parser.add_argument("--lab", action="store_true", help="Use the lab, and start it if it is not up")
    add_json(parser)
    add_yes(parser)


def run(args: argparse.Namespace, screen: "Screen") -> int:
    from nixops_proxmox.cli.init.account import ensure_account
    from nixops_proxmox.cli.init.lab import ensure_lab
    from nixops_proxmox.cli.init.network import tell_end, write_network
    from nixops_proxmox.cli.init.server import ensure_profile
    from nixops_proxmox.pve.wire.profiles import DEFAULT

    _refuse(args)
    name = args.profile or ("lab" if args.lab else DEFAULT)
    if args.lab:
        ensure_lab(name, screen)
    ensure_profile(args, screen, name)
    found = ensure_account(args, screen, name)
    written = "" if args.read_only else write_network(args, screen, name, found.choice)
    return tell_end(args, screen, name, found, written)


def _refuse(args: argparse.Namespace) -> None:
    if args.file or args.flake:
        raise ConfigError(
            "init writes a new network, and reads none",
            hint="leave out --file and --flake; `init FOLDER --write flake` writes a flake there",
        )
    if args.lab and (args.url or args.admin or args.token_id):
        raise ConfigError("--lab knows its own address and token", hint="leave out --url, --admin and --token-id")
