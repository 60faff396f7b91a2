"""List what was done to the machines, and how it ended."""

import argparse
from typing import TYPE_CHECKING

from nixops_proxmox.cli.arguments import find_deployment, get_deployment, state_location
from nixops_proxmox.display.arguments import add_history, add_json, unknown_machine
from nixops_proxmox.display.results import show_history
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError

if TYPE_CHECKING:
    from nixops_proxmox.state import JournalEntry, State


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_history(parser)
    add_json(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.state import open_state

    with open_state(state_location(args)) as state:
        entries = read(args, state)
    return show_history(screen, entries, in_full=bool(args.machine), as_json=args.json)


def read(args: argparse.Namespace, state: "State") -> "list[JournalEntry]":
    name = get_deployment(args, state.deployments)
    if not state.has_deployment(name):
        if find_deployment(args) == args.deployment:
            have = ", ".join(state.deployments()) or "none"
            raise ConfigError(f"there is no deployment {name!r}", hint=f"the state has: {have}")
        return []
    entries = state.deployment(name).history(args.machine, args.limit)
    if args.machine and not entries:
        known = sorted({entry.name for entry in state.deployment(name).history()})
        raise unknown_machine(args.machine, known)
    return entries
