"""Show the host keys of machines, or give machines other ones.

A machine that was never made gets its key now, and keeps it: encrypt secrets
to it, and the first deploy can already use them. With rotate, the new key is
known everywhere before the machine has it, and the old one goes when the new
one is proven.
"""

import argparse
from typing import TYPE_CHECKING, Any

from nixops_proxmox.cli.arguments import add_common, open_deployed
from nixops_proxmox.display.arguments import add_break_lock, add_json, add_machines, add_run, select
from nixops_proxmox.display.runs import carry_out
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.messages.identities import (
    HEADS,
    age_lines,
    identity_json,
    identity_rows,
    known_hosts_lines,
    ssh_lines,
)
from nixops_proxmox.messages.lines import Line
from nixops_proxmox.messages.shapes.machines import IdentitiesJson

if TYPE_CHECKING:
    from nixops_proxmox.operations import Deployed
    from nixops_proxmox.operations.identity_verb import KnownKey


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    about = "Print the public host key of each machine"
    show = actions.add_parser("show", help=about, description=about, allow_abbrev=False)
    add_machines(show)
    how = show.add_mutually_exclusive_group()
    how.add_argument("--age", action="store_true", help="Print only age's recipients, for sops and agenix")
    how.add_argument("--ssh", action="store_true", help="Print only the keys as OpenSSH has them")
    how.add_argument("--known-hosts", action="store_true", help="Print lines for a known_hosts file")
    add_json(show)
    add_break_lock(show)
    add_common(show)
    _add_rotate(actions)


def _add_rotate(actions: Any) -> None:
    about = "Give machines that run another host key"
    rotate = actions.add_parser("rotate", help=about, description=about, allow_abbrev=False)
    rotate.add_argument("machines", metavar="MACHINE", nargs="+", help="Select these machines; shell patterns work")
    how = rotate.add_mutually_exclusive_group()
    how.add_argument("--prepare", action="store_true", help="Print the new key beside the old, and stop")
    how.add_argument("--by-agent", action="store_true", help="Use the guest agent where SSH shows an unknown key")
    add_run(rotate)
    add_common(rotate)
    rotate.set_defaults(only=[], omit=[])


def run(args: argparse.Namespace, screen: Screen) -> int:
    with open_deployed(args, screen) as deployed:
        names = select([machine.name for machine in deployed.machines()], args)
        if args.action == "rotate":
            return _rotate(args, screen, deployed, names)
        found = deployed.identities(names)
    lines = age_lines if args.age else ssh_lines if args.ssh else known_hosts_lines if args.known_hosts else None
    for one in found:
        if one.is_new:
            screen.warn(f"{one.machine} does not exist yet; it has this key from now on")
    if args.json:
        screen.json(IdentitiesJson(identities=[identity_json(one) for one in found]))
    elif lines is not None:
        screen.result_lines([Line(line) for one in found for line in lines(one)])
    else:
        _show(screen, found)
    return 0


def _rotate(args: argparse.Namespace, screen: Screen, deployed: "Deployed", names: list[str]) -> int:
    if args.prepare:
        _show(screen, deployed.prepare_identities(names))
        return 0
    status = carry_out(
        args.command,
        screen,
        names,
        "known by another host key",
        lambda: deployed.rotate_identities(names, by_agent=args.by_agent),
        deployed.machines,
    )
    if status == 0:
        _show(screen, deployed.identities(names))
    return status


def _show(screen: Screen, found: "list[KnownKey]") -> None:
    screen.table(HEADS, [row for one in found for row in identity_rows(one)])
