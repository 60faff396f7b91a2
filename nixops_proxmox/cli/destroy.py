"""Destroy VMs with their disks, and forget the machines.

Asks first.
"""

import argparse
from collections.abc import Sequence

from nixops_proxmox.cli.arguments import (
    add_machines,
    add_run,
    add_yes,
    get_deployment,
    open_deployed,
    select,
    state_location,
)
from nixops_proxmox.cli.console import Console
from nixops_proxmox.cli.runs import carry_out
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.model import Machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_machines(parser)
    parser.add_argument("--uuid", metavar="UUID", help="Select the machine with this UUID, in any deployment")
    parser.add_argument("--forget", action="store_true", help="Remove only the record; the VM stays as it is")
    add_run(parser)
    add_yes(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    meant = aim(args) if args.uuid else []
    if args.forget:
        return run_forget(args, console, meant)
    with open_deployed(args, console, described=False) as deployed:
        machines = {machine.name: machine for machine in deployed.record.machines()}
        names = meant or select(list(machines), args)
        for name in names:
            console.say(what_goes(machines[name]))
            for line in deployed.losses(name):
                console.say(f"  also deleted: {line}")
        if names and not console.ask(f"destroy {', '.join(names)}, with all their data?", yes=args.yes):
            console.say("nothing was done")
            return 0
        return carry_out(args, console, names, "destroyed", lambda: deployed.destroy(names), deployed.machines)


def run_forget(args: argparse.Namespace, console: Console, meant: Sequence[str]) -> int:
    """Asks nothing of any cluster, and reads no record: this is for those that nothing else removes."""
    from nixops_proxmox.state import open_state

    with open_state(state_location(args)) as state:
        record = state.deployment(get_deployment(args, state.deployments))
        names = meant or select(record.names(), args)
        shown = ", ".join(name if name.isprintable() else ascii(name) for name in names)
        if not names:
            console.say("nothing to do: no machine is meant")
            return 0
        if not console.ask(f"forget {shown}, and leave the VMs as they are?", yes=args.yes):
            console.say("nothing was done")
            return 0
        with record.lease(break_lock=args.break_lock) as lease:
            for name in names:
                record.forget(name, lease)
    console.say(f"forgotten: {shown}; `nixops-proxmox recover` records again what carries its mark")
    return 0


def aim(args: argparse.Namespace) -> list[str]:
    """Turn to the deployment of the machine with that UUID, and return its name."""
    from nixops_proxmox.state import open_state

    if args.machines or args.only or args.omit:
        raise ConfigError("--uuid means one machine, and others are named, too", hint="give one or the other")
    with open_state(state_location(args)) as state:
        place = state.find_name(args.uuid)
        if place is None:
            raise ConfigError(
                f"no machine with the UUID {args.uuid} is in the state {state.title}",
                hint="was it deployed with another state? Give it with --state",
            )
    args.deployment, name = place
    return [name]


def what_goes(machine: Machine) -> str:
    facts = machine.facts
    vm = f"VM {facts.vmid} on {facts.node}, with all of its disks" if facts.vmid else "no VM yet"
    where = f" ({facts.profile})" if facts.profile else ""
    name = machine.name if machine.name.isprintable() else ascii(machine.name)
    return f"{name}  {machine.phase}  {vm}{where}"
