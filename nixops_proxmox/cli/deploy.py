"""Create, install, change and start machines until they are `ready`.

Goes on where an earlier run stopped.
"""

import argparse

from nixops_proxmox.cli.arguments import open_deployed
from nixops_proxmox.display.arguments import add_machines, add_permissions, add_run, select
from nixops_proxmox.display.runs import carry_out
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.model import Phase
from nixops_proxmox.spelling import Verb, command

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
    parser.add_argument(
        "--check",
        dest="verify",
        action="store_true",
        help="Verify everything instead of trusting the recorded state",
    )


def run(args: argparse.Namespace, screen: Screen) -> int:
    until = Phase(args.until) if args.until else None
    with open_deployed(args, screen) as deployed:
        names = select(deployed.described(), args)
        if names:
            screen.say(
                f"deployment {deployed.record.name}, on {', '.join(sorted({deployed.spec(n).profile for n in names}))}"
            )
        for name in deployed.forgotten():
            screen.warn(
                f"{name} is no longer in the description, but it still exists; {command(Verb.DESTROY, name)} removes it"
            )
        return carry_out(
            args.command,
            screen,
            names,
            (until or Phase.READY).value,
            lambda: deployed.deploy(names, until=until, allow_recreate=args.allow_recreate),
            deployed.machines,
        )
