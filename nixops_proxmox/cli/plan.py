"""Show what `deploy` would do, and change nothing.

Looks at the cluster and into the machines, and builds the systems.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nixops_proxmox.cli.arguments import open_deployed
from nixops_proxmox.display.arguments import (
    add_build_on,
    add_jobs,
    add_json,
    add_machines,
    add_permissions,
    add_plan,
    add_strategy,
    get_machine,
    select,
    selects_all,
)
from nixops_proxmox.display.results import show_plans, tell_changing
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError

if TYPE_CHECKING:
    from nixops_proxmox.operations import Deployed, Planned, Removal
    from nixops_proxmox.operations.keeping import VolumeShown
    from nixops_proxmox.operations.resources import ResourceShown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_machines(parser)
    add_json(parser)
    add_jobs(parser)
    add_plan(parser)
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="Save the plan; `deploy --plan FILE` does it, or nothing"
    )
    parser.add_argument(
        "--remove", action="store_true", help="Save with --out, too, that machines no longer described go"
    )
    parser.add_argument(
        "--copy", action="store_true", help="Copy new systems to the machines first, to see units that restart"
    )
    parser.add_argument("--why", metavar="NAME", help="Explain one machine: each node, each change, all packages")
    add_permissions(parser)
    add_strategy(parser)
    add_build_on(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    if args.remove and args.out is None:
        raise ConfigError("--remove says what --out saves", hint="a plan shows removals without it")
    if args.why and (args.out or not selects_all(args)):
        raise ConfigError("--why explains one machine", hint="leave out --out, and all that selects other machines")
    with open_deployed(args, screen) as deployed:
        names = select(deployed.described(), args)
        if args.why:
            names = [get_machine(args.why, deployed.described())]
        tell_changing(screen, deployed, names)
        if args.why:
            with screen.busy(f"looking at {args.why}"):
                found = deployed.plan_in_full(args.why, copy=args.copy)
            return show_plans(screen, [found], (), as_json=args.json, check=args.check)
        with screen.busy("asking the cluster"):
            planned = deployed.plan(names, copy=args.copy)
            removals, volumes, resources = deployed.removals(), deployed.list_volumes(), deployed.list_resources()
            rollouts = deployed.rollouts(names)
        if args.out is not None:
            _save(args, screen, deployed, planned, removals, [*volumes, *resources])
    return show_plans(
        screen, planned, removals, volumes, resources, as_json=args.json, check=args.check, rollouts=rollouts
    )


def _save(
    args: argparse.Namespace,
    screen: Screen,
    deployed: "Deployed",
    planned: "Sequence[Planned]",
    removals: "Sequence[Removal]",
    shown: "Sequence[VolumeShown | ResourceShown]",
) -> None:
    from nixops_proxmox.messages.plans import what_goes
    from nixops_proxmox.operations.plan_file import ALLOWED, Promise, SavedPlan, save_plan

    if any(plan.error is not None for plan in planned):
        screen.warn(f"{args.out} was not written: some machines cannot be deployed")
        return
    promises = {plan.name: Promise.of(plan) for plan in planned}
    saved = {one.machine.name: tuple(what_goes(one)) for one in removals} if args.remove else {}
    allowed = {name: getattr(args, name) for name in ALLOWED}
    gone = deployed.resources.forgotten() if args.remove and selects_all(args) else []
    removed = tuple(str(ref) for ref in gone)
    things = deployed.describe_things(list(promises), shown)
    save_plan(args.out, SavedPlan(deployed.record.name, promises, things, removed, removals=saved, **allowed))
    left = [one.machine.name for one in removals if one.machine.name not in saved]
    kept = [f"{ref.kind} {ref.name}" for ref in deployed.resources.forgotten() if str(ref) not in removed]
    for word, names in (("destroy", left), ("remove", kept)):
        if names:
            screen.warn(f"{args.out} does not {word} {', '.join(names)}: `--remove` saves that, too")
    screen.say(f"saved in {args.out}")
