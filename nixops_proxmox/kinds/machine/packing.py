"""Files for a guest, packed so that its tar unpacks them from standard input."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from nixops_proxmox.model import FileForDisk


def pack(files: Iterable[FileForDisk], folders: Mapping[str, int] = MappingProxyType({})) -> bytes:
    """`folders`: modes, by path; they come first."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, mode in folders.items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        for one in files:
            entry = tarfile.TarInfo(one.path.lstrip("/"))
            entry.size, entry.mode, entry.uid, entry.gid = len(one.content), one.mode, one.uid, one.gid
            tar.addfile(entry, io.BytesIO(one.content))
    return packed.getvalue()
