"""Write the machines down for other tools: Ansible, OpenSSH and others.

All of it comes from the record, so nothing is asked of the cluster.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nixops_proxmox.cli.arguments import add_common, complete, open_deployed
from nixops_proxmox.display.arguments import add_machines, positive, select
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.messages.lines import Line
from nixops_proxmox.texts import json_text

if TYPE_CHECKING:
    from nixops_proxmox.operations.exporting import Exported

FORMATS = {
    "ansible": "Print an inventory for Ansible, as inventory scripts do",
    "ssh-config": "Print a configuration that OpenSSH can include",
    "hosts": "Print the lines of a hosts file",
    "prometheus": "Print targets for Prometheus's file_sd_configs",
    "terraform": "Print what `terraform output -json` would print",
    "dot": "Print a picture of the network for Graphviz",
    "mermaid": "Print a picture of the network for Mermaid",
    "svg": "Print a picture of the network for a browser",
}
PORT = 9100  # where node_exporter listens


def add_arguments(parser: argparse.ArgumentParser) -> None:
    formats = parser.add_subparsers(title="formats", dest="format", metavar="FORMAT", required=True)
    for name, about in FORMATS.items():
        one = formats.add_parser(name, help=about, description=about, allow_abbrev=False)
        add_machines(one)
        complete(
            one.add_argument("--out", metavar="FILE", type=Path, help="Write into this file instead of printing"),
            "file",
        )
        one.add_argument("--described", action="store_true", help="Read the description too, which evaluates it")
        if name == "ansible":
            how = one.add_mutually_exclusive_group()
            how.add_argument("--list", action="store_true", help="Print all machines, which is the default")
            how.add_argument("--host", metavar="NAME", default="", help="Print the variables of one machine")
            how.add_argument("--static", action="store_true", help="Print a static inventory, which is a YAML file")
        if name == "prometheus":
            one.add_argument(
                "--port", metavar="N", type=positive, default=PORT, help=f"Use this port (default: {PORT})"
            )
        if name == "terraform":
            one.add_argument("--external", action="store_true", help="Print what the data source `external` reads")
        add_common(one)


def run(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.operations.exporting import export_machines

    with open_deployed(args, screen, described=args.described) as deployed:
        names = select([machine.name for machine in deployed.machines()], args)
        with screen.busy("looking at the machines"):
            machines, left_out = export_machines(deployed, names)
    for line in left_out:
        screen.warn(line)
    lines = as_lines(args, machines)
    if args.out is None:
        screen.result_lines([Line(line) for line in lines])
        return 0
    mode = 0o644
    if args.format == "ssh-config":
        from nixops_proxmox.messages.exports.ssh_config import known_hosts_beside, pinned_text

        mode = 0o600
        write(known_hosts_beside(args.out), pinned_text(machines), mode)
    write(args.out, "\n".join(lines) + "\n", mode)
    screen.say(f"{len(machines)} {'machine' if len(machines) == 1 else 'machines'} written to {args.out}")
    return 0


def as_lines(args: argparse.Namespace, machines: "Sequence[Exported]") -> list[str]:
    from nixops_proxmox.messages.exports import drawing, lists, ssh_config

    makers: dict[str, Callable[[], list[str]]] = {
        "ansible": lambda: ansible_lines(args, machines),
        "ssh-config": lambda: ssh_config.config_lines(
            machines, None if args.out is None else ssh_config.known_hosts_beside(args.out)
        ),
        "hosts": lambda: lists.hosts_lines(machines),
        "prometheus": lambda: json_lines(lists.prometheus_json(machines, args.port)),
        "terraform": lambda: json_lines(
            lists.external_json(machines) if args.external else lists.terraform_json(machines)
        ),
        "dot": lambda: drawing.dot_lines(machines),
        "mermaid": lambda: drawing.mermaid_lines(machines),
        "svg": lambda: svg_lines(machines),
    }
    return makers[args.format]()


def svg_lines(machines: "Sequence[Exported]") -> list[str]:
    from nixops_proxmox.messages.report import topology

    return topology.as_file(machines).split("\n")


def ansible_lines(args: argparse.Namespace, machines: "Sequence[Exported]") -> list[str]:
    from nixops_proxmox.messages.exports import ansible

    if args.static:
        return ansible.static_text(machines).rstrip("\n").split("\n")
    return json_lines(ansible.host_json(machines, args.host) if args.host else ansible.list_json(machines))


def json_lines(value: object) -> list[str]:
    return json_text(value).split("\n")


def write(path: Path, text: str, mode: int) -> None:
    from nixops_proxmox.ssh.files import replace_file

    try:
        replace_file(path, text, mode=mode)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", hint="give another file with --out") from error
