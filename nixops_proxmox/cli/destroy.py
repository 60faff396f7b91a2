"""Destroy VMs with their disks, and forget the machines.

Asks first.
"""

import argparse

from nixops_proxmox.cli.arguments import add_machines, add_run, add_yes, open_deployed, select, state_location
from nixops_proxmox.cli.console import Console
from nixops_proxmox.cli.runs import carry_out
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.model import Machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_machines(parser)
    parser.add_argument("--uuid", metavar="UUID", help="Select the machine with this UUID, in any deployment")
    add_run(parser)
    add_yes(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    if args.uuid:
        aim_at(args, get_machine_by_uuid(args))
    with open_deployed(args, console, described=False) as deployed:
        machines = {machine.name: machine for machine in deployed.record.machines()}
        names = select(list(machines), args)
        for name in names:
            console.say(what_goes(machines[name]))
        if names and not console.ask(f"destroy {', '.join(names)}, with all their data?", yes=args.yes):
            console.say("nothing was done")
            return 0
        return carry_out(args, console, names, "destroyed", lambda: deployed.destroy(names), deployed.machines)


def get_machine_by_uuid(args: argparse.Namespace) -> Machine:
    from nixops_proxmox.state import open_state

    if args.machines or args.only or args.omit:
        raise ConfigError("--uuid means one machine, and others are named, too", hint="give one or the other")
    with open_state(state_location(args)) as state:
        machine = state.find_machine(args.uuid)
        if machine is None:
            raise ConfigError(
                f"no machine with the UUID {args.uuid} is in the state {state.title}",
                hint="was it deployed with another state? Give it with --state",
            )
        return machine


def aim_at(args: argparse.Namespace, machine: Machine) -> None:
    args.deployment, args.machines = machine.deployment, [machine.name]


def what_goes(machine: Machine) -> str:
    facts = machine.facts
    vm = f"VM {facts.vmid} on {facts.node}, with all of its disks" if facts.vmid else "no VM yet"
    where = f" ({facts.profile})" if facts.profile else ""
    return f"{machine.name}  {machine.phase}  {vm}{where}"
