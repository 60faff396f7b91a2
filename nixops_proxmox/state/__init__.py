"""The durable record, in SQLite or PostgreSQL by one path. It holds no secret."""

from nixops_proxmox.state.database import ENVIRONMENT, has_password
from nixops_proxmox.state.holder import Holder, this_process
from nixops_proxmox.state.journal import AttemptOutcome, Journal, JournalEntry
from nixops_proxmox.state.lease import Held, Lease
from nixops_proxmox.state.store import Deployment, State, Stored, open_state

__all__ = [
    "ENVIRONMENT",
    "AttemptOutcome",
    "Deployment",
    "Held",
    "Holder",
    "Journal",
    "JournalEntry",
    "Lease",
    "State",
    "Stored",
    "has_password",
    "open_state",
    "this_process",
]
