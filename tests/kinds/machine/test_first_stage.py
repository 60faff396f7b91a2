"""What the boot loader starts next, looked at by the script itself, with archives as boot loaders have them."""

import gzip
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nixops_proxmox.kinds.machine.encryption import SEALED
from nixops_proxmox.kinds.machine.first_stage import BOOTS, FirstStage, HasKey, first_stage_script, parse_first_stage

JWE = "eyJhbGciOiJkaXIi.new" * 40
OLD = "eyJhbGciOiJkaXIi.old" * 40
END = b"TRAILER!!!".ljust(512, b"\0")
Pack = Callable[[bytes], bytes]


def cpio(text: str) -> bytes:
    return b"070701" + b"etc/clevis/root.jwe\0" + text.encode() + END


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q"], input=data, capture_output=True, check=True).stdout


PACKED: dict[str, Pack] = {
    "not at all": lambda data: data,
    "gzip": gzip.compress,
    "zstd": zstd,
}
LOADERS = {
    "systemd-boot": {
        "loader/loader.conf": "timeout 5\ndefault nixos-generation-12.conf\n",
        "loader/entries/nixos-generation-12.conf": "title NixOS\nlinux /EFI/l.efi\ninitrd /one\ninitrd /two\n",
        "loader/entries/nixos-generation-9.conf": "initrd /none\n",
    },
    "the last of several": {
        "loader/loader.conf": "default nixos-*\n",
        "loader/entries/nixos-generation-9.conf": "initrd /none\n",
        "loader/entries/nixos-generation-12.conf": "initrd /one\ninitrd /two\n",
    },
    "GRUB": {
        "grub/grub.cfg": 'set default=0\nmenuentry "NixOS" --class nixos {\n  linux ($drive1)//k\n'
        '  initrd ($drive1)//one ($drive1)//two\n}\nmenuentry "old" {\n  initrd ($drive1)//none\n}\n'
    },
    "extlinux": {
        "extlinux/extlinux.conf": "DEFAULT a\nLABEL b\n  INITRD none\nLABEL a\n  LINUX k\n  INITRD ../two,/one\n"
    },
}


def look(folder: Path, loader: str, first: bytes, second: bytes) -> FirstStage:
    boot, sealed = folder / "boot", folder / "sealed"
    for name, text in LOADERS.get(loader, {}).items():
        (boot / name).parent.mkdir(parents=True, exist_ok=True)
        (boot / name).write_text(text)
    boot.mkdir(exist_ok=True)
    sealed.mkdir()
    (sealed / "root.jwe").write_text(JWE)
    (boot / "one").write_bytes(first)
    (boot / "two").write_bytes(second)
    script = first_stage_script().replace(" ".join(BOOTS), str(boot)).replace(SEALED, str(sealed))
    done = subprocess.run(["sh", "-eu", "-c", script], capture_output=True, text=True, check=True)
    return parse_first_stage(done.stdout)


@pytest.mark.parametrize("loader", LOADERS)
def test_the_archives_of_the_entry_that_is_booted_are_looked_at(tmp_path: Path, loader: str) -> None:
    found = look(tmp_path, loader, cpio("other"), cpio(JWE))
    assert found.has is HasKey.YES and found.about.endswith("two")


@pytest.mark.parametrize("how", PACKED)
def test_a_first_stage_with_the_key_of_before_lacks_it_however_it_is_packed(tmp_path: Path, how: str) -> None:
    if how == "zstd" and not shutil.which("zstd"):
        pytest.skip("there is no zstd")
    pack = PACKED[how]
    for name, text, has in (("new", JWE, HasKey.YES), ("old", OLD, HasKey.NO)):
        folder = tmp_path / name
        folder.mkdir()
        found = look(folder, "GRUB", pack(cpio("other")), pack(cpio("more")) + pack(cpio(text)))
        assert found.has is has, (name, found)
        assert "two" in found.about


@pytest.mark.parametrize(
    ("loader", "second", "why"),
    [
        ("lanzaboote", cpio(OLD), "no boot loader that we know"),
        ("GRUB", b"MZ\0\0 a unified kernel image", "packed in a way"),
        ("GRUB", gzip.compress(cpio(OLD), mtime=0)[:-30], "cannot be unpacked to its end"),
        ("GRUB", cpio("microcode") + b"\x28\xb5\x2f\xfd" + b"x" * 2000, "cannot be unpacked to its end"),
    ],
    ids=["another loader", "one image", "broken off", "something behind"],
)
def test_what_cannot_be_seen_is_not_guessed(tmp_path: Path, loader: str, second: bytes, why: str) -> None:
    found = look(tmp_path, loader, cpio("other"), second)
    assert found.has is HasKey.UNKNOWN and why in found.about


@pytest.mark.parametrize(
    "printed", ["", "nixops-proxmox-first-stage\n", "nixops-proxmox-first-stage maybe\n", "x has\n"]
)
def test_what_tells_nothing_is_refused(printed: str) -> None:
    with pytest.raises(ValueError, match="not told"):
        parse_first_stage(printed)
