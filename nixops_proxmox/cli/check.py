"""Compare the cluster and the guests with the record and description."""

import argparse

from nixops_proxmox.cli.arguments import open_deployed
from nixops_proxmox.display.arguments import add_jobs, add_json, add_machines, select
from nixops_proxmox.display.results import show_checks
from nixops_proxmox.display.screen import Screen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_machines(parser)
    add_json(parser)
    add_jobs(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    with open_deployed(args, screen, described=None) as deployed:
        checked = deployed.check(select([machine.name for machine in deployed.machines()], args))
    return show_checks(screen, checked, as_json=args.json)
