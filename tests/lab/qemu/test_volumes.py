"""Volumes are qcow2 files that can be copied, linked, resized and snapshot; failures have qemu-img's words."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from nixops_proxmox.lab.machines.base import Volume
from nixops_proxmox.lab.machines.qemu import volumes

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
MIB = 2**20


def make_volume(folder: Path, name: str, size: int = 8 * MIB) -> Volume:
    return Volume(f"local-lvm:{name}", folder / "storage" / name, size, "raw")


def write(volume: Volume, text: str) -> None:
    subprocess.run(
        ["qemu-io", "-c", f"write -q -P {ord(text)} 0 64k", str(volume.path)], check=True, capture_output=True
    )


def holds(volume: Volume, text: str) -> bool:
    done = subprocess.run(
        ["qemu-io", "-c", f"read -P {ord(text)} 0 64k", str(volume.path)], capture_output=True, text=True, check=False
    )
    return "verification failed" not in done.stdout + done.stderr


def test_a_volume_claimed_raw_is_qcow2_of_its_size(tmp_path: Path) -> None:
    volume = make_volume(tmp_path, "vm-101-disk-0")
    asyncio.run(volumes.create(volume))
    assert volumes.file_format(volume.path) == "qcow2"
    assert asyncio.run(volumes.virtual_size(volume.path)) == 8 * MIB
    asyncio.run(volumes.run_image_tool(volumes.resize_argv(volume.path, 16 * MIB)))
    assert asyncio.run(volumes.virtual_size(volume.path)) == 16 * MIB


def test_a_copy_is_full_grown_to_its_size_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    source = make_volume(tmp_path, "upload.img")
    source.path.parent.mkdir()
    source.path.write_bytes(b"a" * 65536 + bytes(MIB))
    target = make_volume(tmp_path, "vm-102-disk-0", 4 * MIB)
    asyncio.run(volumes.copy(source, target))
    assert holds(target, "a")
    assert asyncio.run(volumes.virtual_size(target.path)) == 4 * MIB
    source.path.unlink()
    with pytest.raises(FileNotFoundError):
        asyncio.run(volumes.copy(source, target))
    assert holds(target, "a")
    assert sorted(path.name for path in target.path.parent.iterdir()) == ["vm-102-disk-0"]


@pytest.mark.skipif(shutil.which("xorriso") is None, reason="xorriso is not installed")
def test_a_cd_has_the_files_that_were_burnt_last_and_who_has_the_old_one_open_goes_on(tmp_path: Path) -> None:
    drive, plain = make_volume(tmp_path, "vm-101-cloudinit", 4 * MIB), tmp_path / "plain.iso"
    asyncio.run(volumes.create(drive))
    asyncio.run(volumes.burn(drive, "cidata", {"user-data": "one"}))
    with drive.path.open("rb") as file:
        before = file.read()
        asyncio.run(volumes.burn(drive, "cidata", {"user-data": "two", "meta-data": "more"}))
        file.seek(0)
        assert file.read() == before
    assert asyncio.run(volumes.virtual_size(drive.path)) == 4 * MIB
    asyncio.run(volumes.run_image_tool(["qemu-img", "convert", "-O", "raw", str(drive.path), str(plain)]))
    argv = ["xorriso", "-indev", str(plain), "-osirrox", "on", "-extract", "/", str(tmp_path / "found")]
    told = subprocess.run([*argv, "-pvd_info"], check=True, capture_output=True, text=True)
    assert "'cidata'" in told.stdout + told.stderr
    found = {path.name: path.read_text() for path in (tmp_path / "found").iterdir()}
    assert found == {"user-data": "two", "meta-data": "more"}


def test_a_linked_clone_shares_and_then_goes_its_own_way(tmp_path: Path) -> None:
    base, target = make_volume(tmp_path, "base-100-disk-0"), make_volume(tmp_path, "vm-101-disk-0")
    asyncio.run(volumes.create(base))
    write(base, "a")
    asyncio.run(volumes.link(base, target))
    assert holds(target, "a")
    write(target, "b")
    assert holds(base, "a")
    assert holds(target, "b")


def test_a_snapshot_can_be_gone_back_to(tmp_path: Path) -> None:
    volume = make_volume(tmp_path, "vm-101-disk-0")
    asyncio.run(volumes.create(volume))
    write(volume, "a")
    asyncio.run(volumes.run_image_tool(volumes.snapshot_argv(volume.path, "-c", "before")))
    write(volume, "b")
    asyncio.run(volumes.run_image_tool(volumes.snapshot_argv(volume.path, "-a", "before")))
    assert holds(volume, "a")
    with pytest.raises(volumes.VolumeFailed, match="snapshot"):
        asyncio.run(volumes.run_image_tool(volumes.snapshot_argv(volume.path, "-a", "never")))


def test_the_tpms_state_goes_and_comes_with_its_volume(tmp_path: Path) -> None:
    volume, copy = make_volume(tmp_path, "vm-101-disk-1"), make_volume(tmp_path, "vm-102-disk-1")
    asyncio.run(volumes.create(volume))
    volumes.tpm_directory(volume).mkdir()
    (volumes.tpm_directory(volume) / "tpm2-00.permall").write_text("state")
    asyncio.run(volumes.copy(volume, copy))
    assert (volumes.tpm_directory(copy) / "tpm2-00.permall").read_text() == "state"
    asyncio.run(volumes.remove(volume))
    assert not volume.path.exists()
    assert not volumes.tpm_directory(volume).exists()


def test_only_a_blank_efi_disk_is_filled(tmp_path: Path) -> None:
    volume, template = make_volume(tmp_path, "vm-101-disk-2", 540672), tmp_path / "vars.fd"
    template.write_bytes(b"v" * 540672)
    asyncio.run(volumes.create(volume))
    asyncio.run(volumes.fill_variables(volume.path, template, tmp_path / "scratch"))
    assert holds(volume, "v")
    write(volume, "w")
    asyncio.run(volumes.fill_variables(volume.path, template, tmp_path / "scratch"))
    assert holds(volume, "w")
    assert not (tmp_path / "scratch").exists()


def test_removing_what_is_not_there_is_fine(tmp_path: Path) -> None:
    asyncio.run(volumes.remove(make_volume(tmp_path, "vm-101-disk-0")))
