"""Look at all that a deploy needs, here and on the cluster, and say what is missing and what mends it."""

import argparse
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from nixops_proxmox.cli.arguments import add_json, choose_profile, enter_networks
from nixops_proxmox.cli.console import Console
from nixops_proxmox.cli.report import Line
from nixops_proxmox.cli.tools import Finding, Level, find_all
from nixops_proxmox.errors import DeployError

MARKS = {Level.OK: ("✓", "green"), Level.WARNING: ("!", "yellow"), Level.PROBLEM: ("✗", "red")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    from nixops_proxmox.pve.profiles import DEFAULT

    profile = choose_profile(args, console) or DEFAULT
    status = 0
    findings = find_all(args)
    try:
        enter_networks([profile])
        with console.busy(f"looking at {profile}"):
            findings += find_remote(profile)
    except DeployError as error:
        findings.append(Finding(Level.PROBLEM, profile, error.message, error.hint))
        status = error.exit_status
    show(args, console, findings)
    if any(finding.level is Level.PROBLEM for finding in findings):
        return status or 1
    return 0


def find_remote(profile: str) -> list[Finding]:
    """What the cluster lacks, for this profile's account."""
    from nixops_proxmox.pve.connection import connect
    from nixops_proxmox.pve.doctor import examine
    from nixops_proxmox.pve.profiles import load_profile

    with closing(connect(load_profile(profile))) as client:
        return [Finding(Level(one.level), one.subject, one.text, one.hint) for one in examine(client)]


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
