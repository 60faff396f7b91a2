"""Compare the cluster and the guests with the record and description."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from nixops_proxmox.cli.arguments import complete, open_deployed
from nixops_proxmox.display.arguments import add_jobs, add_json, add_machines, select, selects_all
from nixops_proxmox.display.results import show_checks
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.messages.checks import metrics

if TYPE_CHECKING:
    from nixops_proxmox.operations import Checked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_machines(parser)
    add_json(parser)
    add_jobs(parser)
    file = parser.add_argument("--metrics", metavar="FILE", type=Path, help="Write the results for Prometheus, too")
    complete(file, "file")


def run(args: argparse.Namespace, screen: Screen) -> int:
    with open_deployed(args, screen, described=None) as deployed:
        names = select([machine.name for machine in deployed.machines()], args)
        with screen.busy("asking the cluster and the machines"):
            checked = deployed.check(names)
            resources = deployed.list_resources() if selects_all(args) else ()
        if args.metrics is not None:
            write_metrics(args.metrics, checked, deployed.record.name)
    return show_checks(screen, checked, resources, as_json=args.json)


def write_metrics(path: Path, checked: "list[Checked]", deployment: str) -> None:
    """Replace the file as a whole: a collector never reads half of one. ConfigError if it cannot be written."""
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_text(metrics(checked, deployment, time.time()), encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror}", hint="is it in a folder that you may write?"
        ) from error
