"""Destroy VMs with their disks, and forget the machines; asks first."""

import argparse

from nixops_proxmox.cli.arguments import add_machines, add_run, add_yes, open_deployed, select
from nixops_proxmox.cli.console import Console
from nixops_proxmox.cli.runs import carry_out
from nixops_proxmox.model import Machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_machines(parser)
    add_run(parser)
    add_yes(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    with open_deployed(args, console, described=False) as deployed:
        machines = {machine.name: machine for machine in deployed.record.machines()}
        names = select(list(machines), args)
        for name in names:
            console.say(what_goes(machines[name]))
        if names and not console.ask(f"destroy {', '.join(names)}, with all their data?", yes=args.yes):
            console.say("nothing was done")
            return 0
        return carry_out(args, console, names, "destroyed", lambda: deployed.destroy(names), deployed.machines)


def what_goes(machine: Machine) -> str:
    facts = machine.facts
    vm = f"VM {facts.vmid} on {facts.node}, with all of its disks" if facts.vmid else "no VM yet"
    where = f" ({facts.profile})" if facts.profile else ""
    return f"{machine.name}  {machine.phase}  {vm}{where}"
