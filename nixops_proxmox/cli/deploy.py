"""Bring machines to `ready`, whatever they stand in; goes on where an earlier run stopped."""

import argparse

from nixops_proxmox.cli.arguments import add_machines, add_run, open_deployed, select
from nixops_proxmox.cli.console import Console
from nixops_proxmox.cli.runs import carry_out
from nixops_proxmox.model import Phase

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
        "--until", metavar="PHASE", choices=[phase.value for phase in STOPS], help=f"stop at: {', '.join(STOPS)}"
    )
    parser.add_argument(
        "--allow-reboot", action="store_true", help="restart machines for hardware changes that take effect only so"
    )
    parser.add_argument(
        "--allow-recreate", action="store_true", help="make machines anew whose VM is gone; what it held is lost"
    )
    parser.add_argument("--check", action="store_true", help="trust nothing that can be looked at")


def run(args: argparse.Namespace, console: Console) -> int:
    until = Phase(args.until) if args.until else None
    with open_deployed(args, console) as deployed:
        names = select(deployed.described(), args)
        if names:
            console.say(
                f"deployment {deployed.record.name}, on {', '.join(sorted({deployed.spec(n).profile for n in names}))}"
            )
        for name in deployed.forgotten():
            console.warn(f"{name} is no longer described, and still there; `nixops-proxmox destroy {name}` removes it")
        return carry_out(
            args,
            console,
            names,
            (until or Phase.READY).value,
            lambda: deployed.deploy(names, until=until, allow_recreate=args.allow_recreate),
            deployed.machines,
        )
