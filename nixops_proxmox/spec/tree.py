"""What was written, as a tree whose every value knows its option path, and the mistakes found in it."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from nixops_proxmox.errors import SpecError
from nixops_proxmox.texts import head

Scalar = None | bool | int | float | str
TreeValue = Scalar | tuple["Node", ...] | dict[str, "Node"]

_DEEPEST = 16  # levels below a machine; the deepest option needs 6
_LONGEST = 60  # characters of a value that an error shows


@dataclass(frozen=True)
class Node:
    """A value and where it was written. An attribute set has no nulls: they mean "not set"."""

    path: str
    value: TreeValue

    def plain(self) -> object:
        """The value without its paths."""
        if isinstance(self.value, dict):
            return {name: node.plain() for name, node in self.value.items()}
        if isinstance(self.value, tuple):
            return [node.plain() for node in self.value]
        return self.value


@dataclass(frozen=True)
class Mistake:
    path: str
    text: str
    hint: str = ""


@dataclass
class Mistakes:
    """Collected, so that all of a network's are told at once."""

    found: list[Mistake] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, path: str, text: str, *, hint: str = "") -> None:
        mistake = Mistake(path, text, hint)
        if mistake not in self.found:
            self.found.append(mistake)

    def warn(self, path: str, text: str) -> None:
        self.warnings.append(f"{path}: {text}")

    def below(self, path: str) -> bool:
        return any(mistake.path.startswith(path) for mistake in self.found)

    def error(self) -> SpecError:
        """One line for each. `path` is the first one's."""
        hints = dict.fromkeys(mistake.hint for mistake in self.found if mistake.hint)
        lines = [f"{mistake.path}: {mistake.text}" for mistake in self.found]
        error = SpecError("\n".join(lines), hint="\n".join(hints))
        error.path = self.found[0].path if self.found else ""
        return error


def grow(path: str, data: object, mistakes: Mistakes, depth: int = 0) -> Node:
    """The tree of JSON-like data. What no option could be (a number that is none, text that is not Unicode, a maze of
    levels) becomes a mistake and null."""
    if depth > _DEEPEST:
        mistakes.add(path, f"is nested too deeply: no option has more than {_DEEPEST} levels")
        return Node(path, None)
    match data:
        case None | bool():
            return Node(path, data)
        case int() if abs(data) < 1 << 63:
            return Node(path, data)
        case float() if math.isfinite(data):
            return Node(path, data)
        case str() if _is_text(data):
            return Node(path, data)
        case Mapping():
            nodes = {str(name): grow(below(path, name), value, mistakes, depth + 1) for name, value in data.items()}
            return Node(path, {name: node for name, node in nodes.items() if node.value is not None})
        case list() | tuple():
            return Node(path, tuple(grow(f"{path}[{i}]", item, mistakes, depth + 1) for i, item in enumerate(data)))
        case _:
            mistakes.add(path, f"is no value that an option can have: {head(ascii(data), _LONGEST)}")
            return Node(path, None)


def below(path: str, name: object) -> str:
    """The path of an attribute. Names that are not plain words are quoted, as in Nix."""
    word = str(name)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_'-]*", word):
        word = json.dumps(word)
    return f"{path}.{word}" if path else word


def show(value: object) -> str:
    """A value on one line of bounded length, as JSON."""
    return head(json.dumps(value, ensure_ascii=True, default=str), _LONGEST)


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean X?)`, or nothing."""
    folded = {name.lower(): name for name in known}
    found = get_close_matches(word.lower()[:80], folded, n=1, cutoff=0.6)
    return f" (did you mean {folded[found[0]]}?)" if found else ""


def _is_text(text: str) -> bool:
    return "\x00" not in text and not re.search(r"[\ud800-\udfff]", text)
