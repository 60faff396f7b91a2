"""Show what `deploy` would do, and change nothing.

Looks at the cluster, and builds the systems.
"""

import argparse

from nixops_proxmox.cli.arguments import open_deployed
from nixops_proxmox.display.arguments import add_jobs, add_json, add_machines, add_permissions, add_plan, select
from nixops_proxmox.display.results import show_plans
from nixops_proxmox.display.screen import Screen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_machines(parser)
    add_json(parser)
    add_jobs(parser)
    add_plan(parser)
    add_permissions(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    with open_deployed(args, screen) as deployed:
        names = select(deployed.described(), args)
        planned = deployed.plan(names)
        forgotten = deployed.forgotten()
    return show_plans(screen, planned, forgotten, as_json=args.json, check=args.check)
