"""Write a page for a browser: topology, plan, drift and history.

The page is one file that needs no network and runs no script. It has no secrets,
but it has names and addresses: only you can read the file.
"""

import argparse
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nixops_proxmox.cli import status
from nixops_proxmox.cli.arguments import complete, open_deployed
from nixops_proxmox.display.arguments import add_jobs, add_machines, positive, select, selects_all
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError, DeployError
from nixops_proxmox.texts import json_text

if TYPE_CHECKING:
    from nixops_proxmox.operations import Deployed

LIMIT = 500  # entries of the history
T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_machines(parser)
    file = parser.add_argument("--html", metavar="FILE", type=Path, required=True, help="Write the page into this file")
    complete(file, "file")
    parser.add_argument("--recorded", action="store_true", help="Use only the record, without a look at the cluster")
    parser.add_argument(
        "--limit", metavar="N", type=positive, default=LIMIT, help=f"Show the last N entries (default: {LIMIT})"
    )
    add_jobs(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    import json

    from nixops_proxmox.messages.report.page import report_page
    from nixops_proxmox.messages.report.topology import topology
    from nixops_proxmox.operations.exporting import export_machines

    with open_deployed(args, screen, described=False if args.recorded else None) as deployed:
        names = select([machine.name for machine in deployed.machines()], args)
        exported, left_out = export_machines(deployed, names)
        with screen.busy("looking at the deployment"):
            values = recorded(deployed, names, args.limit, everything=selects_all(args))
            if not args.recorded:
                values |= looked_at(deployed, names, everything=selects_all(args))
    for line in left_out:
        screen.warn(line)
    told: Mapping[str, Any] = json.loads(screen.spell(json_text(values)))  # without secrets, and commands as typed
    write(args.html, report_page(told, topology(exported), time.time()))
    screen.say(f"{len(names)} {'machine' if len(names) == 1 else 'machines'} shown in {args.html}")
    return 0


def recorded(deployed: "Deployed", names: Sequence[str], limit: int, *, everything: bool) -> dict[str, Any]:
    """`everything`: also what was done to others than these machines, such as volumes."""
    from nixops_proxmox.kinds.names import MACHINE
    from nixops_proxmox.messages.entries import entry_json
    from nixops_proxmox.spelling import recalled

    machines = [status.to_json(machine, None) for machine in deployed.machines() if machine.name in names]
    entries = deployed.record.history(limit=limit if everything else None)
    shown = (one for one in entries if everything or (one.kind == MACHINE and one.name in names))
    theirs = deque(shown, maxlen=limit)
    history = [entry_json(replace(entry, error=recalled(entry.error))) for entry in theirs]
    return {"deployment": deployed.record.name, "machines": machines, "history": history}


def looked_at(deployed: "Deployed", names: Sequence[str], *, everything: bool) -> dict[str, Any]:
    """What a plan, a check and a try of the addresses say now. One that fails does not stop the others."""
    from nixops_proxmox.messages.checks import check_json
    from nixops_proxmox.messages.plans import by_danger, plans_json
    from nixops_proxmox.messages.resources import resource_json
    from nixops_proxmox.messages.volumes import volume_json

    described = [name for name in names if name in deployed.described()]
    found: dict[str, Any] = {
        "machines": [
            status.to_json(machine, status.explain(deployed, machine))
            for machine in deployed.machines()
            if machine.name in names
        ],
        "checked": attempt(lambda: [check_json(one) for one in deployed.check(names)]),
    }
    if described:
        removals = deployed.removals() if everything else []
        found["plan"] = attempt(lambda: plans_json(by_danger(deployed.plan(described)), removals))
    if everything:
        volumes = attempt(lambda: [volume_json(one) for one in deployed.list_volumes()])
        resources = attempt(lambda: [resource_json(one) for one in deployed.list_resources()])
        found |= {"volumes": volumes, "resources": resources}
    return found


def attempt(look: Callable[[], T]) -> T | str:
    try:
        return look()
    except DeployError as error:
        return error.message


def write(path: Path, text: str) -> None:
    from nixops_proxmox.ssh.files import replace_file

    try:
        replace_file(path, text)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}", hint="give another file with --html"
        ) from error
