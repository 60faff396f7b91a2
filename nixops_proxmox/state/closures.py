"""Which store paths each deployed system had: a plan names what changes even when the system is gone from here."""

import json
import zlib
from collections.abc import Sequence

from nixops_proxmox.errors import StateError
from nixops_proxmox.state.blobs import BlobStore
from nixops_proxmox.state.cells import as_texts, damaged

LARGEST = 16 << 20  # bytes, unpacked: some hundred thousand paths


def blob_name(system: str) -> str:
    return f"closure:{system}"


def keep_closure(store: BlobStore, system: str, paths: Sequence[str]) -> None:
    """Kept once: a store path never means something else."""
    name = blob_name(system)
    if store.read(name).version:
        return
    try:
        store.write(name, zlib.compress(json.dumps(list(paths)).encode()), after=0)
    except StateError:
        if not store.read(name).version:
            raise  # else another machine got the same system at the same time


def find_closure(store: BlobStore, system: str) -> tuple[str, ...] | None:
    """None: this system was not deployed from here, or by an earlier version."""
    blob = store.read(blob_name(system))
    if blob.version == 0:
        return None
    what = f"the closure of {system}"
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(blob.content, LARGEST)
        return as_texts(json.loads(text), what)
    except (zlib.error, ValueError, RecursionError) as error:
        raise damaged(what, str(error)) from error
