"""What is in a system, and how two systems differ: by package, as people name them, and in bytes."""

import re
from collections.abc import Iterable, Mapping, Sequence
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
    """`before`, `after`: versions. None: the package is not there. A file without a version is no package. `growth`:
    bytes by which it gets larger."""

    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    growth: int = 0


@dataclass(frozen=True)
class _Package:
    versions: frozenset[str] = frozenset()
    size: int = 0


NONE = _Package()


def list_closure(nix: Nix, system: str, run: Runner) -> dict[str, int] | None:
    """The store paths that a system needs, itself among them, and their bytes. None: it is not in the store here (any
    more)."""
    answer = _query(nix, run, "--requisites", system)
    return None if answer is None else _measure(nix, sorted(answer), run)


def _query(nix: Nix, run: Runner, *words: str) -> list[str] | None:
    """The words of the answer. None: Nix does not say, or not in time."""
    try:
        done = run(nix.argv("nix-store", "--query", *words), timeout=TIMEOUT)
    except OutOfTime:
        return None
    return done.stdout.split() if done.status == 0 else None


def _measure(nix: Nix, paths: Sequence[str], run: Runner) -> dict[str, int] | None:
    """Nix answers in the order of the question."""
    found: dict[str, int] = {}
    for start in range(0, len(paths), AT_ONCE):
        asked = paths[start : start + AT_ONCE]
        sizes = _query(nix, run, "--size", *asked)
        if sizes is None or len(sizes) != len(asked) or not all(size.isdecimal() for size in sizes):
            return None
        found |= zip(asked, map(int, sizes), strict=True)
    return found


def changed_packages(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[PackageChange, ...]:
    """By name. `before`, `after`: the bytes of store paths."""
    old, new = _packages(before), _packages(after)
    names = sorted(name for name in {*old, *new} if old.get(name, NONE).versions != new.get(name, NONE).versions)
    return tuple(_change(name, old.get(name, NONE), new.get(name, NONE)) for name in names)


def _change(name: str, old: _Package, new: _Package) -> PackageChange:
    return PackageChange(name, _sorted(old.versions), _sorted(new.versions), new.size - old.size)


def _packages(paths: Mapping[str, int]) -> dict[str, _Package]:
    found: dict[str, _Package] = {}
    for path, size in paths.items():
        named = _PATH.fullmatch(path)
        versioned = _VERSIONED.fullmatch(_OUTPUT.sub("", named[1])) if named else None
        if versioned:
            known = found.get(versioned[1], NONE)
            found[versioned[1]] = _Package(known.versions | {versioned[2]}, known.size + size)
    return found


def _sorted(versions: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(versions, key=_by_number))


def _by_number(version: str) -> list[tuple[int, str]]:
    """So that 1.10 comes after 1.9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", version)]
