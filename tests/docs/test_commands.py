"""Every command that a page shows is run by a test, or it is said here why not."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import shown
from tests.docs.shown import PROGRAM, ROOT, Shown

COMMANDS = sorted(set(shown.shown_commands()), key=lambda one: (one.page, one.words))
OURS = [one for one in COMMANDS if one.program == PROGRAM]
# What no test types in these words: a test that shows the same, and why that is enough.
SHOWN_OTHERWISE = {
    "adopt --as --deployment": ("tests/e2e/test_pages.py", "it types the commands of docs/existing-cluster.md"),
    "adopt --as --deployment --dry-run --out": ("tests/e2e/test_pages.py", "as above"),
    "init --read-only": ("tests/e2e/test_pages.py", "it types the commands of docs/existing-cluster.md"),
    "adopt --tfstate": ("tests/contract/test_adopt.py", "the verb only hands the file's path on"),
    "adopt --dry-run --tfstate": ("tests/contract/test_adopt.py", "the verb only hands the file's path on"),
    "adopt --out --tfstate": ("tests/contract/test_adopt.py", "the verb only hands the file's path on"),
    "adopt --dry-run --pool": ("tests/contract/test_adopt.py", "the verb only hands the pool's name on"),
    "export dot": ("tests/cli/test_export.py", "one test is run with the name of each format"),
    "export svg --out": ("tests/cli/test_export.py", "one test is run with the name of each format"),
    "export mermaid": ("tests/cli/test_export.py", "one test is run with the name of each format"),
    "export prometheus --out --port": ("tests/cli/test_export.py", "each option is tried by itself"),
}
NIXOPS_OTHERWISE = {"migrate": "tests/contract/test_migrate.py"}  # the lab of those tests has one node
# Programs of others, and of ours that are no part of the command: who runs them.
PROGRAMS = {
    "cat": "it is the system's",
    "export": "it is the shell's",
    "sed": "it is the system's",
    "pipx": "tests/test_installed.py installs the same package into a virtualenv",
    "uv": "tests/test_installed.py installs the same package into a virtualenv",
    "pveum": "it is typed as root on a node of a real Proxmox VE; tests/pve checks the names of its privileges",
    "pvesh": "it is typed as root on a node of a real Proxmox VE",
    "pass": "it is the user's password store",
    "ansible": "tests/e2e/test_exports.py runs it, where its collections can be had",
    "dot": "it is Graphviz's; tests/messages/test_exports.py reads the text that it gets",
    "chmod": "it is the system's",
    "ssh": "tests/e2e/test_behind_a_gateway.py goes through a jump user",
    "nixops": "tests/nixops runs NixOps 2 itself, with these words: see below",
    "scripts/check": "CI runs it",
    "scripts/fix": "it changes the checkout; CI runs scripts/check, which says what it would change",
    "scripts/test": "CI runs it",
    "scripts/slow": "it is run once a week",
    "scripts/site": "tests/docs/test_site.py builds the same",
    "scripts/record": "tests/docs/test_recordings.py compares what it has made, and runs it once a week",
    "scripts/bench": "tests/test_bench.py",
    "scripts/demo": "tests/test_demo.py, and the other stories tests/e2e/test_forge.py and test_laboratory.py",
    "scripts/measure_changes": "tests/e2e/test_measured_changes.py",
    "scripts/seed_bugs": "tests/seeds",
}


def short(one: Shown) -> str:
    return " ".join([*shown.verb_path(one.words), *sorted(shown.options_of(one.words))])


@pytest.mark.parametrize("one", OURS, ids=lambda one: f"{one.page}: {' '.join(one.words[1:])}")
def test_a_command_that_is_shown_is_understood(one: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        shown.in_full().parse_args(list(one.words[1:]))
    except SystemExit as end:
        assert end.code == 0, capsys.readouterr().err


def test_a_command_that_is_shown_is_run_by_a_test() -> None:
    not_run = {short(one) for one in OURS if not shown.is_run(one.words)}
    assert not_run == set(SHOWN_OTHERWISE)


def test_what_is_shown_otherwise_is_shown_by_a_test_that_exists() -> None:
    places = {word for _, text in SHOWN_OTHERWISE.items() for word in text[:1]}
    places |= set(NIXOPS_OTHERWISE.values())
    places |= {word.rstrip(",:;") for why in PROGRAMS.values() for word in why.split() if word.startswith("tests/")}
    assert {place for place in places if not (ROOT / place).exists()} == set()


def test_each_program_that_is_shown_has_somebody_who_runs_it() -> None:
    assert {one.program for one in COMMANDS} - {PROGRAM} == set(PROGRAMS)


def test_a_command_of_nixops_that_is_shown_is_run_by_a_test() -> None:
    """By its verb: `deploy`, or `plan` after `proxmox`."""
    texts = "\n".join(path.read_text() for path in sorted((ROOT / "tests" / "nixops").glob("*.py")))
    for one in COMMANDS:
        if one.program == "nixops":
            verb = next(word for word in one.words[1:] if word not in ("proxmox", "-d", "shop", "--confirm"))
            known = verb in NIXOPS_OTHERWISE or re.search(rf"[\"' ]{verb}[\"' ]", texts)
            assert known, " ".join(one.words)


def in_text(page: Path) -> Iterator[list[str]]:
    text = re.sub(r"(?s)```.*?```", "", page.read_text())
    for found in re.findall(rf"`{PROGRAM} ([^`]+)`", text):
        yield found.split()


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.stem)
def test_options_that_a_text_names_exist(page: Path) -> None:
    for words in in_text(page):
        parser = shown.in_full()
        for word in shown.verb_path((PROGRAM, *words)):
            parser = shown.choices_of(parser)[word]
        known = {option for action in parser._actions for option in action.option_strings} | {"-h"}
        assert shown.options_of((PROGRAM, *words)) <= known, " ".join(words)


def test_the_commands_of_a_block_are_all_found() -> None:
    block = "$ nixops-proxmox plan --out F # save it\nsaved in F\n$ A=1 nixops-proxmox export dot | dot -Tsvg > n.svg\n"
    found = [words for line in shown.joined(block) for words in shown.commands_in(line)]
    assert found == [
        (PROGRAM, "plan", "--out", "F"),
        (PROGRAM, "export", "dot"),
        ("dot", "-Tsvg"),
    ]


def test_a_command_that_no_test_runs_is_noticed() -> None:
    assert shown.is_run((PROGRAM, "deploy"))
    assert not shown.is_run((PROGRAM, "deploy", "--not-there"))
    assert not shown.is_run((PROGRAM, "volume", "delete", "--remove"))
