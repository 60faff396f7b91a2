"""An image of a disk, or the template of containers, that is a file here: found in what Nix built, unpacked, and looked
at before it is sent."""

import gzip
import lzma
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.pve.cluster.templates import is_template, template_name
from nixops_proxmox.pve.wire.upload import sha256_of, stored_name, without_hash

QCOW2 = b"QFI\xfb"
HEADER = 32  # bytes of a qcow2 file that tell its size and its backing file
DISKS = (".qcow2", ".raw", ".img", ".vmdk")
PACKED = (".xz", ".gz", ".zst")
STEM = 200  # characters of a file's name that are kept; PVE takes 255 with all that is added
BLOCK = 1 << 20


@dataclass(frozen=True)
class Image:
    """`name`: what it is called on a storage, with the hash of its content. `capacity`: the bytes of its disk; 0: its
    format does not tell."""

    path: Path
    name: str
    size: int
    capacity: int


def find_image(place: Path) -> Path:
    return _find(place, is_image, "image", "image of a disk")


def _find(place: Path, fits: Callable[[str], bool], word: str, what: str) -> Path:
    """The file itself, or the only one that fits in a folder, as Nix's builds are. ConfigError for none, or several."""
    if place.is_file():
        return place
    if not place.is_dir():
        raise ConfigError(f"there is no file {place}", hint=f"build the {word} first, or give Nix's derivation of it")
    found = sorted(path for path in place.rglob("*") if fits(path.name) and path.is_file())
    if len(found) != 1:
        have = ", ".join(path.name for path in found) or "none"
        raise ConfigError(f"{place} must have exactly one {what}, and has {have}", hint="name the file itself")
    return found[0]


def is_image(name: str) -> bool:
    """By its name: an image of a disk, packed or not."""
    return Path(unpacked_name(name)).suffix.lower() in DISKS


def unpacked_name(name: str) -> str:
    return name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in PACKED else name


def open_image(place: Path, cache: Path) -> Image:
    """Look at the image. PVE unpacks none, so one that is packed is unpacked into the folder `cache`, once."""
    path = find_image(place)
    if not is_image(path.name):
        wanted = ", ".join(DISKS)
        raise ConfigError(
            f"{path.name!r} does not end as the name of an image of a disk does",
            hint=f"one of {wanted} is needed, which {', '.join(PACKED)} may follow",
        )
    digest, stem = sha256_of(path)[:16], _stem(path)
    if path.suffix.lower() in PACKED:
        path = _unpacked(path, cache / f"{digest}{Path(unpacked_name(path.name)).suffix.lower()}")
    ending, capacity = _look(path)
    return Image(path, stored_name(f"{stem}-{digest}{ending}"), path.stat().st_size, capacity)


def open_template(place: Path) -> Image:
    """The template of containers. PVE takes it packed, and it has no size of its own."""
    path = _find(place, is_template, "template", "template of containers")
    return Image(path, template_name(path), path.stat().st_size, 0)


def _stem(path: Path) -> str:
    """Without what the Nix store puts before a name."""
    path = Path(unpacked_name(without_hash(path.name)))
    return path.stem[:STEM]


def _look(path: Path) -> tuple[str, int]:
    """How its name ends on a storage, and the size of its disk. ConfigError for one that PVE would refuse."""
    with path.open("rb") as file:
        head = file.read(HEADER)
    if head.startswith(QCOW2) and len(head) == HEADER:
        *_, backing, _, _, capacity = struct.unpack(">4sIQIIQ", head)
        if backing:
            raise ConfigError(
                f"{path} is only what differs from another image, and PVE takes none that has a backing file",
                hint="`qemu-img convert -O qcow2` makes a whole one of it",
            )
        return ".qcow2", capacity
    ending = path.suffix.lower()
    if ending == ".qcow2":
        raise ConfigError(
            f"{path} is named as a qcow2 image, and is none", hint="give it its own ending, or build it again"
        )
    return (".vmdk", 0) if ending == ".vmdk" else (".raw", path.stat().st_size)


def _unpacked(path: Path, target: Path) -> Path:
    """Complete under its name, or not there."""
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            _unpack(path, file)
        Path(temporary).rename(target)
    except (OSError, EOFError, lzma.LZMAError) as error:
        Path(temporary).unlink(missing_ok=True)
        raise ConfigError(f"cannot unpack {path}: {error}", hint=f"is there room in {target.parent}?") from error
    return target


def _unpack(path: Path, into: BinaryIO) -> None:
    ending = path.suffix.lower()
    if ending == ".zst":
        _unpack_zstd(path, into)
        return
    with lzma.open(path) if ending == ".xz" else gzip.open(path) as packed:
        shutil.copyfileobj(packed, into, BLOCK)


def _unpack_zstd(path: Path, into: BinaryIO) -> None:
    program = shutil.which("zstd")
    if program is None:
        raise ConfigError(f"cannot unpack {path}: there is no program `zstd`", hint="install it, or unpack the image")
    done = subprocess.run([program, "-d", "-c", "--", str(path)], stdout=into, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise OSError(done.stderr.decode(errors="replace").strip() or f"zstd ended with status {done.returncode}")
