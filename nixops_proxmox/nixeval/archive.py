"""The hash by which Nix knows a folder: of its archive format (NAR), as `nix hash path` prints it."""

import base64
import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path


def nar_hash(path: Path) -> str:
    """`sha256-…` in base 64. Raises OSError for what cannot be read."""
    digest = hashlib.sha256()
    for part in (_text(b"nix-archive-1"), *_node(path)):
        digest.update(part)
    return f"sha256-{base64.b64encode(digest.digest()).decode()}"


def _node(path: Path) -> Iterator[bytes]:
    mode = path.lstat().st_mode
    yield _text(b"(")
    yield _text(b"type")
    if stat.S_ISLNK(mode):
        yield _text(b"symlink") + _text(b"target") + _text(bytes(path.readlink()))
    elif stat.S_ISDIR(mode):
        yield _text(b"directory")
        for entry in sorted(path.iterdir(), key=lambda one: bytes(Path(one.name))):
            yield _text(b"entry") + _text(b"(") + _text(b"name") + _text(bytes(Path(entry.name))) + _text(b"node")
            yield from _node(entry)
            yield _text(b")")
    else:
        executable = _text(b"executable") + _text(b"") if mode & stat.S_IXUSR else b""
        yield _text(b"regular") + executable + _text(b"contents") + _text(path.read_bytes())
    yield _text(b")")


def _text(value: bytes) -> bytes:
    """Its length in eight bytes, and zeros up to the next multiple of eight."""
    return len(value).to_bytes(8, "little") + value + bytes(-len(value) % 8)
