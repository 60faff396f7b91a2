"""Writes cpio archives in the kernel's own format (newc), so that the first stage needs neither root nor cpio."""

import stat
from collections.abc import Iterator
from pathlib import Path

DIRECTORY = stat.S_IFDIR | 0o755
LINK = stat.S_IFLNK | 0o777


def entry(name: str, mode: int, data: bytes = b"", inode: int = 0) -> bytes:
    """One member, owned by root, dated 1970 so that equal trees give equal archives."""
    path = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + "".join(f"{field:08X}" for field in fields).encode() + path
    return padded(head) + padded(data)


def padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def pack(tree: Path) -> bytes:
    """The archive of everything below `tree`."""
    members = [entry(*member, inode=number) for number, member in enumerate(walk(tree), start=1)]
    return b"".join([*members, entry("TRAILER!!!", 0)])


def walk(tree: Path) -> Iterator[tuple[str, int, bytes]]:
    for path in sorted(tree.rglob("*")):
        name = str(path.relative_to(tree))
        if path.is_symlink():
            yield name, LINK, str(path.readlink()).encode()
        elif path.is_dir():
            yield name, DIRECTORY, b""
        else:
            yield name, stat.S_IFREG | (path.stat().st_mode & 0o777), path.read_bytes()
