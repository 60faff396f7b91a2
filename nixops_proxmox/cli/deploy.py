"""Create, install, change and start machines until they are `ready`.

Goes on where an earlier run stopped.
"""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from nixops_proxmox.cli.arguments import open_deployed
from nixops_proxmox.display import dialogs
from nixops_proxmox.display.arguments import (
    add_build_on,
    add_machines,
    add_permissions,
    add_run,
    add_shard,
    add_strategy,
    add_yes,
    select,
    selects_all,
    share_of,
)
from nixops_proxmox.display.offers import offer_commits
from nixops_proxmox.display.results import agree_with_care, tell_changing
from nixops_proxmox.display.runs import carry_out
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.messages.closing import closing_lines, no_lines
from nixops_proxmox.model import Phase
from nixops_proxmox.spelling import Verb, command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nixops_proxmox.core.graph import Ref
    from nixops_proxmox.fleet import Outcome
    from nixops_proxmox.operations import Deployed, Removal
    from nixops_proxmox.operations.plan_file import SavedPlan

STOPS = (
    Phase.RESERVED,
    Phase.DEFINED,
    Phase.INSTALLER,
    Phase.REACHABLE,
    Phase.PARTITIONED,
    Phase.INSTALLED,
    Phase.RUNNING,
    Phase.READY,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_machines(parser)
    add_run(parser)
    parser.add_argument(
        "--until",
        metavar="PHASE",
        choices=[phase.value for phase in STOPS],
        help="Stop at this phase; `lifecycle` lists them",
    )
    add_permissions(parser)
    add_shard(parser)
    add_strategy(parser)
    add_build_on(parser)
    parser.add_argument(
        "--plan",
        metavar="FILE",
        type=Path,
        help="Do what `plan --out FILE` saved, where it still holds",
    )
    parser.add_argument(
        "--check",
        dest="verify",
        action="store_true",
        help="Verify everything instead of trusting the recorded state",
    )
    parser.add_argument(
        "--remove",
        action="store_true",
        help="Destroy machines that are no longer described; asks first",
    )
    parser.add_argument(
        "--release",
        action="store_true",
        help="Give back what the removed machines took from lists of MACs",
    )
    add_yes(parser)


def take_plan(args: argparse.Namespace) -> None:
    """A word with a dot or a slash that names a file is a plan. `--only` selects a machine that is called like one."""
    files = [word for word in args.machines if re.search(r"[./]", word) and Path(word).is_file()]
    if len(files) + (args.plan is not None) > 1:
        raise ConfigError("a deploy does one plan at a time", hint=f"name only {args.plan or files[0]}")
    if files:
        args.plan = Path(files[0])
        args.machines = [word for word in args.machines if word not in files]


def _refuse_alone(args: argparse.Namespace) -> None:
    """Words that do not fit together."""
    removes = args.remove or args.plan is not None
    if args.release and not removes:
        raise ConfigError("--release is for machines that --remove destroys", hint="add --remove")
    if args.shard and removes:
        raise ConfigError(
            "--shard is one run of several, which know nothing of each other's plans", hint="deploy without it"
        )


def run(args: argparse.Namespace, screen: Screen) -> int:
    take_plan(args)
    _refuse_alone(args)
    until = Phase(args.until) if args.until else None
    saved = _load(args)
    with open_deployed(args, screen) as deployed:
        forgotten = deployed.forgotten()
        selected = select([*deployed.described(), *(forgotten if args.remove else ())], args)
        names = share_of([name for name in selected if name not in forgotten], args.shard)
        if saved is not None:
            _refuse_other_deployment(args.plan, saved, deployed.record.name)
            for name in [name for name in names if name not in saved.machines]:
                screen.warn(f"{name} is not in {args.plan}, so it stays as it is")
            names = [name for name in names if name in saved.machines]
        if names:
            tell_changing(screen, deployed, names)
            screen.say(
                f"deployment {deployed.record.name}, on {', '.join(sorted({deployed.spec(n).profile for n in names}))}"
            )
        for name in forgotten if not args.remove else ():
            screen.warn(
                f"{name} is no longer in the description, but it still exists; {command(Verb.DESTROY, name)} removes it"
            )
        left = deployed.resources.forgotten()
        for ref in left if not args.remove else ():
            screen.warn(
                f"{ref.kind} {ref.name} is no longer in the description, but it still exists;"
                f" {command(Verb.DEPLOY, '--remove')} removes it"
            )
        with screen.busy("asking the cluster"):
            removals = [deployed.removal(name) for name in selected if name in forgotten]
        moved = [] if saved is None else _find_moved(args, screen, saved, removals)
        removals = [one for one in removals if one.machine.name not in moved]
        removed = [one.machine.name for one in removals]
        everything = selects_all(args) and not args.shard
        gone = left if args.remove and everything else []
        if saved is not None:
            gone = _in_plan(args, screen, saved, gone)
            _tell_new(args, screen, saved, deployed.resources.described() if everything else [])
        if not dialogs.agree_to_remove(screen, removals, gone, yes=args.yes):
            screen.say("nothing was done")
            return 0

        if not agree_with_care(screen, deployed, names, yes=args.yes or saved is not None):
            screen.say("nothing was done")
            return 0

        def work() -> "Sequence[Outcome]":
            return deployed.deploy(names, until=until, allow_recreate=args.allow_recreate, promised=saved)

        status = 0
        things = everything and bool(deployed.resources.described())
        if names or things or not (removed or gone):
            goal = (until or Phase.READY).value
            tell = closing_lines if until in (None, Phase.READY) else no_lines
            status = carry_out(args.command, screen, names, goal, work, deployed.machines, things=things, tell=tell)
            offer_commits(screen, deployed.takings, "takes")
        return status or _remove(args, screen, deployed, removed, gone) or int(bool(moved))


def _remove(
    args: argparse.Namespace, screen: Screen, deployed: "Deployed", names: "Sequence[str]", things: "Sequence[Ref]"
) -> int:
    """After everything that is described stands as it should: until then, nothing is given up."""
    if not names and not things:
        return _tidy(args, screen, deployed)

    deployed.agree()  # each of them was named in a question

    def work() -> "Sequence[Outcome]":
        return [*deployed.destroy(names, release=args.release), *deployed.remove_resources(things)]

    kept = {name: deployed.addresses.kept(name) for name in names}
    status = carry_out(args.command, screen, names, "destroyed", work, deployed.machines, things=bool(things))
    for line in [line for lines in kept.values() for line in lines]:
        screen.say(f"{'given back' if args.release else 'still taken'}: {line}")
    if args.release:
        offer_commits(screen, deployed.takings, "gives back")
    return status or _tidy(args, screen, deployed)


def _tidy(args: argparse.Namespace, screen: Screen, deployed: "Deployed") -> int:
    """A deploy of some machines, or of what a plan says, leaves alone what others may need."""
    if selects_all(args) and args.plan is None and not args.shard:
        dialogs.tidy_images(screen, deployed, remove=args.remove)
    return 0


def _find_moved(
    args: argparse.Namespace, screen: Screen, saved: "SavedPlan", removals: "Sequence[Removal]"
) -> list[str]:
    """The machines whose end would be another one than the plan says, or that the plan does not name. They stay."""
    from nixops_proxmox.messages.plans import what_goes

    moved = []
    for removal in removals:
        name, now = removal.machine.name, what_goes(removal)
        if name not in saved.removals:
            screen.warn(f"{name} is not to be destroyed by {args.plan}, so it stays")
            moved.append(name)
        elif changed := set(now) ^ set(saved.removals[name]):
            screen.warn(f"{name} has changed since the plan was made, so it stays: {'; '.join(sorted(changed))}")
            moved.append(name)
    return moved


def _in_plan(args: argparse.Namespace, screen: Screen, saved: "SavedPlan", gone: "Sequence[Ref]") -> "list[Ref]":
    for ref in gone:
        if str(ref) not in saved.removed:
            screen.warn(f"{ref.kind} {ref.name} is not to be removed by {args.plan}, so it stays")
    return [ref for ref in gone if str(ref) in saved.removed]


def _tell_new(args: argparse.Namespace, screen: Screen, saved: "SavedPlan", described: "Sequence[Ref]") -> None:
    """Name the resources that were described after the plan was made. They wait for another one."""
    for ref in described:
        if str(ref) not in saved.things:
            screen.warn(f"{ref.kind} {ref.name} is not in {args.plan}, so it stays as it is")


def _load(args: argparse.Namespace) -> "SavedPlan | None":
    """The saved plan, if there is one. What it was allowed to do is what this deploy may do."""
    from nixops_proxmox.operations.plan_file import ALLOWED, load_plan

    if args.plan is None:
        return None
    saved = load_plan(args.plan)
    if args.remove and not (saved.removals or saved.removed):
        raise ConfigError(
            f"{args.plan} was made without --remove",
            hint=f"{command(Verb.PLAN, f'--remove --out {args.plan}')} saves what is destroyed, too",
        )
    args.remove = bool(saved.removals or saved.removed)
    for name in ALLOWED:
        if getattr(args, name) and not getattr(saved, name):
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(
                f"{args.plan} was made without {flag}",
                hint=f"{command(Verb.PLAN, f'{flag} --out {args.plan}')} shows and saves what a deploy with it does",
            )
        setattr(args, name, getattr(saved, name))
    return saved


def _refuse_other_deployment(path: Path, saved: "SavedPlan", deployment: str) -> None:
    if saved.deployment != deployment:
        raise ConfigError(
            f"{path} is a plan of the deployment {saved.deployment!r}, and this is {deployment!r}",
            hint=f"add --deployment {saved.deployment}",
        )
