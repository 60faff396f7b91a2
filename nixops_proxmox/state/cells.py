"""Reads what the database's cells hold: SQLite keeps anything in any column, and a damaged one must be named."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from nixops_proxmox.errors import StateError
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.texts import head, shown_line

T = TypeVar("T")
LAST_MOMENT = 32_503_680_000.0  # seconds since the epoch: the year 3000


def damaged(what: str, value: Any) -> StateError:
    return StateError(
        f"the state is damaged: {what} cannot be {head(shown_line(repr(value)), 80)}",
        hint=f"restore the state from a backup; {command(Verb.RECOVER)} rebuilds the records from the cluster",
    )


def as_text(value: Any, what: str) -> str:
    return _of(str, value, what)


def as_bytes(value: Any, what: str) -> bytes:
    return _of(bytes, value, what)


def as_number(value: Any, what: str) -> int:
    """A count or a version."""
    if isinstance(value, bool) or not 0 <= _of(int, value, what) < 1 << 53:
        raise damaged(what, value)
    return int(value)


def as_moment(value: Any, what: str) -> float:
    """Seconds since the epoch, which a calendar can show."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < LAST_MOMENT:
        raise damaged(what, value)
    return float(value)


def as_object(value: Any, what: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = _of(dict, value, what)
    return found


def as_texts(value: Any, what: str) -> tuple[str, ...]:
    return tuple(as_text(item, what) for item in _of(list, value, what))


def as_objects(value: Any, what: str) -> Sequence[Mapping[str, Any]]:
    return [as_object(item, what) for item in _of(list, value, what)]


def load_json(text: Any) -> Any:
    """Read JSON for SQLAlchemy. JSONDecodeError for everything that is not JSON, numbers and bytes too."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise json.JSONDecodeError(f"{type(error).__name__}: {error}", "", 0) from error


def _of(kind: type[T], value: Any, what: str) -> T:
    if not isinstance(value, kind) or (isinstance(value, float) and not math.isfinite(value)):
        raise damaged(what, value)
    return value
