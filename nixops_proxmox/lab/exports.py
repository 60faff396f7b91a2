"""What file servers have: the folders that several clusters of one lab mount. Only backups are shared so."""

import datetime
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

SERVER, EXPORT = "192.0.2.9", "/export"  # of a storage that does not say its own
NAME = re.compile(r"vzdump-(?:qemu|lxc)-(\d+)-(\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d)\.((?:vma|tar)(?:\.\w+)?)")


class Mounted(Protocol):
    """As much of a storage as this needs."""

    @property
    def kind(self) -> str: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Described:
    """An archive by its files. `size` in bytes, `created`: epoch."""

    size: int
    format: str
    vmid: int
    created: int
    notes: str


class Exports:
    """`root` None: each cluster has all for itself."""

    def __init__(self, root: Path | None) -> None:
        self._root = root

    def folder(self, storage: Mounted) -> Path | None:
        """Where the storage's files are, if a file server has them."""
        if self._root is None or storage.kind != "nfs":
            return None
        server, export = export_of(storage)
        return self._root / re.sub(r"[^\w.-]", "_", f"{server}{export}")

    def archives(self, storage: Mounted) -> set[str] | None:
        """The names of those that are complete. None: no file server has them."""
        folder = self.folder(storage)
        if folder is None:
            return None
        return {path.name for path in (folder / "dump").glob("vzdump-*") if NAME.fullmatch(path.name)}

    def describe(self, storage: Mounted, name: str) -> Described:
        path = (self.folder(storage) or Path()) / "dump" / name
        found = NAME.fullmatch(name)
        assert found is not None
        stamp = datetime.datetime.strptime(found[2], "%Y_%m_%d-%H_%M_%S").replace(tzinfo=datetime.UTC)
        notes = notes_of(path)
        return Described(
            archive_size(path),
            found[3],
            int(found[1]),
            int(stamp.timestamp()),
            notes.read_text() if notes.exists() else "",
        )


def export_of(storage: Mounted) -> tuple[str, str]:
    """(server, export) of an NFS storage."""
    return str(storage.settings.get("server", SERVER)), str(storage.settings.get("export", EXPORT))


def notes_of(archive: Path) -> Path:
    """Where a storage on files keeps the notes of an archive, as PVE does."""
    return archive.with_name(f"{archive.name}.notes")


def archive_size(path: Path) -> int:
    """A tenth of its disks' sizes, as if that was what compression leaves."""
    disks = json.loads(path.read_text())["disks"]
    return int(path.stat().st_size) + sum(int(disk["size"]) for disk in disks.values()) // 10
