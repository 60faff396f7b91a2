"""Write what DHCP servers and name servers should know of the machines.

Uses the description and the record alone: nothing is asked and nothing is changed.
"""

import argparse
from ipaddress import IPv4Network, IPv6Network, ip_network

from nixops_proxmox.cli.arguments import add_common, open_deployed
from nixops_proxmox.display.screen import Screen

FORMATS = ("dnsmasq", "hosts", "isc", "kea", "opnsense-csv", "unbound", "vyos")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    about = "Print the MAC, addresses and name of each NIC as a file for a server"
    export = actions.add_parser("export", help=about, description=about, allow_abbrev=False)
    export.add_argument("--format", required=True, choices=FORMATS, help="Write for this server")
    export.add_argument(
        "--subnet",
        metavar="CIDR",
        action="append",
        default=[],
        type=parse_subnet,
        help="Name a subnet of the router, for opnsense-csv and vyos; repeatable",
    )
    export.add_argument("--network", metavar="NAME", default="", help="Use this shared network, for vyos")
    export.add_argument("--vyos", metavar="RELEASE", default="1.4", help="Write for this release: 1.3, 1.4 or 1.5")
    export.add_argument("--domain", metavar="DOMAIN", default="", help="Add this domain to names that have none")
    add_common(export)


def parse_subnet(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def run(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.operations.reservations import reservations_of
    from nixops_proxmox.routers import Surroundings, export

    with open_deployed(args, screen) as deployed:
        found, left = reservations_of(deployed.record.name, deployed.addresses.table(look=False))
    for line in left:
        screen.warn(line)
    around = Surroundings(args.subnet, args.network, args.vyos, args.domain)
    screen.result(export(args.format, found, around))
    return 0
