"""What several doors ask before they act, and how they go on. Each returns the exit status of its verb."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nixops_proxmox.display.attached import attach
from nixops_proxmox.display.results import show_recoverable
from nixops_proxmox.display.runs import carry_out
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.display.viewing import show_spice, show_vnc
from nixops_proxmox.errors import ConfigError, DeployError
from nixops_proxmox.messages.losses import makes_anew, what_is_lost
from nixops_proxmox.messages.migrations import describe_migration
from nixops_proxmox.messages.plans import what_goes
from nixops_proxmox.spelling import Verb, command

if TYPE_CHECKING:
    from nixops_proxmox.core.graph import Ref
    from nixops_proxmox.operations import Deployed, Removal


def open_console(screen: Screen, deployed: "Deployed", name: str, args: argparse.Namespace) -> int:
    """`args`: what `add_console` takes."""
    if args.spice:
        return show_spice(screen, deployed, name, args.out)
    if args.vnc:
        return show_vnc(screen, deployed, name, port=args.port or 0, out=args.out, seconds=args.seconds)
    if args.out is not None or args.port is not None:
        raise ConfigError("a serial console needs no viewer", hint="add --spice or --vnc to see the display")
    return attach_console(screen, deployed, name, args.seconds)


def attach_console(screen: Screen, deployed: "Deployed", name: str, seconds: float | None) -> int:
    with deployed.terminal(name) as terminal:
        screen.say(f"at the console of {name}; Ctrl-] leaves it")
        attach(terminal, seconds)
    return 0


def unlock(screen: Screen, deployed: "Deployed", names: Sequence[str], typed: str) -> int:
    """`typed`: the command, to be typed again."""
    return carry_out(typed, screen, names, "unlocked", lambda: deployed.unlock(names), deployed.machines)


def send_keys(screen: Screen, deployed: "Deployed", names: Sequence[str], typed: str) -> int:
    """`typed`: the command, to be typed again."""
    return carry_out(typed, screen, names, "with its keys", lambda: deployed.send_keys(names), deployed.machines)


def rescue(screen: Screen, deployed: "Deployed", names: Sequence[str], typed: str) -> int:
    """`typed`: the command, to be typed again."""
    return carry_out(typed, screen, names, "rescue", lambda: deployed.rescue(names), deployed.machines)


def reinstall(screen: Screen, deployed: "Deployed", names: Sequence[str], typed: str, *, yes: bool) -> int:
    for name in names:
        screen.say(what_is_lost(deployed.spec(name)))
        for line in deployed.losses(name) if makes_anew(deployed.spec(name)) else ():
            screen.say(f"  also deleted: {line}")
    if names and not screen.ask(f"reinstall {', '.join(names)}?", yes=yes):
        screen.say("nothing was done")
        return 0
    deployed.agree()
    return carry_out(typed, screen, names, "ready", lambda: deployed.reinstall(names), deployed.machines)


def migrate(screen: Screen, deployed: "Deployed", names: Sequence[str], target: str, typed: str) -> int:
    """Tells of each machine what forbids that it migrates, or what it takes; then migrates those that can."""
    for name in names:
        try:
            with screen.busy(f"looking where {name} can go"):
                way = deployed.foresee_migration(name, target)
        except DeployError:
            continue  # it is told when its turn comes
        for line in describe_migration(name, way):
            screen.say(line)
    return carry_out(typed, screen, names, "migrated", lambda: deployed.migrate(names, target), deployed.machines)


def agree_to_remove(screen: Screen, removals: "Sequence[Removal]", things: "Sequence[Ref]" = (), *, yes: bool) -> bool:
    """Tell what destroying the machines and removing the things takes and leaves, and ask. Without any of them there is
    nothing to agree to."""
    for removal in removals:
        screen.say(f"{removal.machine.name}: no longer in the description")
        for line in what_goes(removal):
            screen.say(f"  {line}")
    for ref in things:
        screen.say(f"{ref.kind} {ref.name}: no longer in the description, so it is removed")
    names = ", ".join(removal.machine.name for removal in removals)
    question = f"destroy {names}, with all their data?" if removals else "remove them?"
    return not (removals or things) or screen.ask(question, yes=yes)


def recover(
    screen: Screen, deployed: "Deployed", profiles: Sequence[str], *, dry_run: bool, yes: bool, as_json: bool
) -> int:
    with screen.busy(f"looking at {', '.join(profiles)}"):
        found = deployed.recoverable(profiles)
    show_recoverable(screen, found, as_json=as_json)
    new = [one for one in found if one.machine is not None]
    if not new:
        screen.say(f"there is nothing to recover for {deployed.record.name}")
        return 0
    names = ", ".join(one.mark.machine for one in new)
    if dry_run or not screen.ask(f"record {names} in {deployed.record.name}?", yes=yes):
        screen.say("nothing was recorded")
        return 0
    deployed.recover(new)
    screen.say(f"recorded: {names}; {command(Verb.DEPLOY)} goes on from there")
    return 0


def tidy_images(screen: Screen, deployed: "Deployed | None", *, remove: bool) -> None:
    """Images that deploys put on storages and nothing is made of any more: `remove` deletes them. Nothing needs them,
    so one that cannot be deleted is a warning. None: not everything is as described, so they stay."""
    unused = [] if deployed is None else deployed.unused_images()
    if not remove:
        for one in unused:
            screen.warn(f"no machine is made of {one.told} any more; {command(Verb.DEPLOY, '--remove')} deletes it")
        return
    for told, error in deployed.remove_images(unused).items() if deployed is not None and unused else ():
        if error is None:
            screen.say(f"deleted {told}")
        else:
            screen.warn(f"{told} stays: {error.message}")
