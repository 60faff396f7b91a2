"""Streaming a file to a storage: constant memory, progress, checksum, fields in the order that PVE's parser needs."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nixops_proxmox.core.ports import OnBytes

if TYPE_CHECKING:
    from requests_toolbelt import MultipartEncoderMonitor


def no_progress(_done: int, _total: int) -> None:
    """Ignore it."""


@dataclass(frozen=True)
class Upload:
    """A file and the name it gets on the storage."""

    path: Path
    filename: str
    progress: OnBytes = no_progress


def multipart(upload: Upload, fields: Mapping[str, str]) -> tuple[Any, str]:
    """(body, content type). The body is read from the file as it is sent and closes it at its end."""
    from requests_toolbelt import MultipartEncoder, MultipartEncoderMonitor

    file = upload.path.open("rb")
    parts: list[tuple[str, Any]] = [*fields.items(), ("filename", (upload.filename, file, "application/octet-stream"))]
    encoder = MultipartEncoder(fields=parts)
    total = encoder.len
    monitor = MultipartEncoderMonitor(encoder, lambda sent: upload.progress(min(sent.bytes_read, total), total))
    return _Closing(monitor, file), encoder.content_type


class _Closing:
    """A body that closes its file once it was read to the end."""

    def __init__(self, body: "MultipartEncoderMonitor", file: Any) -> None:
        self._body, self._file = body, file
        self.len = body.len

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._body.read(size)
        if not data:
            self._file.close()
        return data

    def __del__(self) -> None:
        self._file.close()


def sha256_of(path: Path, progress: OnBytes = no_progress) -> str:
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            done += len(block)
            progress(done, total)
    return digest.hexdigest()


def without_hash(name: str) -> str:
    """Without what the Nix store puts before a name."""
    return re.sub(r"^[a-z0-9]{32}-", "", name)


def stored_name(filename: str) -> str:
    """The name that PVE gives an uploaded file: no folder, and anything unusual replaced."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", filename.replace("\\", "/").rpartition("/")[2])
