"""Destroy VMs with their disks, and forget the machines.

Asks first.
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nixops_proxmox.cli.arguments import get_deployment, open_deployed, state_location
from nixops_proxmox.display import dialogs
from nixops_proxmox.display.arguments import add_json, add_machines, add_run, add_yes, select, selects_all
from nixops_proxmox.display.offers import offer_commits
from nixops_proxmox.display.runs import carry_out
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.messages.shapes.machines import DestroyedJson, DestroyedMachinesJson, ForgottenJson
from nixops_proxmox.model import Machine

if TYPE_CHECKING:
    from nixops_proxmox.core.graph import Ref
    from nixops_proxmox.fleet import Outcome
    from nixops_proxmox.operations import Deployed
    from nixops_proxmox.state.store import Deployment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_machines(parser)
    parser.add_argument("--uuid", metavar="UUID", help="Select the machine with this UUID, in any deployment")
    parser.add_argument("--forget", action="store_true", help="Remove only the record; the VM stays as it is")
    parser.add_argument(
        "--release", action="store_true", help="Give back what the machines have taken from lists of MACs, too"
    )
    parser.add_argument(
        "--resource",
        dest="resources",
        metavar="KIND/NAME",
        action="append",
        default=[],
        help="Remove this resource, such as pool/front; no others",
    )
    add_run(parser)
    add_json(parser)
    add_yes(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    meant = aim(args) if args.uuid else []
    if args.forget:
        return run_forget(args, screen, meant)
    with open_deployed(args, screen, described=False) as deployed:
        machines = {machine.name: machine for machine in deployed.record.machines()}
        chosen = choose_resources(args, deployed)
        names = meant or ([] if chosen and selects_all(args) else select(list(machines), args))
        with screen.busy("asking the cluster what goes with them"):
            removals = {name: deployed.removal(name) for name in names}
        for name, removal in removals.items():
            screen.say(what_goes(machines[name]))
            for line in removal.losses:
                screen.say(f"  also deleted: {line}")
            for line in removal.spared:
                screen.say(f"  kept: {line}")
            for line in deployed.addresses.kept(name):
                screen.say(f"  {'given back' if args.release else 'still taken'}: {line}")
        everything = selects_all(args) and not args.uuid
        things = chosen or (deployed.resources.recorded() if everything else [])
        for ref in things:
            screen.say(f"{ref.kind} {ref.name}")
        what = ", ".join([*names, *(f"{ref.kind} {ref.name}" for ref in things)])
        if what and not screen.ask(f"destroy {what}{', with all their data' if names else ''}?", yes=args.yes):
            screen.say("nothing was done")
            return tell(args, screen, DestroyedMachinesJson(machines=[]))
        deployed.agree()
        return run_destroy(args, screen, deployed, [machines[name] for name in names], things)


def choose_resources(args: argparse.Namespace, deployed: "Deployed") -> "list[Ref]":
    """The resources that the user named. ConfigError for one that is not recorded."""
    recorded = {f"{ref.kind}/{ref.name}": ref for ref in deployed.resources.recorded()} if args.resources else {}
    for word in args.resources:
        if word not in recorded:
            raise ConfigError(
                f"there is no resource {word!r} in the record",
                hint=f"there are: {', '.join(sorted(recorded))}" if recorded else "there are none",
            )
    return [recorded[word] for word in dict.fromkeys(args.resources)]


def run_destroy(
    args: argparse.Namespace,
    screen: Screen,
    deployed: "Deployed",
    machines: Sequence[Machine],
    things: "Sequence[Ref]" = (),
) -> int:
    """JSON tells of each machine as it was, and what kept it. Resources go last: machines need them until their end."""
    outcomes: list[Outcome] = []
    names = [machine.name for machine in machines]

    def work() -> "Sequence[Outcome]":
        outcomes.extend(deployed.destroy(names, release=args.release))
        if things and all(one.error is None for one in outcomes):
            outcomes.extend(deployed.remove_resources(things))
        return outcomes

    status = carry_out(args.command, screen, names, "destroyed", work, deployed.machines, things=bool(things))
    offer_commits(screen, deployed.takings, "gives back")
    dialogs.tidy_images(screen, None if status else deployed, remove=True)
    errors = {one.name: one.error.message for one in outcomes if one.error is not None and not one.kind}
    return tell(
        args, screen, DestroyedMachinesJson(machines=[to_json(one, errors.get(one.name)) for one in machines]), status
    )


def tell(
    args: argparse.Namespace, screen: Screen, value: DestroyedMachinesJson | ForgottenJson, status: int = 0
) -> int:
    if args.json:
        screen.json(value)
    return status


def run_forget(args: argparse.Namespace, screen: Screen, meant: Sequence[str]) -> int:
    """Forget without asking a cluster or reading the record, for records that nothing else removes."""
    from nixops_proxmox.state import open_state

    with open_state(state_location(args)) as state:
        record = state.deployment(get_deployment(args, state.deployments))
        names = meant or select(record.names(), args)
        shown = ", ".join(name if name.isprintable() else ascii(name) for name in names)
        meant_so = bool(names) and screen.ask(f"forget {shown}, and leave the VMs as they are?", yes=args.yes)
        if not meant_so:
            screen.say("nothing was done" if names else "no machines selected")
        else:
            forget(record, names, break_lock=args.break_lock)
            screen.say(f"forgotten: {shown}; `nixops-proxmox recover` records a VM again that carries its mark")
    return tell(args, screen, ForgottenJson(forgotten=list(names) if meant_so else []))


def forget(record: "Deployment", names: Sequence[str], *, break_lock: bool) -> None:
    with record.lease(break_lock=break_lock) as lease:
        for name in names:
            record.forget(name, lease)


def aim(args: argparse.Namespace) -> list[str]:
    """Turn to the deployment of the machine with that UUID, and return its name."""
    from nixops_proxmox.state import open_state

    if not selects_all(args):
        raise ConfigError("--uuid selects one machine, but you named others too", hint="use --uuid or names, not both")
    with open_state(state_location(args)) as state:
        place = state.find_name(args.uuid)
        if place is None:
            raise ConfigError(
                f"no machine with the UUID {args.uuid} is in the state {state.title}",
                hint="was it deployed with another state? Name that state with --state",
            )
    args.deployment, name = place
    return [name]


def what_goes(machine: Machine) -> str:
    facts = machine.facts
    vm = f"VM {facts.vmid} on {facts.node}, with all of its disks" if facts.vmid else "no VM yet"
    where = f" ({facts.profile})" if facts.profile else ""
    name = machine.name if machine.name.isprintable() else ascii(machine.name)
    return f"{name}  {machine.phase}  {vm}{where}"


def to_json(machine: Machine, error: str | None) -> DestroyedJson:
    facts = machine.facts
    return {
        "machine": machine.name,
        "uuid": facts.uuid or None,
        "vmid": facts.vmid or None,
        "node": facts.node or None,
        "destroyed": error is None,
        "error": error,
    }
