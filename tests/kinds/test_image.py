"""An image that is a file here: what is found, how it is called on a storage, and what is refused before it is sent."""

import gzip
import lzma
from pathlib import Path

import pytest

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.kinds.medium import content_name
from nixops_proxmox.kinds.medium.image import open_image
from nixops_proxmox.pve.wire.upload import sha256_of

PLAIN = b"a plain system"


def qcow2(capacity: int, backing: int = 0) -> bytes:
    return b"QFI\xfb" + (3).to_bytes(4) + backing.to_bytes(8) + bytes(8) + capacity.to_bytes(8) + bytes(72)


@pytest.mark.parametrize(
    ("name", "content", "ending", "capacity"),
    [
        ("nixos.raw", PLAIN, ".raw", len(PLAIN)),
        ("nixos.img", PLAIN, ".raw", len(PLAIN)),
        ("nixos.img", qcow2(5 << 30), ".qcow2", 5 << 30),
        ("nixos.qcow2", qcow2(5 << 30), ".qcow2", 5 << 30),
        ("nixos.vmdk", PLAIN, ".vmdk", 0),
        ("nixos.raw.xz", lzma.compress(PLAIN), ".raw", len(PLAIN)),
        ("nixos.qcow2.gz", gzip.compress(qcow2(1 << 20), mtime=0), ".qcow2", 1 << 20),
    ],
)
def test_an_image_is_called_by_what_it_is(
    tmp_path: Path, name: str, content: bytes, ending: str, capacity: int
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    image = open_image(path, tmp_path / "cache")
    assert image.name == f"nixos-{sha256_of(path)[:16]}{ending}"
    assert (image.capacity, image.size) == (capacity, image.path.stat().st_size)


def test_iso_remove_finds_an_image_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / "nixos.raw"
    path.write_bytes(PLAIN)
    assert open_image(path, tmp_path / "cache").name == content_name(path)


def test_an_image_is_unpacked_once_and_whole(tmp_path: Path) -> None:
    path, cache = tmp_path / "nixos.raw.xz", tmp_path / "cache"
    path.write_bytes(lzma.compress(PLAIN))
    unpacked = open_image(path, cache).path
    assert unpacked.read_bytes() == PLAIN and list(cache.iterdir()) == [unpacked]
    unpacked.write_bytes(b"as it was left")
    assert open_image(path, cache).path.read_bytes() == b"as it was left", "it was unpacked again"


@pytest.mark.parametrize("place", ["disk.qcow2", "images/disk.qcow2"])
def test_a_build_of_nix_is_the_one_image_in_its_folder(tmp_path: Path, place: str) -> None:
    built = tmp_path / f"{'a' * 32}-nixos-image"
    (built / "nix-support").mkdir(parents=True)
    (built / "nix-support" / "hydra-build-products").write_text("file qcow2 disk.qcow2")
    (built / place).parent.mkdir(exist_ok=True)
    (built / place).write_bytes(qcow2(1 << 20))
    assert open_image(built, tmp_path / "cache").path == built / place


def test_a_file_of_the_nix_store_is_called_without_its_hash(tmp_path: Path) -> None:
    path = tmp_path / f"{'a' * 32}-nixos.raw"
    path.write_bytes(PLAIN)
    assert open_image(path, tmp_path / "cache").name.startswith("nixos-")


@pytest.mark.parametrize(
    ("files", "asked", "said"),
    [
        ({}, "absent.raw", "there is no file"),
        ({"a.raw": PLAIN, "b.raw": PLAIN}, "", r"exactly one image of a disk, and has a\.raw, b\.raw"),
        ({"notes.txt": PLAIN}, "", "exactly one image of a disk, and has none"),
        ({"notes.txt": PLAIN}, "notes.txt", "does not end as the name of an image of a disk does"),
        ({"a.qcow2": PLAIN}, "a.qcow2", "is named as a qcow2 image, and is none"),
        ({"a.qcow2": qcow2(1 << 20, backing=104)}, "a.qcow2", "takes none that has a backing file"),
        ({"a.raw.xz": b"not packed"}, "a.raw.xz", "cannot unpack"),
        ({"a.raw.gz": gzip.compress(PLAIN, mtime=0)[:-9]}, "a.raw.gz", "cannot unpack"),
    ],
)
def test_what_pve_would_refuse_is_refused_before_it_is_sent(
    tmp_path: Path, files: dict[str, bytes], asked: str, said: str
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        open_image(folder / asked, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.raw")), "a part of an image passes for a whole one"
