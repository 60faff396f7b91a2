"""The catalogue of seeded bugs: what to change where, and which tests must notice."""

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

CATALOGUE = Path(__file__).with_name("bugs.toml")
SLOW = ("slow", "qemu", "nixops", "netns")
FAST = ("tests", "--ignore=tests/e2e", "--ignore=tests/qemu", "-m", " and ".join(f"not {mark}" for mark in SLOW))


@dataclass(frozen=True)
class Bug:
    """`old`, which stands in `file` exactly once, becomes `new`; `tests` (pytest's words) must notice: empty means the
    fast suite. `equivalent`: why nothing can notice it."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = ()
    equivalent: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        return self.tests or FAST


def read_catalogue(path: Path = CATALOGUE) -> list[Bug]:
    """Raises TypeError for a key that is not known, and for one that is missing."""
    with path.open("rb") as file:
        tables = tomllib.load(file)["bug"]
    return [Bug(**{**table, "tests": tuple(table.get("tests", ()))}) for table in tables]


def find_objection(bug: Bug, root: Path) -> str:
    """Why the bug cannot be seeded in the code below `root`; empty: it can."""
    path = root / bug.file
    if not path.is_file():
        return f"there is no {bug.file}"
    text = path.read_text()
    count = text.count(bug.old)
    if count != 1:
        return f"its text stands {count} times in {bug.file}, and must stand there once"
    if bug.old == bug.new:
        return "it changes nothing"
    if path.suffix == ".py":
        try:
            compile(text.replace(bug.old, bug.new), bug.file, "exec")
        except SyntaxError as error:
            return f"with it, {bug.file} is no Python: {error}"
    gone = [word for word in bug.tests if word.startswith("tests") and not (root / word.partition("::")[0]).exists()]
    return f"there is no {gone[0]}" if gone else ""


def find_twins(bugs: Iterable[Bug]) -> list[str]:
    """Names that stand there twice."""
    names = [bug.name for bug in bugs]
    return sorted({name for name in names if names.count(name) > 1})


def choose(bugs: Sequence[Bug], only: Sequence[str]) -> list[Bug]:
    """Those whose name, or whose file's, has one of the words in it (`/guest/` is a part); without words, all."""
    return [bug for bug in bugs if not only or any(word in bug.name or word in bug.file for word in only)]
