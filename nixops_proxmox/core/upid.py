"""PVE's names of tasks (UPIDs), by which the journal and the engine know a task."""

import re
from dataclasses import dataclass

from nixops_proxmox.errors import NotFound

_UPID = re.compile(
    r"UPID:(?P<node>[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?):[0-9A-Fa-f]{8}:[0-9A-Fa-f]{8,9}:(?P<start>[0-9A-Fa-f]{8}):"
    r"(?P<type>[^:\s/]+):(?P<id>[^:\s/]*):(?P<user>[^:\s/]+):"
)


@dataclass(frozen=True)
class Upid:
    """UPID:node:pid:pstart:starttime:type:id:user: — numbers in hex."""

    text: str
    node: str
    started: int
    type: str
    id: str
    user: str


def find_upid(text: object) -> Upid | None:
    """The UPID, or None if it is none (some calls answer null or "OK" when there was nothing to do)."""
    match = _UPID.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    return Upid(match[0], match["node"], int(match["start"], 16), match["type"], match["id"], match["user"])


def parse_upid(text: str) -> Upid:
    """NotFound for text that is not a UPID: no PVE can know such a task."""
    upid = find_upid(text)
    if upid is None:
        raise NotFound(f"{text!r} is not a PVE task's name (UPID)")
    return upid
