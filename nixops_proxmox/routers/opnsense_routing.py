"""OPNsense's aliases, port forwards, rules and host overrides (26.1 and later).

It has no commits: rows are written, and act when they are applied. Up to 26.1, it takes rules of the filter back that
were applied with a savepoint and not confirmed within 60 seconds; forwards, aliases and names it does not.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from nixops_proxmox.errors import ConfigError, RouterError, RouterOutcomeUnknown
from nixops_proxmox.routers.opnsense_rows import (
    ALIAS,
    HOST,
    RULE,
    TABLES,
    Fields,
    Table,
    TableRow,
    bears,
    differing,
    rows_of,
)
from nixops_proxmox.routers.parts import RouterParts
from nixops_proxmox.routers.profile import RouterProfile
from nixops_proxmox.routers.restarting import restart_of
from nixops_proxmox.routers.routing import Comparison, Owner, TrialMode, Unclaimed
from nixops_proxmox.routers.web import Web
from nixops_proxmox.spec.marks import is_marked, with_mark

EVERYTHING = {"current": 1, "rowCount": -1, "searchPhrase": ""}  # without it, a search shows a few rows
TIMER = 65.0  # seconds after which it has taken back what was not confirmed
QUICK = 15.0  # seconds for an answer that shows that it is there
APPLY = {ALIAS: "firewall/alias/reconfigure", HOST: "unbound/service/reconfigure"}


@dataclass(frozen=True)
class RowChange:
    """A row of ours as it is, and as it will be; None: there is none. `uuid`: of the one that is there."""

    table: Table
    key: tuple[str, ...]
    have: Fields | None
    want: Fields | None
    uuid: str = ""


class OpnsenseRouting:
    """`restart` has no use here: a change that is written lasts."""

    def __init__(self, profile: RouterProfile, web: Web) -> None:
        self._profile, self._web, self._lock = profile, web, threading.RLock()
        self._revision = ""  # of the savepoint that the next confirmation is for

    def exclusive(self) -> AbstractContextManager[object]:
        return self._lock

    def describe(self) -> str:
        """Its release is only told to users who may see its updates."""
        status, answer = self._web.call("GET", "/api/core/firmware/status")
        product = answer.get("product") if status == 200 and isinstance(answer, Mapping) else None
        version = product.get("product_version") if isinstance(product, Mapping) else None
        return f"OPNsense {version}" if isinstance(version, str) else "OPNsense"

    @property
    def trial(self) -> TrialMode:
        return TrialMode.TIMER if self._revision else TrialMode.LASTS

    @property
    def restart(self) -> Callable[[], None] | None:
        return restart_of(self._profile)

    def outline(self, wanted: RouterParts) -> Sequence[str]:
        return [row.title for row in rows_of(wanted, "")]

    # What there is.

    def compare(self, wanted: RouterParts, owner: Owner) -> Comparison:
        """What a machine needs before its first boot, its API cannot make."""
        rows = rows_of(wanted, owner.mark) if wanted.whole else []
        there = {table: self._rows(table) for table in TABLES}
        return compare(rows, there, owner.mark, whole=wanted.whole)

    def find_unclaimed(self, wanted: RouterParts, mark: str) -> Unclaimed:
        rows = rows_of(wanted, mark)
        there = {table: self._rows(table) for table in TABLES}
        found = dict(unclaimed(rows, there))
        marked = {uuid: with_mark(have.get(row.table.mark, ""), mark) for uuid, (row, have) in found.items()}
        then = {
            table: [{**row, table.mark: marked[row["uuid"]]} if row.get("uuid") in marked else row for row in rows]
            for table, rows in there.items()
        }
        change = compare(rows, then, mark, whole=True)
        parts = [row.title for row, _ in found.values()]
        work = [(row.table, uuid, marked[uuid]) for uuid, (row, _) in found.items()]
        return Unclaimed(parts, (*change.strangers, *change.lines), work)

    def claim(self, found: Unclaimed) -> None:
        with self.exclusive():
            for table, uuid, text in found.work:
                self._checked(f"{table.place}/set{table.item}/{uuid}", {table.key: {table.mark: text}})
            self.keep()

    def _rows(self, table: Table) -> list[Mapping[str, str]]:
        found = self._call(f"{table.place}/search{table.item}", EVERYTHING).get("rows", [])
        return [{str(name): _text(value) for name, value in row.items()} for row in found]

    def is_alive(self) -> bool:
        try:
            self._web.renew(QUICK)
            self._call(f"{ALIAS.place}/searchItem", {**EVERYTHING, "rowCount": 1})
        except RouterError:
            return False
        finally:
            self._web.renew()
        return True

    # What is done.

    def begin(self, change: Comparison, minutes: int) -> TrialMode:
        """A refused row leaves nothing half done: what was written before it is put back, and never acted."""
        del minutes
        self._revision = self._savepoint() if any(one.table is RULE for one in change.work) else ""
        try:
            for one in _in_order(change.work):
                self._write(one)
        except RouterOutcomeUnknown:
            raise
        except RouterError:
            self._put_back(change)
            raise
        self._apply(self._revision)
        return self.trial

    def _savepoint(self) -> str:
        """Its revision; empty: this release has none."""
        status, answer = self._web.call("POST", "/api/firewall/filter/savepoint", {})
        return str(answer.get("revision", "")) if status == 200 and isinstance(answer, Mapping) else ""

    def _write(self, one: RowChange) -> None:
        place, item = one.table.place, one.table.item
        if one.want is None:
            self._checked(f"{place}/del{item}/{one.uuid}", {})
        else:
            command = f"set{item}/{one.uuid}" if one.uuid else f"add{item}"
            self._checked(f"{place}/{command}", {one.table.key: _nested(one.want)})

    def _apply(self, revision: str = "") -> None:
        """Aliases before the rules that name them."""
        self._call(APPLY[ALIAS], {})
        self._call(f"firewall/filter/apply{f'/{revision}' if revision else ''}", {})
        self._call(APPLY[HOST], {})

    def confirm(self) -> bool:
        """It answers with HTTP 200, too, where nothing waits any more."""
        revision, self._revision = self._revision, ""
        if not revision:
            return False
        answer = self._call(f"firewall/filter/cancelRollback/{revision}", {})
        return "error" not in str(answer.get("status", "error")).lower()

    def finish(self, sleep: Callable[[float], None]) -> None:
        """We do not know the savepoint of a run that was killed. So we let its timer run out."""
        if self._savepoint():
            sleep(TIMER)

    def keep(self) -> None:
        """Safe to repeat: its services take over what is written."""
        self._apply()

    def undo(self, change: Comparison) -> None:
        self._put_back(change)
        self._apply()

    def _put_back(self, change: Comparison) -> None:
        """Safe to repeat: it looks at what is there."""
        there = {
            (table, _key_of(row, table)): row["uuid"]
            for table in TABLES
            for row in self._rows(table)
            if any(one.table is table and _key_of(row, table) == one.key for one in change.work)
        }
        back = [
            RowChange(one.table, one.key, one.want, one.have, there.get((one.table, one.key), ""))
            for one in change.work
        ]
        for one in _in_order([one for one in back if one.want is not None or one.uuid]):
            self._write(one)

    def _checked(self, path: str, body: object) -> None:
        answer = self._call(path, body)
        if answer.get("result") not in ("saved", "deleted", "not found"):
            wrong = "; ".join(f"{name.partition('.')[2]}: {text}" for name, text in _validations(answer))
            raise RouterError(f"{self._profile.title}: {path}: {wrong or answer}")

    def _call(self, path: str, body: object) -> Mapping[str, Any]:
        with self._lock:
            status, answer = self._web.call("POST", f"/api/{path}", body)
        if status == 404:
            raise ConfigError(
                f"{self._profile.title}: {path}: it does not know this call",
                hint="routing needs OPNsense 26.1 or later",
            )
        if status != 200 or not isinstance(answer, Mapping):
            told = answer.get("errorMessage") if isinstance(answer, Mapping) else None
            hint = "look at username and secret, and at the user's privileges" if status in (401, 403) else ""
            raise RouterError(f"{self._profile.title}: {path}: {told or f'HTTP status {status}'}", hint=hint)
        return answer


def compare(
    wanted: Sequence[TableRow], there: Mapping[Table, Sequence[Fields]], mark: str, *, whole: bool
) -> Comparison:
    """Pure. `whole` False: nothing of ours goes."""
    work: list[RowChange] = []
    lines: list[str] = []
    strangers: list[str] = []
    mine = {(t, _key_of(row, t)): row for t, rows in there.items() for row in rows if bears(row, t, mark)}
    theirs = {(t, _key_of(row, t)) for t, rows in there.items() for row in rows if not bears(row, t, mark)}
    for row in wanted:
        place = (row.table, row.key)
        have = mine.get(place)
        if have is None and place in theirs and row.table is not RULE:
            strangers.append(f"it has one like this, which is not ours: {row.title}")
        elif have is None:
            work.append(RowChange(row.table, row.key, None, row.fields))
            lines.append(f"{row.title}: missing")
        elif names := differing(have, row):
            before = {name: have.get(name, "") for name in row.fields}
            work.append(RowChange(row.table, row.key, before, row.fields, have["uuid"]))
            lines += [f"{row.title}: {name}: {have.get(name, '')!r} becomes {row.fields[name]!r}" for name in names]
    kept = {(row.table, row.key) for row in wanted}
    for (table, key), have in mine.items() if whole else ():
        if (table, key) not in kept:
            fields = {name: value for name, value in have.items() if name != "uuid" and not name.startswith("%")}
            work.append(RowChange(table, key, fields, None, have["uuid"]))
            lines.append(f"{table.key} {' '.join(key)}: not described any more")
    return Comparison(bool(mine), lines, strangers, work=work)


def unclaimed(
    wanted: Sequence[TableRow], there: Mapping[Table, Sequence[Fields]]
) -> Iterator[tuple[str, tuple[TableRow, Fields]]]:
    """By UUID: the rows without a mark that stand for these, by their keys, or for rules by what they say."""
    free = {table: [row for row in rows if not is_marked(row.get(table.mark, ""))] for table, rows in there.items()}
    for row in wanted:
        same = [one for one in free[row.table] if _stands_for(one, row)]
        if same:
            free[row.table].remove(same[0])
            yield same[0]["uuid"], (row, same[0])


def _stands_for(have: Fields, row: TableRow) -> bool:
    if row.table is not RULE:
        return _key_of(have, row.table) == row.key
    return not set(differing(have, row)) - {"sequence", row.table.mark}


def _in_order(work: Sequence[RowChange]) -> Iterator[RowChange]:
    """Aliases come before what names them, and go after it."""
    written = [one for one in work if one.want is not None]
    yield from sorted(written, key=lambda one: TABLES.index(one.table))
    yield from sorted((one for one in work if one.want is None), key=lambda one: -TABLES.index(one.table))


def _key_of(row: Fields, table: Table) -> tuple[str, ...]:
    return tuple(row.get(name, "").lower() for name in table.keys)


def _nested(fields: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in fields.items():
        outer, dot, inner = name.partition(".")
        if dot:
            found.setdefault(outer, {})[inner] = value
        else:
            found[name] = value
    return found


def _validations(answer: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from (answer.get("validations") or {}).items()


def _text(value: object) -> str:
    return "" if value is None else str(value)
