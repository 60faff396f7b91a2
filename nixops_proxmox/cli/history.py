"""List what was done to the machines, and how it ended."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nixops_proxmox.cli.arguments import (
    add_json,
    find_deployment,
    get_deployment,
    positive,
    state_location,
    unknown_machine,
)
from nixops_proxmox.cli.console import Console
from nixops_proxmox.cli.progress import duration, one_line
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.spelling import recalled
from nixops_proxmox.texts import head, moment_text

if TYPE_CHECKING:
    from nixops_proxmox.state import Entry, State


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("machine", metavar="MACHINE", nargs="?", help="Show only this machine")
    parser.add_argument("--limit", metavar="N", type=positive, help="Show only the last N entries")
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    from nixops_proxmox.state import open_state

    with open_state(state_location(args)) as state:
        entries = read(args, state)
    return show(args, console, entries)


def show(args: argparse.Namespace, console: Console, entries: "Sequence[Entry]") -> int:
    entries = [replace(entry, error=console.spell(recalled(entry.error))) for entry in entries]
    if args.json:
        console.json({"history": [entry.to_json() for entry in entries]})
    elif entries:
        console.table(("when", "machine", "from", "to", "what", "outcome", "took"), [row(entry) for entry in entries])
        for entry in entries if args.machine else ():
            told = [f"  {line}" for line in (*entry.error.splitlines(), *entry.tasks)]
            if told and (console.verbosity or entry is entries[-1]):
                console.result("\n".join([f"{when(entry)} {entry.label}:", *told]))
    else:
        console.say("nothing has happened yet")
    return 0


def read(args: argparse.Namespace, state: "State") -> "list[Entry]":
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


def when(entry: "Entry") -> str:
    return moment_text(entry.began)


def row(entry: "Entry") -> list[str]:
    took = "" if entry.seconds is None or entry.outcome == "seen" else duration(entry.seconds)
    error = one_line(entry.error.partition("\n")[0])
    outcome = head(f"{entry.outcome}: {error}", 70) if error else entry.outcome.value
    return [when(entry), entry.name, entry.phase_from, entry.phase_to, entry.label, outcome, took]
