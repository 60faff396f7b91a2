"""How a VM says that it is ours: its SMBIOS UUID first, a notes block and a tag for people, serials for its disks."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from nixops_proxmox.model import Machine, old_copies
from nixops_proxmox.pve.wire.properties import parse_properties

TAG = "nixops"
LONGEST_NOTES = 8192  # PVE's limit on a description, bytes
UNFINISHED = "- unfinished: its SMBIOS UUID is still to be set"
_HEAD = "Managed by nixops-proxmox; please leave these lines alone."


@dataclass(frozen=True)
class Mark:
    deployment: str
    machine: str
    uuid: str


@dataclass(frozen=True)
class Identity:
    """What is minted before the VM exists, and what is known of its disks since. `macs` in the order of the NICs."""

    mark: Mark
    vmid: int
    macs: tuple[str, ...] = ()
    nameless: bool = False  # its disks were made without serials
    volumes: Mapping[str, str] = field(default_factory=dict)  # that are its own, by slot
    copies: Mapping[str, str] = field(default_factory=dict)  # slots by volume: old copies of disks that we moved
    serials_from: str = ""

    @property
    def uuid(self) -> str:
        return self.mark.uuid

    @property
    def serial_base(self) -> str:
        """What the serials of its disks follow from, with their slots."""
        return self.serials_from or self.uuid


def identity_of(machine: Machine) -> Identity:
    facts = machine.facts
    mark = Mark(machine.deployment, machine.name, facts.uuid)
    copies = {copy.volume: copy.slot for copy in old_copies(facts)}
    return Identity(mark, facts.vmid, facts.macs, facts.nameless, facts.volumes, copies, facts.serials_from)


def uuid_of(config: Mapping[str, str]) -> str:
    """The SMBIOS UUID, lower case. Empty if there is none."""
    return parse_properties(config.get("smbios1", "")).get("uuid", "").lower()


def is_ours(config: Mapping[str, str], uuid: str) -> bool:
    """By SMBIOS UUID. A clone's call cannot set that, so an unfinished clone is known by its notes."""
    if not uuid:
        return False
    if uuid_of(config) == uuid.lower():
        return True
    notes = config.get("description", "")
    mark = find_mark(notes)
    return is_unfinished(notes) and mark is not None and mark.uuid.lower() == uuid.lower()


def marked_uuid(config: Mapping[str, str]) -> str:
    """The UUID of a container, lower case: its notes have it, for it has no SMBIOS. Empty if they have none."""
    notes = config.get("description", "")
    mark = find_mark(notes)
    if mark is not None:
        return mark.uuid.lower()
    keeper = _KEEPER.search(notes)
    return keeper[1].lower() if keeper is not None else ""


def print_keeper(uuid: str) -> str:
    """In the notes of a container that keeps volumes: it is no machine, and bears no machine's mark."""
    return f"- keeper: `{uuid}`"


def marked_by(config: Mapping[str, str], uuid: str) -> bool:
    """Do a container's notes say that it is the machine with this UUID?"""
    return bool(uuid) and marked_uuid(config) == uuid.lower()


def is_unfinished(notes: str) -> bool:
    """Are these the notes of a clone whose SMBIOS UUID is not set yet? A finished VM that somebody clones by hand does
    not pass for ours, because its notes do not say this."""
    return find_mark(notes) is not None and UNFINISHED in notes


def print_mark(mark: Mark) -> str:
    return "\n".join(
        (
            _HEAD,
            f"- deployment: `{_escaped(mark.deployment)}`",
            f"- machine: `{_escaped(mark.machine)}`",
            f"- uuid: `{mark.uuid}`",
        )
    )


_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_KEEPER = re.compile(rf"^- keeper: `({_UUID})`$", re.MULTILINE)
_MARK = re.compile(
    re.escape(_HEAD)
    + r"\s*- deployment: `([^`\n]*)`\s*- machine: `([^`\n]*)`"
    + rf"\s*- uuid: `({_UUID})`"
    + rf"(?:\s*{re.escape(UNFINISHED)})?"
)


def find_mark(notes: str) -> Mark | None:
    """The mark in a VM's notes, with any names: people who may edit notes write what they like."""
    match = _MARK.search(notes)
    return Mark(unquote(match[1]), unquote(match[2]), match[3]) if match else None


def notes_without_mark(notes: str) -> str:
    return _MARK.sub("", notes).strip()


def notes_with_mark(text: str, mark: Mark, *, unfinished: bool = False) -> str:
    """The user's text and then the mark, within PVE's limit."""
    block = print_mark(mark) + (f"\n{UNFINISHED}" if unfinished else "")
    room = LONGEST_NOTES - len(block.encode()) - 2
    kept = text.strip().encode()[:room].decode("utf-8", "ignore")
    return f"{kept}\n\n{block}" if kept else block


def _escaped(name: str) -> str:
    return quote(name, safe=" ._-+@")
