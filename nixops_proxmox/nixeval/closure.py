"""What is in a system, and how two systems differ: by package, as people name them, and in bytes."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nixops_proxmox.nixeval.runner import OutOfTime, Runner
from nixops_proxmox.nixeval.tools import Nix

TIMEOUT = 120.0  # seconds; a store answers thousands of paths in one
AT_ONCE = 1000  # paths on one command line
_PATH = re.compile(r"/nix/store/[0-9a-z]{32}-([0-9A-Za-z+._?=-]+)")
_VERSIONED = re.compile(r"(.+?)-([^A-Za-z].*)")  # Nix's own rule: a version begins at the first dash before no letter
_OUTPUT = re.compile(r"-(bin|data|debug|dev|devdoc|doc|info|lib|man|out|static)$")  # of the same package


@dataclass(frozen=True)
class PackageChange:
    """`before`, `after`: versions; none: the package is not there. A file without a version is no package."""

    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]


def list_closure(nix: Nix, system: str, run: Runner) -> tuple[str, ...] | None:
    """The store paths that a system needs, itself among them; None: it is not in the store here (any more)."""
    answer = _query(nix, run, "--requisites", system)
    return None if answer is None else tuple(sorted(answer))


def _query(nix: Nix, run: Runner, *words: str) -> list[str] | None:
    """The words of the answer; None: Nix does not say, or not in time."""
    try:
        done = run(nix.argv("nix-store", "--query", *words), timeout=TIMEOUT)
    except OutOfTime:
        return None
    return done.stdout.split() if done.status == 0 else None


def measure(nix: Nix, paths: Sequence[str], run: Runner) -> int | None:
    """Bytes of paths that are in the store here; None: Nix does not say."""
    total = 0
    for start in range(0, len(paths), AT_ONCE):
        sizes = _query(nix, run, "--size", *paths[start : start + AT_ONCE])
        if sizes is None or not all(size.isdecimal() for size in sizes):
            return None
        total += sum(map(int, sizes))
    return total


def changed_packages(before: Iterable[str], after: Iterable[str]) -> tuple[PackageChange, ...]:
    """By name. `before`, `after`: store paths."""
    old, new = _versions(before), _versions(after)
    names = sorted({*old, *new})
    changes = [PackageChange(name, _sorted(old.get(name, ())), _sorted(new.get(name, ()))) for name in names]
    return tuple(change for change in changes if change.before != change.after)


def _versions(paths: Iterable[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in paths:
        named = _PATH.fullmatch(path)
        versioned = _VERSIONED.fullmatch(_OUTPUT.sub("", named[1])) if named else None
        if versioned:
            found.setdefault(versioned[1], set()).add(versioned[2])
    return found


def _sorted(versions: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(versions, key=_by_number))


def _by_number(version: str) -> list[tuple[int, str]]:
    """So that 1.10 comes after 1.9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", version)]
