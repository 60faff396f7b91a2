"""What the doctor found."""

from nixops_proxmox.messages.lines import Line
from nixops_proxmox.messages.shapes import setup as shapes
from nixops_proxmox.model import Finding, Level

MARKS = {Level.OK: ("✓", ""), Level.WARNING: ("!", "yellow"), Level.PROBLEM: ("✗", "red")}


def finding_lines(finding: Finding) -> list[Line]:
    mark, style = MARKS[finding.level]
    hint = [Line(f"  {line}", "yellow") for line in finding.hint.splitlines()]
    return [Line(f"{mark} {finding.subject}: {finding.text}", style), *hint]


def finding_json(finding: Finding) -> shapes.FindingJson:
    return {"level": finding.level.value, "subject": finding.subject, "text": finding.text, "hint": finding.hint}
