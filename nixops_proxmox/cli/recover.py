"""Rebuild a lost record from the marks on the cluster's VMs.

Changes no VM.
"""

import argparse

from nixops_proxmox.cli.arguments import open_deployed
from nixops_proxmox.display.arguments import add_json, add_recover, add_yes
from nixops_proxmox.display.dialogs import recover
from nixops_proxmox.display.screen import Screen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recover(parser)
    add_yes(parser)
    add_json(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.operations.networks import described_profiles
    from nixops_proxmox.pve.wire.networks import enter_networks

    with open_deployed(args, screen, described=None) as deployed:
        profiles = described_profiles(deployed, args.profile)
        enter_networks(profiles)
        return recover(screen, deployed, profiles, dry_run=args.dry_run, yes=args.yes, as_json=args.json)
