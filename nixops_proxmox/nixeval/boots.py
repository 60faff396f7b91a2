"""What of a system only a boot takes up, and what NixOS refuses to change while a system runs."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

LINKS = {"kernel": "kernel", "initrd": "initrd", "kernel-modules": "kernel modules"}  # what people call them
PARAMETERS = "kernel-params"
INIT, INHIBITORS = "init-interface-version", "switch-inhibitors"
TEXTS = (PARAMETERS, INIT, INHIBITORS)
LONGEST = 1 << 16  # characters of a text
_KERNEL = re.compile(r".*/[0-9a-z]{32}-linux[a-z-]*-([0-9][0-9A-Za-z.+_-]*)/[^/]+")


def read_boots(system: Path) -> dict[str, str]:
    """By the name in the system: where a link leads, what a text says. What is not there is left out. So is all of a
    system that is in a store elsewhere."""
    found = {name: _target(system / name) for name in LINKS} | {name: _text(system / name) for name in TEXTS}
    return {name: value for name, value in found.items() if value}


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # no link, or not there
        return ""


def _text(file: Path) -> str:
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            return opened.read(LONGEST).strip()
    except OSError:
        return ""


def find_later(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
    """What changes and takes effect only when the machine boots, as people call it. `before`, `after`: of
    `read_boots`. What one of them does not know is no change."""
    changed = [name for name in (*LINKS, PARAMETERS) if before.get(name, "") != after.get(name, "")]
    known = [name for name in changed if name in before and name in after]
    return tuple(_told(name, before[name], after[name]) for name in known)


def _told(name: str, before: str, after: str) -> str:
    versions = [found[1] for found in (_KERNEL.fullmatch(before), _KERNEL.fullmatch(after)) if found]
    if name == "kernel" and len(versions) == 2 and versions[0] != versions[1]:
        return f"kernel {versions[0]} → {versions[1]}"
    return LINKS.get(name, "kernel parameters")


def find_refusals(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
    """Why NixOS does not switch from one to the other while the first runs. Empty: it does."""
    return tuple(_refusals(before, after))


def _refusals(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    old, new = before.get(INIT), after.get(INIT)
    if old is not None and new is not None and old != new:
        yield f"init: interface {old} → {new}"
    old, new = before.get(INHIBITORS), after.get(INHIBITORS)
    if old is not None and new is not None and old != new:
        yield from _inhibitors(old, new)


def _inhibitors(before: str, after: str) -> Iterator[str]:
    """NixOS 26.05 has an object of names, of which those count that both have. Before it, a list of paths."""
    old, new = _parse(before), _parse(after)
    if old is None or new is None:
        yield "switch inhibitors"
        return
    for name in sorted(old):
        if name in new and old[name] != new[name]:
            yield f"{name}: {old[name]} → {new[name]}"


def _parse(text: str) -> Mapping[str, object] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
