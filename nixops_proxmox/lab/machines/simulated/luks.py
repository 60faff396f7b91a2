"""The headers of a scripted guest's encrypted disks: which key opens which slot. They lie on the disks, as digests."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nixops_proxmox.lab.machines.simulated.body import Output

SPARE = 16  # a new key's slot beside the old one
SEALED = 2  # the slot of the key that the guest unseals by itself, or has in a file on its root
ROOT = "root"  # the volume on the first disk; one on another disk has the name of the disk's slot
KEY_FILE = "/etc/nixops-proxmox/encryption/{}.key"
LOCKED, TAKEN = 90, 91  # exit statuses: no key opens it; a spare slot is in use


class LuksRefused(Exception):
    """Ends a script: its exit status, and what it prints on stderr."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.output = Output(status, b"", f"{text}\n".encode())


def unpack(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        return {name: file.read() for name, file in files.items() if file is not None}


def digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()


@dataclass
class LuksHeader:
    """`slots`: digests by slot. `uuid` empty: it was made just now, and the next who asks says it."""

    disk: Path
    uuid: str = ""
    volume: str = ROOT
    slots: dict[int, str] = field(default_factory=dict)

    @classmethod
    def find(cls, disks: Mapping[str, Path], uuid: str) -> "LuksHeader":
        """`disks`: by volume. Raises LuksRefused where no such volume is on any of them."""
        contents = {name: json.loads((disk / "disk.json").read_text(encoding="utf-8")) for name, disk in disks.items()}
        for wanted in (uuid, ""):
            for name, disk in disks.items():
                known = contents[name].get("luks")
                if known is not None and known["uuid"] == wanted:
                    return cls(disk, uuid, name, {int(slot): one for slot, one in known["slots"].items()})
        raise LuksRefused(1, "blkid: no such volume")

    def save(self) -> None:
        path = self.disk / "disk.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        content["luks"] = {"uuid": self.uuid, "slots": {str(slot): one for slot, one in sorted(self.slots.items())}}
        path.write_text(json.dumps(content), encoding="utf-8")

    @property
    def told(self) -> str:
        header = {"keyslots": {str(slot): {"type": "luks2"} for slot in sorted(self.slots)}}
        return f"nixops-proxmox-luks {self.uuid}\n{json.dumps(header)}\n"

    def opened_by(self, key: bytes) -> int | None:
        return next((slot for slot, one in sorted(self.slots.items()) if one == digest(key)), None)

    def stage(self, keys: Mapping[str, bytes], slots: Sequence[int], *, again: bool) -> None:
        if SEALED not in self.slots and not any(self.opened_by(key) is not None for key in keys.values()):
            raise LuksRefused(LOCKED, "no key opens it")
        for slot in slots:
            if slot + SPARE in self.slots and not again:
                raise LuksRefused(TAKEN, str(slot + SPARE))
        self.slots |= {slot + SPARE: digest(keys[f"{self.volume}.{slot}"]) for slot in slots}

    def settle(self, keys: Mapping[str, bytes], slots: Sequence[int], emptied: Sequence[int]) -> None:
        new = {slot: digest(keys[f"{self.volume}.{slot}"]) for slot in slots}
        if any(self.slots.get(slot + SPARE) != one for slot, one in new.items()):
            raise LuksRefused(1, "a new key does not open its slot")
        self.slots = {slot: one for slot, one in (self.slots | new).items() if slot not in emptied}


def made(keys: Mapping[str, bytes], volume: str, content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a disk has (in disk.json) after the volume was made with the keys. One that a key opens already is kept.
    None: there are no keys for it."""
    theirs = {slot: key for name, key in keys.items() for of, _, slot in (name.partition("."),) if of == volume}
    if not theirs:
        return None
    have = content.get("luks")
    if volume != ROOT and have is not None and {digest(key) for key in theirs.values()} & {*have["slots"].values()}:
        return content
    return {**content, "luks": {"uuid": "", "slots": {slot: digest(key) for slot, key in theirs.items()}}}
