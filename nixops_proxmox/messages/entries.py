"""Entries of the history."""

from typing import TYPE_CHECKING

from nixops_proxmox.messages.amounts import duration, one_line
from nixops_proxmox.texts import head, moment_text

if TYPE_CHECKING:
    from nixops_proxmox.state import JournalEntry

HEADS = ("when", "machine", "from", "to", "what", "outcome", "took")


def entry_moment(entry: "JournalEntry") -> str:
    return moment_text(entry.began)


def entry_row(entry: "JournalEntry") -> list[str]:
    took = "" if entry.seconds is None or entry.outcome == "seen" else duration(entry.seconds)
    error = one_line(entry.error.partition("\n")[0])
    outcome = head(f"{entry.outcome}: {error}", 70) if error else entry.outcome.value
    return [entry_moment(entry), entry.name, entry.phase_from, entry.phase_to, entry.label, outcome, took]
