"""What `--help` prints: each line says what happens, is short, and begins with a verb."""

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import nixops_proxmox
from nixops_proxmox.cli import VERBS as VERBS_OF_THE_COMMAND
from nixops_proxmox.cli import build_parser

LONGEST = 70
VERBS = [
    "Add",
    "Answer",
    "Ask",
    "Attach",
    "Back",
    "Boot",
    "Build",
    "Compare",
    "Copy",
    "Create",
    "Delete",
    "Destroy",
    "Do",
    "Exit",
    "Explain",
    "Find",
    "Give",
    "Go",
    "Grow",
    "Imitate",
    "Install",
    "Leave",
    "List",
    "Log",
    "Make",
    "Name",
    "Park",
    "Migrate",
    "Move",
    "Open",
    "Print",
    "Read",
    "Record",
    "Rebuild",
    "Recreate",
    "Remove",
    "Restart",
    "Restore",
    "Return",
    "Run",
    "Save",
    "Say",
    "Select",
    "Send",
    "Serve",
    "Set",
    "Show",
    "Shut",
    "Simulate",
    "Start",
    "Stop",
    "Switch",
    "Take",
    "Trust",
    "Try",
    "Upload",
    "Use",
    "Verify",
    "Work",
    "Write",
]
OF_ARGPARSE = ("help", "version")


def lines(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Each help text of a parser and of what is below it, with the place where it is shown."""
    for action in parser._actions:
        where = f"{parser.prog} {'/'.join(action.option_strings) or action.metavar or action.dest}"
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                yield f"{parser.prog} {choice.dest}", choice.help or ""
            for below in action.choices.values():
                yield from lines(below)
        elif action.dest not in OF_ARGPARSE and action.help:
            yield where, action.help


PACKAGE = Path(nixops_proxmox.__file__).parent
OF_NIXOPS_2 = [*sorted((PACKAGE / "nixops2").rglob("*.py")), PACKAGE / "display" / "arguments.py"]


def written(path: Path) -> Iterator[tuple[str, str]]:
    """The same of a module's source, for the verbs of NixOps 2: to build its parser takes NixOps itself."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.keyword(arg="help", value=ast.Constant(value=str(text))):
                yield f"{path.name}:{node.value.lineno}", text
            case ast.Call(func=ast.Name(id="ProxmoxVerb"), args=[ast.Constant(value=str(text)), *_]):
                yield f"{path.name}:{node.lineno}", text.rstrip(".")


NIXOPS_2 = {text: where for path in OF_NIXOPS_2 for where, text in written(path)}
ALL = {text: where for where, text in lines(build_parser(in_full=True))} | NIXOPS_2


def test_every_verb_and_option_is_there() -> None:
    assert len(ALL) > 80
    assert len([where for where in NIXOPS_2.values() if where.startswith("verbs.py")]) > 8


@pytest.mark.parametrize(("text", "where"), ALL.items(), ids=ALL.values())
def test_a_help_line_is_short_and_begins_with_a_verb(text: str, where: str) -> None:
    assert len(text) < LONGEST, f"{where}: {len(text)} characters"
    assert text.split()[0].rstrip(",;") in VERBS, f"{where}: {text}"


def test_the_readme_names_every_verb() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    first = re.findall(r"(?m)^\$ nixops-proxmox (\w+)", text)
    (others,) = re.findall(r"The other verbs are `([^`]+)`", text)
    assert sorted({*first, *others.split()}) == sorted(VERBS_OF_THE_COMMAND)
