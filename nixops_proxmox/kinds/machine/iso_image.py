"""A small ISO 9660 image with Rock Ridge and Joliet names, of a few files in one folder. Pure."""

import struct
from collections.abc import Mapping, Sequence

SECTOR = 2048
SYSTEM, PRIMARY, JOLIET, END = 16, 16, 17, 18
TABLES = (19, 20, 21, 22)  # path tables: little and big endian, for the plain and for the Joliet names
ROOTS = (23, 24)  # the folder, with the plain and with the Joliet names
FIRST_FILE = 25
DATE = bytes((70, 1, 1, 0, 0, 0, 0))  # 1970: the same files give the same image
LONG_DATE = b"1970010100000000\0"
FOLDER, FILE = 0o040555, 0o100444
JOLIET_ESCAPE = b"%/E"  # UCS-2, level 3


def iso_image(label: str, files: Mapping[str, bytes]) -> bytes:
    """`label`: up to 16 characters. `files`: their content, by name (ASCII)."""
    names = sorted(files)
    starts, at = {}, FIRST_FILE
    for name in names:
        starts[name] = at
        at += _sectors(len(files[name]))
    places = [(name, starts[name], len(files[name])) for name in names]
    image = bytearray(at * SECTOR)

    def put(sector: int, data: bytes) -> None:
        image[sector * SECTOR : sector * SECTOR + len(data)] = data

    put(PRIMARY, _descriptor(1, label.encode(), b"", ROOTS[0], TABLES[:2], at))
    put(JOLIET, _descriptor(2, label.encode("utf-16-be"), JOLIET_ESCAPE, ROOTS[1], TABLES[2:], at))
    put(END, b"\xffCD001\x01")
    for root, tables in zip(ROOTS, (TABLES[:2], TABLES[2:]), strict=True):
        put(tables[0], struct.pack("<BBIH", 1, 0, root, 1) + b"\0\0")
        put(tables[1], struct.pack(">BBIH", 1, 0, root, 1) + b"\0\0")
    put(ROOTS[0], _folder(ROOTS[0], places, joliet=False))
    put(ROOTS[1], _folder(ROOTS[1], places, joliet=True))
    for name in names:
        put(starts[name], files[name])
    return bytes(image)


def _sectors(size: int) -> int:
    return max(1, -(-size // SECTOR))


def _both(form: str, number: int) -> bytes:
    """The number twice, little and big endian, as the standard wants it."""
    return struct.pack(f"<{form}", number) + struct.pack(f">{form}", number)


def _descriptor(kind: int, label: bytes, escape: bytes, root: int, tables: Sequence[int], sectors: int) -> bytes:
    blank = b" " if kind == 1 else b"\0 "  # in UCS-2

    def text(size: int, content: bytes = b"") -> bytes:
        return (content + blank * size)[:size]

    parts = [
        bytes((kind,)) + b"CD001\x01\0" + text(32) + text(32, label) + bytes(8) + _both("I", sectors),
        escape.ljust(32, b"\0") + _both("H", 1) + _both("H", 1) + _both("H", SECTOR) + _both("I", 10),
        struct.pack("<II", tables[0], 0) + struct.pack(">II", tables[1], 0),
        _record(b"\0", root, SECTOR, folder=True),
        text(128) + text(128) + text(128) + text(128) + text(37) + text(37) + text(37),
        LONG_DATE + LONG_DATE + b"0" * 16 + b"\0" + LONG_DATE + b"\x01\0",
    ]
    return b"".join(parts)


def _record(name: bytes, sector: int, size: int, *, folder: bool, extra: bytes = b"") -> bytes:
    """One entry of a folder."""
    pad = b"" if len(name) % 2 else b"\0"
    fixed = _both("I", sector) + _both("I", size) + DATE + bytes((2 if folder else 0, 0, 0)) + _both("H", 1)
    body = b"\0" + fixed + bytes((len(name),)) + name + pad + extra
    body += b"\0" * ((len(body) + 1) % 2)
    return bytes((len(body) + 1,)) + body


def _folder(root: int, places: Sequence[tuple[str, int, int]], *, joliet: bool) -> bytes:
    marks = (b"", b"") if joliet else (_shares_names() + _posix(FOLDER) + _extension(), _posix(FOLDER))
    records = [
        _record(name, root, SECTOR, folder=True, extra=extra) for name, extra in zip((b"\0", b"\1"), marks, strict=True)
    ]
    for number, (name, sector, size) in enumerate(places):
        short = name.encode("utf-16-be") if joliet else f"FILE{number}.;1".encode()
        extra = b"" if joliet else _posix(FILE) + _name(name)
        records.append(_record(short, sector, size, folder=False, extra=extra))
    return b"".join(records)


# Rock Ridge


def _shares_names() -> bytes:
    return b"SP\x07\x01\xbe\xef\0"


def _extension() -> bytes:
    identifier = b"RRIP_1991A"
    return b"ER" + bytes((8 + len(identifier), 1, len(identifier), 0, 0, 1)) + identifier


def _posix(mode: int) -> bytes:
    return b"PX\x24\x01" + _both("I", mode) + _both("I", 1) + _both("I", 0) + _both("I", 0)


def _name(name: str) -> bytes:
    return b"NM" + bytes((5 + len(name), 1, 0)) + name.encode("ascii")
