"""Compare the cluster and the guests with the record and description."""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nixops_proxmox.cli.arguments import JOBS, add_json, add_machines, open_deployed, positive, select
from nixops_proxmox.cli.console import Console
from nixops_proxmox.cli.plan import change_json, describe_change

if TYPE_CHECKING:
    from nixops_proxmox.wiring import Checked

WORDS = {True: "yes", False: "no", None: "?"}
NOT_AS_IT_SHOULD_BE = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_machines(parser)
    add_json(parser)
    parser.add_argument(
        "--jobs", metavar="N", type=positive, default=JOBS, help=f"Work on N machines at a time (default: {JOBS})"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    with open_deployed(args, console, described=None) as deployed:
        checked = deployed.check(select([machine.name for machine in deployed.machines()], args))
    if args.json:
        console.json({"machines": [to_json(one) for one in checked]})
    else:
        heads = ("machine", "phase", "exists", "running", "reachable", "system")
        console.table(heads, [row(one) for one in checked], phases=1)
        for one in checked:
            console.result("\n".join(remarks(one))) if remarks(one) else None
    return 0 if all(is_well(one) for one in checked) else NOT_AS_IT_SHOULD_BE


def is_well(one: "Checked") -> bool:
    looks = (one.exists, one.running, one.reachable, one.system_ok)
    return False not in looks and not one.changes and not one.problems


def row(one: "Checked") -> list[str]:
    looks = (one.exists, one.running, one.reachable, one.system_ok)
    return [one.name, one.phase.value, *(WORDS[look] for look in looks)]


def remarks(one: "Checked") -> list[str]:
    lines = [f"{one.name}: {describe_change(change)}" for change in one.changes]
    lines += [f"{one.name}: {key} waits for a stop and start" for key in one.pending]
    return [*lines, *(f"{one.name}: {problem}" for problem in one.problems)]


def to_json(one: "Checked") -> dict[str, Any]:
    plain = vars(replace(one)).copy()
    plain["machine"] = plain.pop("name")
    return {
        **plain,
        "phase": one.phase.value,
        "changes": [change_json(change) for change in one.changes],
        "ok": is_well(one),
    }
