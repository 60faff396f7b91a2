"""Volumes' bytes: qcow2 files, whatever format the storage claims, so that every volume can be snapshot and linked.

Only what came from outside (ISO images, uploads) may be of another format; the file's first bytes tell.
"""

import asyncio
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from nixops_proxmox.lab.machines.base import Volume

QCOW2_MAGIC = b"QFI\xfb"
TIMEOUT = 600.0  # a full copy of a large disk


class VolumeFailed(Exception):
    """qemu-img's own words, or the system's."""


def file_format(path: Path) -> str:
    """qcow2 or raw, by the file's first bytes."""
    with path.open("rb") as file:
        return "qcow2" if file.read(4) == QCOW2_MAGIC else "raw"


def tpm_directory(volume: Volume) -> Path:
    """Where swtpm keeps the state that PVE would have on the volume."""
    return volume.path.with_name(volume.path.name + ".tpm")


def create_argv(path: Path, size: int) -> list[str]:
    return ["qemu-img", "create", "-q", "-f", "qcow2", str(path), str(-(-size // 512) * 512)]


def link_argv(base: Path, target: Path) -> list[str]:
    return ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", file_format(base), str(target)]


def copy_argv(source: Path, target: Path) -> list[str]:
    """-U: the source may be a running VM's; what it is writing just now may be missing, as after a power cut."""
    return ["qemu-img", "convert", "-q", "-U", "-f", file_format(source), "-O", "qcow2", str(source), str(target)]


def resize_argv(path: Path, size: int) -> list[str]:
    return ["qemu-img", "resize", "-q", "-f", file_format(path), str(path), str(size)]


def snapshot_argv(path: Path, verb: str, name: str) -> list[str]:
    """`verb`: -c (create), -a (go back to it), -d (delete)."""
    return ["qemu-img", "snapshot", "-q", verb, name, str(path)]


async def run_image_tool(argv: Sequence[str]) -> bytes:
    """Run qemu-img, or what makes a CD; raises VolumeFailed."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), TIMEOUT)
    except (TimeoutError, asyncio.CancelledError):
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise VolumeFailed(err.decode(errors="replace").strip() or f"{argv[0]} exited with {process.returncode}")
    return out


async def create(volume: Volume) -> None:
    volume.path.parent.mkdir(parents=True, exist_ok=True)
    await run_image_tool(create_argv(volume.path, volume.size))


async def remove(volume: Volume) -> None:
    volume.path.unlink(missing_ok=True)
    shutil.rmtree(tpm_directory(volume), ignore_errors=True)


async def copy(source: Volume, target: Volume) -> None:
    """A copy under another name first: an interrupted one is never taken for a volume."""
    target.path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.path.with_name(target.path.name + ".part")
    try:
        await run_image_tool(copy_argv(source.path, unfinished))
        unfinished.replace(target.path)
    finally:
        unfinished.unlink(missing_ok=True)
    if tpm_directory(source).is_dir():
        shutil.copytree(tpm_directory(source), tpm_directory(target), dirs_exist_ok=True)
    await grow(target)


async def link(base: Volume, target: Volume) -> None:
    target.path.parent.mkdir(parents=True, exist_ok=True)
    await run_image_tool(link_argv(base.path, target.path))
    if tpm_directory(base).is_dir():
        shutil.copytree(tpm_directory(base), tpm_directory(target), dirs_exist_ok=True)


def burn_argv(tree: Path, iso: Path, label: str) -> list[str]:
    """As PVE does it with genisoimage."""
    to, rock_ridge = ("-o", str(iso), "-V", label), ("-J", "-R", "-iso-level", "3")
    return ["xorriso", "-as", "mkisofs", "-quiet", *to, *rock_ridge, str(tree)]


async def burn(volume: Volume, label: str, files: Mapping[str, str]) -> None:
    """In a new file: a guest that runs has the old one open, and reads the new one when it is started again."""
    with tempfile.TemporaryDirectory(dir=volume.path.parent) as folder:
        tree, iso, made = (Path(folder, name) for name in ("tree", "iso", "made"))
        tree.mkdir()
        for name, text in files.items():
            (tree / name).write_text(text)
        await run_image_tool(burn_argv(tree, iso, label))
        await run_image_tool(copy_argv(iso, made))
        made.replace(volume.path)
    await grow(volume)


async def virtual_size(path: Path) -> int:
    """Bytes that the guest sees."""
    found: int = json.loads(await run_image_tool(["qemu-img", "info", "-U", "--output=json", str(path)]))[
        "virtual-size"
    ]
    return found


async def grow(volume: Volume) -> None:
    """To the size that the storage has it down for; never smaller (an import may be larger than declared)."""
    if volume.size > await virtual_size(volume.path):
        await run_image_tool(resize_argv(volume.path, volume.size))


async def is_blank(path: Path, scratch: Path) -> bool:
    """Nothing was ever written to the first sectors."""
    argv = [
        "qemu-img",
        "dd",
        "-U",
        "-f",
        file_format(path),
        "-O",
        "raw",
        "bs=4096",
        "count=1",
        f"if={path}",
        f"of={scratch}",
    ]
    try:
        await run_image_tool(argv)
        return not scratch.read_bytes().strip(b"\0")
    finally:
        scratch.unlink(missing_ok=True)


async def fill_variables(path: Path, template: Path, scratch: Path) -> None:
    """OVMF's empty variable store onto a blank efidisk0. Its size is OVMF's, not the storage's: flash is not padded."""
    if await is_blank(path, scratch):
        await run_image_tool(["qemu-img", "convert", "-q", "-O", "qcow2", str(template), str(scratch)])
        scratch.replace(path)
