"""Pages of reference that are written by hand say what the code does."""

import re
from pathlib import Path

from nixops_proxmox.cli import EPILOG

ROOT = Path(__file__).resolve().parents[2]
DOCS, PACKAGE = ROOT / "docs", ROOT / "nixops_proxmox"
VARIABLE = re.compile(r"(?:NIXOPS_PROXMOX|PROXMOX_VE)_[A-Z_]+[A-Z]")
OF_THE_LAB = {"NIXOPS_PROXMOX_LAB_STARTERS"}  # between processes of the lab


def test_every_variable_that_the_program_reads_is_explained() -> None:
    texts = [path.read_text() for path in PACKAGE.rglob("*.py") if "lab" not in path.relative_to(PACKAGE).parts]
    read = {name for text in texts for name in VARIABLE.findall(text)} - OF_THE_LAB
    assert set(VARIABLE.findall((DOCS / "environment.md").read_text())) == read


def test_every_exit_status_is_explained() -> None:
    page = (DOCS / "environment.md").read_text()
    told = {int(number) for row in re.findall(r"(?m)^\| ([\d, ]+) \|", page) for number in row.split(",")}
    assert told == {int(number) for number in re.findall(r"\b\d+\b", EPILOG)} | {10}
