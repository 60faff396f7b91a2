"""Find what is missing for a deploy, here and on the cluster.

Looks at everything that a deploy needs, and says how to supply what is missing.
"""

import argparse
import functools
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from nixops_proxmox.cli.arguments import add_json, choose_profile, enter_networks, find_source, open_deployed
from nixops_proxmox.cli.console import Console
from nixops_proxmox.cli.report import Line
from nixops_proxmox.cli.tools import find_all
from nixops_proxmox.errors import DeployError
from nixops_proxmox.model import Finding, Level

if TYPE_CHECKING:
    from nixops_proxmox.spec import MachineSpec

MARKS = {Level.OK: ("✓", "green"), Level.WARNING: ("!", "yellow"), Level.PROBLEM: ("✗", "red")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    findings = find_all(args)
    errors: list[DeployError] = []

    def attempt(subject: str, look: Callable[[], None]) -> None:
        try:
            look()
        except DeployError as error:
            errors.append(error)
            findings.append(Finding(Level.PROBLEM, subject, error.message, error.hint))

    needs: dict[str, list[MachineSpec]] = {}
    attempt("network", lambda: needs.update(find_needs(args, console)))
    for name, specs in (needs or {choose_profile(args) or "default": []}).items():
        attempt(name, functools.partial(extend, findings, console, name, specs))
    show(args, console, findings)
    if not any(finding.level is Level.PROBLEM for finding in findings):
        return 0
    return errors[0].exit_status if errors else 1


def find_needs(args: argparse.Namespace, console: Console) -> "dict[str, list[MachineSpec]]":
    """The machines that are described here, by hypervisor; none if nothing is described here."""
    if not find_source(args):
        return {}
    needs: dict[str, list[MachineSpec]] = {}
    with open_deployed(args, console) as deployed:
        for spec in map(deployed.spec, deployed.described()):
            needs.setdefault(spec.profile, []).append(spec)
    return needs


def extend(findings: list[Finding], console: Console, name: str, specs: "Sequence[MachineSpec]") -> None:
    """What the cluster lacks for these machines and the profile's account."""
    from nixops_proxmox.pve.connection import connect
    from nixops_proxmox.pve.doctor import examine
    from nixops_proxmox.pve.profiles import load_profile

    profile = load_profile(name)
    enter_networks([name])
    with console.busy(f"looking at {name}"), closing(connect(profile)) as client:
        findings += examine(client, profile, specs)


def show(args: argparse.Namespace, console: Console, findings: Sequence[Finding]) -> None:
    if args.json:
        console.json({"findings": [to_json(finding) for finding in findings]})
        return
    for finding in findings:
        mark, style = MARKS[finding.level]
        console.result_lines([Line(f"{mark} {finding.subject}: {finding.text}", style if mark != "✓" else "")])
        if finding.hint:
            console.result_lines([Line(f"  {line}", "yellow") for line in finding.hint.splitlines()])


def to_json(finding: Finding) -> dict[str, Any]:
    return {"level": finding.level.value, "subject": finding.subject, "text": finding.text, "hint": finding.hint}
