"""Pages of reference that are written by hand say what the code does."""

import ast
import re
from pathlib import Path

import pytest

from nixops_proxmox.cli import EPILOG

ROOT = Path(__file__).resolve().parents[2]
DOCS, PACKAGE = ROOT / "docs", ROOT / "nixops_proxmox"
VARIABLE = re.compile(r"(?:NIXOPS_PROXMOX|PROXMOX_VE)_[A-Z_]+[A-Z]")
OF_THE_LAB = {"NIXOPS_PROXMOX_LAB_STARTERS"}  # between processes of the lab
JSON = {  # the heading of docs/json.md, and what makes the object
    "status --json": ("cli/status.py", "to_json"),
    "history --json": ("state/journal.py", "to_json"),
    "check --json": ("messages/checks.py", "check_json"),
    "volume list --json": ("messages/volumes.py", "volume_json"),
    "doctor --json": ("messages/findings.py", "finding_json"),
}


def test_every_variable_that_the_program_reads_is_explained() -> None:
    texts = [path.read_text() for path in PACKAGE.rglob("*.py") if "lab" not in path.relative_to(PACKAGE).parts]
    read = {name for text in texts for name in VARIABLE.findall(text)} - OF_THE_LAB
    assert set(VARIABLE.findall((DOCS / "environment.md").read_text())) == read


def test_every_exit_status_is_explained() -> None:
    page = (DOCS / "environment.md").read_text()
    told = {int(number) for row in re.findall(r"(?m)^\| ([\d, ]+) \|", page) for number in row.split(",")}
    assert told == {int(number) for number in re.findall(r"\b\d+\b", EPILOG)} | {10}


@pytest.mark.parametrize("verb", JSON)
def test_every_key_of_json_is_explained(verb: str) -> None:
    file, function = JSON[verb]
    tree = ast.parse((PACKAGE / file).read_text())
    (made,) = (one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef) and one.name == function)
    first = max((one for one in ast.walk(made) if isinstance(one, ast.Dict)), key=lambda one: len(one.keys))
    keys = {key.value for key in first.keys if isinstance(key, ast.Constant)}
    section = (DOCS / "json.md").read_text().partition(f"## `{verb}`")[2].partition("\n## ")[0]
    told = {word for row in re.findall(r"(?m)^\| (`.+?`) \|", section) for word in re.findall(r"`(.+?)`", row)}
    assert told == keys
