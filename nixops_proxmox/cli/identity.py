"""Show the host keys of machines, also of those that do not exist yet.

A machine that was never made gets its key now, and keeps it: encrypt secrets
to it, and the first deploy can already use them.
"""

import argparse

from nixops_proxmox.cli.arguments import add_common, open_deployed
from nixops_proxmox.display.arguments import add_break_lock, add_json, add_machines, select
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.messages.identities import HEADS, age_line, identity_json, identity_row, known_hosts_line, ssh_line
from nixops_proxmox.messages.lines import Line


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


def run(args: argparse.Namespace, screen: Screen) -> int:
    with open_deployed(args, screen) as deployed:
        names = select([machine.name for machine in deployed.machines()], args)
        found = deployed.identities(names)
    line = age_line if args.age else ssh_line if args.ssh else known_hosts_line if args.known_hosts else None
    for one in found:
        if one.is_new:
            screen.warn(f"{one.machine} does not exist yet; it has this key from now on")
    if args.json:
        screen.json({"identities": [identity_json(one) for one in found]})
    elif line is not None:
        screen.result_lines([Line(line(one)) for one in found])
    else:
        screen.table(HEADS, [identity_row(one) for one in found])
    return 0
