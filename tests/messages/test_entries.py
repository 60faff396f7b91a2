"""What the history calls the things that it is about."""

from nixops_proxmox.messages.entries import entry_heads, entry_row
from nixops_proxmox.state import AttemptOutcome, JournalEntry


def entry(kind: str, name: str) -> JournalEntry:
    return JournalEntry(1, name, "Do it", "absent", "ready", 0.0, 1.0, AttemptOutcome.DONE, "", (), kind)


def test_the_head_says_what_the_entries_are_about() -> None:
    web, data = entry("machine", "web"), entry("volume", "data")
    assert [entry_heads([web])[1], entry_heads([data])[1], entry_heads([web, data])[1]] == [
        "machine",
        "volume",
        "machine or volume",
    ]
    assert [entry_row(one, with_kind=True)[1] for one in (web, data)] == ["web", "volume data"]
    assert entry_row(data)[1] == "data", "the head has said it"
