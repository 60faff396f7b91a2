"""What each deployed system consisted of: a plan names what changes even when the system is gone from here."""

import json
import zlib
from dataclasses import asdict

from nixops_proxmox.errors import StateError
from nixops_proxmox.model import SystemContents
from nixops_proxmox.state.blobs import BlobStore
from nixops_proxmox.state.cells import as_number, as_object, as_text, damaged

LARGEST = 16 << 20  # bytes, unpacked: some hundred thousand paths


def blob_name(system: str) -> str:
    return f"system:{system}"


def keep_contents(store: BlobStore, system: str, contents: SystemContents) -> None:
    """Kept once: a store path never means something else."""
    name = blob_name(system)
    if store.read(name).version:
        return
    try:
        store.write(name, zlib.compress(json.dumps(asdict(contents)).encode()), after=0)
    except StateError:
        if not store.read(name).version:
            raise  # else another machine got the same system at the same time


def find_contents(store: BlobStore, system: str) -> SystemContents | None:
    """None: this system was not deployed from here, or by an earlier version."""
    blob = store.read(blob_name(system))
    if blob.version == 0:
        return None
    what = f"the contents of {system}"
    try:
        text = zlib.decompressobj().decompress(blob.content, LARGEST)
        data = as_object(json.loads(text), what)
        paths, boots = as_object(data["paths"], what), as_object(data["boots"], what)
    except (zlib.error, ValueError, KeyError, RecursionError) as error:
        raise damaged(what, str(error)) from error
    return SystemContents(
        {path: as_number(size, what) for path, size in paths.items()},
        {part: as_text(value, what) for part, value in boots.items()},
    )
