"""Back machines up to a storage of the cluster, or list their backups.

Uses vzdump, as the backup button of Proxmox VE does.
"""

import argparse
from typing import TYPE_CHECKING

from nixops_proxmox.cli.arguments import open_deployed
from nixops_proxmox.cli.snapshot import MADE
from nixops_proxmox.display.arguments import add_json, add_machines, add_run, select
from nixops_proxmox.display.runs import carry_out
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.messages.amounts import epoch_text
from nixops_proxmox.messages.lines import Line
from nixops_proxmox.messages.shapes.volumes import BackupJson, BackupsJson
from nixops_proxmox.model import Phase

if TYPE_CHECKING:
    from nixops_proxmox.model import Machine
    from nixops_proxmox.operations import Deployed
    from nixops_proxmox.operations.pursuit import Pursuit
    from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_machines(parser)
    parser.add_argument("--list", action="store_true", help="List the backups instead")
    parser.add_argument(
        "--storage", metavar="NAME", default="", help="Back up to this storage (default: one is chosen)"
    )
    parser.add_argument(
        "--mode",
        choices=("snapshot", "suspend", "stop"),
        default="snapshot",
        help="Say what a running machine does meanwhile (snapshot: it runs on)",
    )
    add_run(parser)
    add_json(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    with open_deployed(args, screen, described=None) as deployed:
        phases = (*MADE, Phase.LOST) if args.list else MADE
        names = select([machine.name for machine in deployed.record.machines() if machine.phase in phases], args)
        if args.list:
            return run_list(args, screen, deployed, names)
        return run_backup(args, screen, deployed, names)


def run_backup(args: argparse.Namespace, screen: Screen, deployed: "Deployed", names: list[str]) -> int:
    from nixops_proxmox.operations.backups import back_up

    made: dict[str, str] = {}

    def work(pursuit: "Pursuit", _hypervisor: "PveHypervisor") -> "Machine":
        made[pursuit.machine.name] = back_up(pursuit, storage=args.storage, mode=args.mode).volume
        return pursuit.machine

    status = carry_out(
        args.command, screen, names, "backed up", lambda: deployed.work_on(names, work), deployed.machines
    )
    if args.json:
        screen.json(BackupsJson(backups=[{"machine": name, "volume": made[name]} for name in sorted(made)]))
    elif made:
        screen.result_lines([Line(f"{name}  {made[name]}") for name in sorted(made)])
    return status


def run_list(args: argparse.Namespace, screen: Screen, deployed: "Deployed", names: list[str]) -> int:
    from nixops_proxmox.operations.backups import list_archives

    with screen.busy("asking the cluster"):
        found = [
            (name, one)
            for name in names
            for one in list_archives(deployed.hypervisor_of(name), deployed.record.machine(name).facts)
        ]
    rows: list[BackupJson] = [
        {"machine": name, "volume": one.volume, "created": one.created, "size": one.size, "ours": one.ours}
        for name, one in found
    ]
    if args.json:
        screen.json(BackupsJson(backups=rows))
    elif rows:
        screen.table(
            ("machine", "backup", "created", "size", "its own"),
            [
                [
                    row["machine"],
                    row["volume"],
                    epoch_text(row["created"]),
                    f"{row['size'] / 2**30:.1f} GiB",
                    "yes" if row["ours"] else "not known",
                ]
                for row in rows
            ],
        )
    else:
        screen.say("there is none")
    return 0
