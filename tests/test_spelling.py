"""Texts recommend verbs, and every door spells them in its own words."""

import argparse
import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from typing_extensions import override

from nixops_proxmox import cli
from nixops_proxmox.cli import spelling as command_line
from nixops_proxmox.display.progress import Plain, Relay
from nixops_proxmox.errors import DeployError
from nixops_proxmox.messages.plans import change_json, describe
from nixops_proxmox.model import Change, Phase
from nixops_proxmox.nixops2 import spelling as nixops2
from nixops_proxmox.nixops4 import spelling as nixops4
from nixops_proxmox.operations.read_only import Planned
from nixops_proxmox.spelling import Verb, command, recalled, spell, stored

SOURCE = Path(cli.__file__).parents[1]
PARTS = sorted(
    path
    for path in SOURCE.rglob("*.py")
    if path.relative_to(SOURCE).parts[0] not in ("cli", "display", "lab") and path.name != "spelling.py"
)
# Words of the command line that stand for themselves: a program, an option of PVE's or a noun.
VERBS = "|".join(verb for verb in cli.VERBS if verb not in ("lab", "iso", "profile", "ssh", "scp"))
FLAGS = r"--(?:allow-re\w+|break-lock|endpoints|uuid|yes|state|flake|file|dry-run)\b"
ORDERS = r"\bdeploy (?:it|again|once|first|with)\b"
TOO_PLAIN = re.compile(rf"nixops-proxmox (?:{'|'.join(cli.VERBS)})\b|`(?:{VERBS})(?: --?\w[^`]*)?`|{FLAGS}|{ORDERS}")


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Every string of a module that is no docstring, and no argument of `command`."""
    tree = ast.parse(path.read_text())
    silent: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            silent.add(node.value)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "command":
            silent |= set(ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in silent:
            yield node.lineno, node.value


def test_no_text_outside_of_the_command_line_names_its_verbs() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{line}: {text}"
        for path in PARTS
        for line, text in texts(path)
        if TOO_PLAIN.search(text)
    ]
    assert found == [], "say command(Verb.…): each door spells it"


def test_the_search_finds_what_it_looks_for() -> None:
    for text in (
        "`nixops-proxmox recover`",
        "start the lab: nixops-proxmox lab up",
        "`deploy` makes it",
        "`deploy --x`",
        "add --break-lock",
    ):
        assert TOO_PLAIN.search(text), text


WORDS = {
    Verb.DEPLOY: ["--allow-reboot", "web"],
    Verb.DESTROY: ["web"],
    Verb.STATUS: ["--endpoints"],
    Verb.RESTORE: ["web"],
    Verb.SNAPSHOT_ROLLBACK: ["before", "web"],
    Verb.CONSOLE: ["web"],
    Verb.SSH: ["web"],
    Verb.UNLOCK: ["web"],
    Verb.RECOVERY_TEST: ["web"],
    Verb.RECOVERY_ROTATE: ["web", "--key-file", "-"],
    Verb.REINSTALL: ["web"],
    Verb.MOVE: ["web", "--to", "tenant"],
    Verb.VOLUME_ADOPT: ["data"],
    Verb.VOLUME_DELETE: ["data"],
    Verb.VOLUME_DETACH: ["data"],
}


def commands(spelled: str) -> list[str]:
    found: list[str] = re.findall(r"`([^`]*)`", spelled)
    return found


OPTIONS = (Verb.BREAK_LOCK, Verb.MAKE_ANOTHER, Verb.CONFIRM, Verb.OUTSIDE_WINDOWS)  # of other verbs


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb not in OPTIONS])
def test_the_command_line_has_what_it_spells(verb: Verb) -> None:
    (said,) = commands(command_line.spelling(verb, WORDS.get(verb, [])))
    program, *words = said.split()
    assert program == "nixops-proxmox"
    if verb is Verb.ISO_UPLOAD:
        words.append("file.iso")
    assert cli.parse(words).verb == words[0]


@pytest.mark.parametrize("verb", list(Verb))
def test_nixops4_has_what_it_spells(verb: Verb) -> None:
    for said in commands(nixops4.spelling("nixops4", verb, WORDS.get(verb, []))):
        program, *words = said.split()
        if program == "nixops-proxmox":
            words += ["file.iso"] if verb is Verb.ISO_UPLOAD else []
            assert isinstance(cli.parse(words), argparse.Namespace)
        else:
            assert said in ("nixops4 apply", "allowReboot = true")


def test_a_text_is_spelled_by_the_door() -> None:
    text = f"{command(Verb.DEPLOY, '--allow-recreate')} makes it, {command(Verb.DESTROY, 'web')} forgets it"
    assert spell(text, command_line.spelling) == (
        "`nixops-proxmox deploy --allow-recreate` makes it, `nixops-proxmox destroy web` forgets it"
    )
    assert nixops4.spelled_for("shop")(text) == (
        "`nixops4 apply` with NIXOPS_PROXMOX_ALLOW_RECREATE=1 makes it,"
        " `nixops-proxmox --deployment shop destroy web` forgets it"
    )
    assert nixops4.spelled_for("shop")(f"wait, or {command(Verb.BREAK_LOCK)}") == (
        "wait, or apply once with NIXOPS_PROXMOX_BREAK_LOCK=1"
    )


def test_what_somebody_else_wrote_is_left_as_it_is() -> None:
    for text in ("⟨rm -rf⟩", "⟨deploy `x`⟩", "⟨⟩", "deploy", "⟨deploy⟩", "⟨destroy --yes web⟩", "⟨0 destroy web⟩"):
        assert spell(text, command_line.spelling) == text


def test_each_door_has_a_word_for_machines_that_are_not_described_any_more() -> None:
    assert nixops2.spelled(command(Verb.DEPLOY, "--remove")) == "`nixops deploy --kill-obsolete`"
    assert spell(command(Verb.DEPLOY, "--remove"), command_line.spelling) == "`nixops-proxmox deploy --remove`"


def test_of_what_was_stored_only_ours_is_spelled() -> None:
    forged = "⟨destroy web⟩"
    kept = stored(f"{forged}: {command(Verb.DEPLOY, '--allow-reboot')}")
    assert kept == "<destroy web>: ⟨deploy --allow-reboot⟩"
    assert spell(kept, command_line.spelling) == kept
    assert spell(recalled(kept), command_line.spelling) == "<destroy web>: `nixops-proxmox deploy --allow-reboot`"


def test_a_plan_leaves_the_spelling_to_the_door_that_shows_it() -> None:
    again = command(Verb.DEPLOY, "--allow-recreate")
    change = Change("scsi1", "", "local:1", permission="unused0 holds data", remedy=f"{again} makes a new one")
    assert any(again in line for line in describe(Planned("web", Phase.READY, changes=(change,))))
    assert again in change_json(change)["remedy"]


OLD_WAYS = re.compile(r"\b(?:anew|nobody|(?:is|are) meant|whoever|in vain|unasked)\b", re.IGNORECASE)


ACCOUNTS = "lab/machines/simulated/sandbox.py"  # a guest's /etc/passwd has the account `nobody`


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """All that people read in a module: its strings, docstrings among them, and its comments."""
    source = path.read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


@pytest.mark.parametrize("part", sorted({path.relative_to(SOURCE).parts[0] for path in SOURCE.rglob("*.py")}))
def test_texts_docstrings_and_comments_are_in_plain_english(part: str) -> None:
    paths = sorted((SOURCE / part).rglob("*.py")) or [SOURCE / part]
    found = [
        f"{path.relative_to(SOURCE)}:{line}: {text}"
        for path in paths
        if str(path.relative_to(SOURCE)) != ACCOUNTS
        for line, text in prose(path)
        if OLD_WAYS.search(text)
    ]
    assert found == []


FRAGMENTS = re.compile(r"(?:Of|That of|As it (?:is|was)|For (?:it|people|showing|all threads|one cluster))\b")


def test_a_docstring_does_not_begin_in_the_middle_of_a_sentence() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{node.lineno}: {text}"
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and (text := ast.get_docstring(node))
        and FRAGMENTS.match(text)
    ]
    assert found == []


def test_the_options_of_nix_are_described_in_plain_english() -> None:
    paths = sorted((SOURCE.parent / "nix").rglob("*.nix"))
    assert paths and [path.name for path in paths if OLD_WAYS.search(path.read_text())] == []


def test_old_ways_are_found(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text('"""Make anew."""\nx = f"{1} is meant"  # whoever\n')
    assert [line for line, text in prose(file) if OLD_WAYS.search(text)] == [1, 2, 2]


def test_the_live_board_spells_why_a_machine_failed() -> None:
    told: list[str] = []

    class Watching(Plain):
        @override
        def ended(self, name: str, error: Exception | None) -> None:
            told.append(str(error))

        @override
        def note(self, text: str) -> None:
            told.append(text)

    relay = Relay(Watching(told.append, 0), command_line.spelled)
    relay.ended("web", DeployError(f"{command(Verb.DEPLOY)} first"))
    relay.note(f"{command(Verb.DEPLOY)} waits")
    assert told == ["`nixops-proxmox deploy` first", "`nixops-proxmox deploy` waits"]
