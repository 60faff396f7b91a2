"""Entries of the history."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nixops_proxmox.messages.amounts import duration, one_line
from nixops_proxmox.messages.shapes.machines import HistoryEntryJson
from nixops_proxmox.texts import head, moment_text

if TYPE_CHECKING:
    from nixops_proxmox.state import JournalEntry

MACHINE = "machine"  # the kind that needs no word of its own


def entry_heads(entries: "Sequence[JournalEntry]") -> tuple[str, ...]:
    """The second head says what the entries are about: machines, volumes, or both."""
    about = " or ".join(sorted({entry.kind for entry in entries}))
    return ("when", about, "from", "to", "what", "outcome", "took")


def entry_moment(entry: "JournalEntry") -> str:
    return moment_text(entry.began)


def entry_row(entry: "JournalEntry", *, with_kind: bool = False) -> list[str]:
    """`with_kind`: beside machines, there are entries of other kinds."""
    took = "" if entry.seconds is None or entry.outcome == "seen" else duration(entry.seconds)
    error = one_line(entry.error.partition("\n")[0])
    outcome = head(f"{entry.outcome}: {error}", 70) if error else entry.outcome.value
    name = f"{entry.kind} {entry.name}" if with_kind and entry.kind != MACHINE else entry.name
    return [entry_moment(entry), name, entry.phase_from, entry.phase_to, entry.label, outcome, took]


def entry_json(entry: "JournalEntry") -> HistoryEntryJson:
    return {
        "id": entry.id,
        "machine": entry.name,  # of whatever kind: programs have read it by this key before there was another
        "kind": entry.kind,
        "label": entry.label,
        "from": entry.phase_from,
        "to": entry.phase_to,
        "began": entry.began,
        "ended": entry.ended,
        "outcome": entry.outcome.value,
        "error": entry.error,
        "tasks": list(entry.tasks),
    }
