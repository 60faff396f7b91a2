"""What `--help` prints: each line says what happens, is short, and begins with a verb."""

import argparse
from collections.abc import Iterator

import pytest

from nixops_proxmox.cli import build_parser

LONGEST = 70
VERBS = [
    "Add",
    "Answer",
    "Back",
    "Boot",
    "Build",
    "Compare",
    "Copy",
    "Create",
    "Delete",
    "Destroy",
    "Find",
    "Go",
    "Imitate",
    "Install",
    "Leave",
    "List",
    "Log",
    "Name",
    "Open",
    "Print",
    "Read",
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


ALL = {text: where for where, text in lines(build_parser())}


def test_every_verb_and_option_is_there() -> None:
    assert len(ALL) > 80


@pytest.mark.parametrize(("text", "where"), ALL.items(), ids=ALL.values())
def test_a_help_line_is_short_and_begins_with_a_verb(text: str, where: str) -> None:
    assert len(text) < LONGEST, f"{where}: {len(text)} characters"
    assert text.split()[0].rstrip(",;") in VERBS, f"{where}: {text}"
