"""The header of a scripted guest's encrypted disk: which key opens which slot. It lies on the disk, as digests."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nixops_proxmox.lab.machines.simulated.body import Output

SPARE = 16  # a new key's slot beside the old one
SEALED = 2  # the slot of the key that the guest unseals by itself
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
    slots: dict[int, str] = field(default_factory=dict)

    @classmethod
    def find(cls, disk: Path, uuid: str) -> "LuksHeader":
        """Raises LuksRefused where no such volume is on the disk."""
        known = json.loads((disk / "disk.json").read_text(encoding="utf-8")).get("luks")
        if known is None or known["uuid"] not in ("", uuid):
            raise LuksRefused(1, "blkid: no such volume")
        return cls(disk, uuid, {int(slot): one for slot, one in known["slots"].items()})

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
        self.slots |= {slot + SPARE: digest(keys[f"root.{slot}"]) for slot in slots}

    def settle(self, keys: Mapping[str, bytes], slots: Sequence[int], emptied: Sequence[int]) -> None:
        new = {slot: digest(keys[f"root.{slot}"]) for slot in slots}
        if any(self.slots.get(slot + SPARE) != one for slot, one in new.items()):
            raise LuksRefused(1, "a new key does not open its slot")
        self.slots = {slot: one for slot, one in (self.slots | new).items() if slot not in emptied}
