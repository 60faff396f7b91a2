"""Commands that the pages show, and those that the tests run."""

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nixops_proxmox.cli import VERBS, build_parser

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "nixops-proxmox"


@dataclass(frozen=True)
class Shown:
    """A command of a console block: the page, and its words without the prompt, variables and what it is piped into."""

    page: str
    words: tuple[str, ...]

    @property
    def program(self) -> str:
        return self.words[0]


def shown_commands() -> Iterator[Shown]:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    pages += sorted((ROOT / "examples").rglob("*.md"))
    for page in pages:
        for block in re.findall(r"(?ms)^ *```console\n(.*?)^ *```$", page.read_text()):
            for line in joined(block):
                yield from (Shown(str(page.relative_to(ROOT)), words) for words in commands_in(line))


def joined(block: str) -> list[str]:
    """The lines that begin with a prompt, each with what continues it."""
    lines: list[str] = []
    goes_on = False
    for line in block.splitlines():
        text = line.strip()
        if goes_on:
            lines[-1] += " " + text.removesuffix("\\")
        elif text.startswith(("$ ", "# ")):
            lines.append(text[2:].removesuffix("\\"))
        goes_on = (goes_on or text.startswith(("$ ", "# "))) and (text.endswith("\\") or lines[-1].count('"') % 2 == 1)
    return lines


def commands_in(line: str) -> Iterator[tuple[str, ...]]:
    words: list[str] = []
    into_a_file = False
    for word in [*shlex.split(line, comments=True), ";"]:
        if word in ("|", ";", "&&"):
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words:
                yield tuple(words)
            words = []
        elif word != ">" and not into_a_file:
            words.append(word)
        into_a_file = word == ">"


def verb_path(words: tuple[str, ...]) -> tuple[str, ...]:
    """`("volume", "list")` of `nixops-proxmox -v volume list`."""
    parser: argparse.ArgumentParser | None = in_full()
    found: list[str] = []
    for word in words[1:]:
        below = choices_of(parser) if parser is not None else {}
        if word in below:
            found.append(word)
            parser = below[word]
    return tuple(found)


def options_of(words: tuple[str, ...]) -> frozenset[str]:
    """Its options, up to what is another program's."""
    ours = words[: words.index("--")] if "--" in words else words
    return frozenset(word.partition("=")[0] for word in ours[1:] if re.match(r"--?[a-z]", word))


@cache
def in_full() -> argparse.ArgumentParser:
    return build_parser(in_full=True)


def choices_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


@cache
def run_by_tests() -> frozenset[tuple[str, ...]]:
    """The words of each call and list in the tests that has a verb among its texts."""
    found = set()
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if "docs" in path.relative_to(ROOT / "tests").parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            values = (
                node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.List | ast.Tuple) else []
            )
            words = [word for value in values for word in texts_of(value)]
            if VERBS_KNOWN & set(words):
                found.add(tuple(words))
    return frozenset(found)


VERBS_KNOWN = frozenset(VERBS)


def texts_of(node: ast.expr) -> list[str]:
    match node:
        case ast.Constant(value=str(text)):
            return text.split() if text.partition(" ")[0] in VERBS_KNOWN or text.startswith("--") else [text]
        case ast.Starred(value=ast.List(elts=elts) | ast.Tuple(elts=elts)) | ast.List(elts=elts) | ast.Tuple(elts=elts):
            return [word for one in elts for word in texts_of(one)]
    return []


def is_run(words: tuple[str, ...]) -> bool:
    """Does a test run this verb, with all of these options at once?"""
    path, options = verb_path(words), options_of(words)
    return any(options <= set(one) and in_order(path, one) for one in run_by_tests())


def in_order(path: tuple[str, ...], words: tuple[str, ...]) -> bool:
    rest = iter(words)
    return all(word in rest for word in path)
