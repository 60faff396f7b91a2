"""Find what is missing for a deploy, here and on the cluster.

Looks at everything that a deploy needs, and says how to supply what is missing.
"""

import argparse
from typing import TYPE_CHECKING

from nixops_proxmox.cli.arguments import find_source, open_deployed, state_location
from nixops_proxmox.display.arguments import add_json
from nixops_proxmox.display.results import show_findings
from nixops_proxmox.display.screen import Screen

if TYPE_CHECKING:
    from nixops_proxmox.operations.doctor import Diagnosis, Needs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.operations.doctor import diagnose
    from nixops_proxmox.operations.networks import usual_profile
    from nixops_proxmox.operations.tools import find_all

    found = diagnose(
        find_all(lambda: state_location(args), {}),
        lambda found: find_needs(args, screen, found),
        lambda: usual_profile(args.profile),
        screen.busy,
    )
    return show_findings(screen, found.findings, found.errors, as_json=args.json)


def find_needs(args: argparse.Namespace, screen: Screen, found: "Diagnosis") -> "Needs":
    from nixops_proxmox.operations.doctor import needs_of

    if not find_source(args):
        return {}
    with open_deployed(args, screen) as deployed:
        return needs_of(deployed, found)
