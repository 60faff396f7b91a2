"""Create, list and delete snapshots of machines, or return to one."""

import argparse
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from nixops_proxmox.cli.arguments import add_common, open_deployed
from nixops_proxmox.display.arguments import add_json, add_machines, add_run, add_yes, select
from nixops_proxmox.display.runs import carry_out
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.messages.amounts import epoch_text
from nixops_proxmox.messages.shapes.volumes import SnapshotJson, SnapshotsJson
from nixops_proxmox.model import Phase

if TYPE_CHECKING:
    from nixops_proxmox.model import Machine
    from nixops_proxmox.operations import Deployed
    from nixops_proxmox.operations.pursuit import Pursuit
    from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor

    Work = Callable[[Pursuit, PveHypervisor], Machine]

MADE = tuple(phase for phase in Phase if phase not in (Phase.ABSENT, Phase.RESERVED, Phase.LOST))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    create = add_action(actions, "create", "Take a snapshot of all disks of each machine at one moment")
    create.add_argument("name", metavar="NAME")
    create.add_argument("--ram", action="store_true", help="Save the memory too, so that the machine can resume")
    create.add_argument("--description", metavar="TEXT", default="")
    show = add_action(actions, "list", "List the snapshots")
    add_json(show)
    delete = add_action(actions, "delete", "Delete a snapshot; the machines stay as they are")
    delete.add_argument("name", metavar="NAME")
    rollback = add_action(actions, "rollback", "Return to a snapshot, and lose what was written since; asks first")
    rollback.add_argument("name", metavar="NAME")
    add_yes(rollback)
    for action in (create, delete, rollback):
        add_run(action)
    for action in (create, show, delete, rollback):
        add_machines(action)
        add_common(action)


def add_action(actions: Any, name: str, about: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(name, help=about, description=about, allow_abbrev=False)
    return action


def run(args: argparse.Namespace, screen: Screen) -> int:
    with open_deployed(args, screen, described=None) as deployed:
        names = select([machine.name for machine in deployed.record.machines() if machine.phase in MADE], args)
        if args.action == "list":
            return run_list(args, screen, deployed, names)
        if args.action == "rollback":
            question = f"go back to {args.name}, and lose what {', '.join(names)} wrote since?"
            if names and not screen.ask(question, yes=args.yes):
                screen.say("nothing was done")
                return 0
        work, said = work_of(args)
        return carry_out(args.command, screen, names, said, lambda: deployed.work_on(names, work), deployed.machines)


def work_of(args: argparse.Namespace) -> "tuple[Work, str]":
    """What is to be done with each machine, and how it is told."""
    from nixops_proxmox.operations import backups

    match args.action:
        case "create":
            taken = partial(backups.take_snapshot, name=args.name, description=args.description, ram=args.ram)
            return lambda pursuit, _: taken(pursuit), "snapshot"
        case "delete":
            return lambda pursuit, _: backups.delete_snapshot(pursuit, args.name), "rid of it"
    return lambda pursuit, _: backups.return_to_snapshot(pursuit, args.name), "rolled back"


def run_list(args: argparse.Namespace, screen: Screen, deployed: "Deployed", names: list[str]) -> int:
    from nixops_proxmox.operations.backups import list_snapshots

    with screen.busy("asking the cluster"):
        found = [
            (name, one)
            for name in names
            for one in list_snapshots(deployed.hypervisor_of(name), deployed.read_only(name))
        ]
    if args.json:
        rows: list[SnapshotJson] = [
            {
                "machine": name,
                "name": one.name,
                "created": one.created,
                "ram": one.ram,
                "parent": one.parent or None,
                "description": one.description,
            }
            for name, one in found
        ]
        screen.json(SnapshotsJson(snapshots=rows))
    elif found:
        heads = ("machine", "snapshot", "created", "memory", "description")
        screen.table(
            heads,
            [
                [name, one.name, epoch_text(one.created), "yes" if one.ram else "no", one.description]
                for name, one in found
            ],
        )
    else:
        screen.say("there is none")
    return 0
