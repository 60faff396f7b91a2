"""VyOS's configuration of routing: compared unit by unit, and changed in one commit on trial.

1.5 takes a commit back that is not confirmed. Up to 1.4, a commit that is not saved is gone after a restart.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from nixops_proxmox.errors import RouterError
from nixops_proxmox.routers.parts import RouterParts
from nixops_proxmox.routers.restarting import restart_of
from nixops_proxmox.routers.routing import Comparison, Owner, TrialMode, Unclaimed
from nixops_proxmox.routers.vyos_api import VyosApi
from nixops_proxmox.routers.vyos_paths import (
    SECTIONS,
    Leaves,
    Path,
    Unit,
    bears,
    has_room,
    marked_leaves,
    replaced,
    sort_key,
    unclaimed,
    units_in,
    units_of,
    within,
)
from nixops_proxmox.spec.marks import bears_mark

STARTED = "commit-confirm"  # in the answer of a router that has started its timer
QUICK = 15.0  # seconds for an answer that shows that it is there
Operation = Mapping[str, object]


@dataclass(frozen=True)
class UnitChange:
    """A unit as it is, and as it will be."""

    path: Path
    have: Leaves
    want: Leaves
    whole: bool  # is all of it ours?

    def operations(self) -> Iterator[Operation]:
        """What is all ours is deleted and set in the same commit, so that nothing empty is left over."""
        if self.whole or not self.want:
            if self.have:
                yield _operation("delete", self.path)
            yield from (_operation("set", (*self.path, *leaf)) for leaf in _in_order(self.want))
            return
        gone = self.have - self.want
        stay = {leaf for leaf in gone if any(leaf in replaced(self.path, new, self.have) for new in self.want)}
        yield from (_operation("delete", (*self.path, *leaf)) for leaf in _in_order(gone - stay))
        yield from (_operation("set", (*self.path, *leaf)) for leaf in _in_order(self.want - self.have))


class VyosRouting:
    def __init__(self, api: VyosApi) -> None:
        self._api = api

    def exclusive(self) -> AbstractContextManager[object]:
        return self._api.lock

    def describe(self) -> str:
        return f"VyOS {self._api.release()}"

    @property
    def restart(self) -> Callable[[], None] | None:
        return restart_of(self._api.profile)

    @property
    def trial(self) -> TrialMode:
        return TrialMode.TIMER if self._api.release() == "1.5" else TrialMode.RESTART

    def outline(self, wanted: RouterParts) -> Sequence[str]:
        return [unit.title for unit in units_of(wanted, self._api.release(), "")]

    def compare(self, wanted: RouterParts, owner: Owner) -> Comparison:
        version, there = self._api.release(), dict(self._there())
        known = dict(_parse(text) for text in owner.known)
        mine = {path for path in there if bears(there[path], owner.mark)}
        mine |= {path for path in there if path in known and not has_room(path, version)}
        return compare(units_of(wanted, version, owner.mark), there, known, mine, owner.mark, whole=wanted.whole)

    def find_unclaimed(self, wanted: RouterParts, mark: str) -> Unclaimed:
        version, there = self._api.release(), dict(self._there())
        units = units_of(wanted, version, mark)
        found = {path: unit for path, unit in unclaimed(units, there) if has_room(path, version)}
        marked = {path: marked_leaves(path, there[path], mark) for path in found}
        mine = {path for path in there if bears(there[path], mark)} | set(found)
        change = compare(units, {**there, **marked}, {}, mine, mark, whole=True)
        parts = [f"{' '.join(path)} ({unit.title})" for path, unit in found.items()]
        steps = [UnitChange(path, there[path], leaves, whole=False) for path, leaves in marked.items()]
        return Unclaimed(parts, (*change.strangers, *change.lines), steps)

    def claim(self, found: Unclaimed) -> None:
        """In one commit. It changes texts alone, so that it needs no trial."""
        with self.exclusive():
            self._api.configure(_operations(found.work))
            self.keep()

    def _there(self) -> Iterator[tuple[Path, Leaves]]:
        for section in SECTIONS:
            yield from units_in(section, self._api.show(*section))

    def begin(self, change: Comparison, minutes: int) -> TrialMode:
        operations = _operations(change.work)
        if self._api.release() != "1.5":
            self._api.configure(operations)
            return TrialMode.RESTART
        told = self._api.call_json("/configure", {"commands": operations, "confirm_time": minutes})
        return TrialMode.TIMER if STARTED in str(told) else TrialMode.RESTART  # early ones do not know `confirm_time`

    def is_alive(self) -> bool:
        try:
            self._api.web.renew(QUICK)
            self._api.show("system", "host-name")
        except RouterError:
            return False
        finally:
            self._api.web.renew()
        return True

    def confirm(self) -> bool:
        return "stopped" in str(self._api.call_json("/configure", {"op": "confirm"}))

    def finish(self, sleep: Callable[[float], None]) -> None:
        del sleep
        if self.trial is TrialMode.TIMER:
            self.confirm()

    def keep(self) -> None:
        """Safe to repeat: it saves what is running."""
        self._api.call("/config-file", {"op": "save"})

    def undo(self, change: Comparison) -> None:
        """Safe to repeat: it looks at what is there, for a commit may have failed without a word."""
        there = dict(self._there())
        steps = [UnitChange(one.path, there.get(one.path, frozenset()), one.have, one.whole) for one in change.work]
        self._api.configure(_operations([step for step in steps if step.have != step.want]))


def compare(
    wanted: Sequence[Unit],
    there: Mapping[Path, Leaves],
    known: Mapping[Path, Leaves],
    mine: Collection[Path],
    mark: str,
    *,
    whole: bool,
) -> Comparison:
    """Pure. `there`: all units that the router has; `mine`: those of ours; `known`: what we have told it before.
    `whole` False: nothing of ours goes."""
    steps: list[UnitChange] = []
    lines: list[str] = []
    strangers: list[str] = []
    for unit in wanted:
        have = there.get(unit.path, frozenset())
        if unit.path in there and unit.path not in mine:
            strangers.append(f"it has {' '.join(unit.path)}, which is not ours ({unit.title})")
            continue
        want = _joined(unit, have, known.get(unit.path, frozenset()))
        if have != want:
            steps.append(UnitChange(unit.path, have, want, not unit.is_shared))
            lines += _lines(unit, have, want) if have else [f"{unit.title}: missing"]
    kept = {unit.path for unit in wanted}
    for path in sorted(set(mine) - kept if whole else (), key=sort_key):
        foreign = _foreign(path, there[path], known.get(path, frozenset()), mark)
        strangers += [f"{' '.join(path)} is no longer wanted, and others have put in: {one}" for one in foreign]
        steps.append(UnitChange(path, there[path], frozenset(), not foreign))
        lines.append(f"{' '.join(path)}: not described any more")
    told = {unit.path: unit.leaves for unit in wanted}
    before = {path: leaves for path, leaves in known.items() if path in mine or path in told}
    before |= {path: before.get(path, frozenset()) | leaves for path, leaves in told.items()}
    then = told if whole else {**known, **told}
    return Comparison(bool(mine), lines, strangers, _written(before), _written(then), work=steps)


def _joined(unit: Unit, have: Leaves, told: Leaves) -> Leaves:
    """What the unit is to be. Where others may have set more, that stays."""
    if not unit.is_shared:
        return unit.leaves
    gone = {leaf for new in unit.leaves for leaf in replaced(unit.path, new, have)} | (told - unit.leaves)
    kept = {leaf for leaf in have - gone if not within(leaf, unit.leaves)}
    return frozenset(kept) | unit.leaves


def _foreign(path: Path, have: Leaves, told: Leaves, mark: str) -> list[str]:
    """What others have put into a unit that they may put something into. Without a record, we cannot tell."""
    if path[-2] not in ("vif", "shared-network-name") or not told:
        return [" ".join(leaf) for leaf in _in_order(have) if "static-mapping" in leaf]
    return [" ".join(leaf) for leaf in _in_order(have - told) if not within(leaf, told) and not _is_mark(leaf, mark)]


def _is_mark(leaf: Path, mark: str) -> bool:
    return leaf[0] == "description" and bears_mark(leaf[-1], mark)


def _lines(unit: Unit, have: Leaves, want: Leaves) -> Iterator[str]:
    gone, new = have - want, want - have
    changed = {leaf: next(iter(old), ()) for leaf in new if (old := replaced(unit.path, leaf, gone))}
    for leaf in _in_order(new):
        words = " ".join(leaf[:-1])
        if leaf in changed:
            yield f"{unit.title}: {words}: {changed[leaf][-1]} becomes {leaf[-1]}"
        else:
            yield f"{unit.title}: {' '.join(leaf)} is missing"
    yield from (
        f"{unit.title}: {' '.join(leaf)} is not wanted" for leaf in _in_order(gone - frozenset(changed.values()))
    )


def _operations(steps: Sequence[UnitChange]) -> list[Operation]:
    """Deletions first: one thing may make room for another."""
    found = [one for step in steps for one in step.operations()]
    return sorted(found, key=lambda one: one["op"] != "delete")


def _operation(op: str, path: Path) -> Operation:
    return {"op": op, "path": list(path)}


def _in_order(paths: Leaves | set[Path]) -> list[Path]:
    return sorted(paths, key=sort_key)


def _written(units: Mapping[Path, Leaves]) -> list[str]:
    return [json.dumps([list(path), [list(leaf) for leaf in _in_order(units[path])]]) for path in sorted(units)]


def _parse(text: str) -> tuple[Path, Leaves]:
    """ValueError or TypeError for a record that cannot be read."""
    path, leaves = json.loads(text)
    return tuple(path), frozenset(tuple(leaf) for leaf in leaves)
