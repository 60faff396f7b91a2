"""The bytes of a simulated disk: a folder with `disk.json` (its tables) and a tree for each file system.

`<path>/now/disk.json`, `<path>/now/parts/<N>/…` (N 0 is a file system without a partition table), and
`<path>/snapshots/<name>/…` of the same shape. ISO images are plain files, and the lab does not look inside.
"""

import errno
import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nixops_proxmox.lab.containers.archive import unpack_into
from nixops_proxmox.lab.machines.base import Volume

LAST_WRITES_SECONDS, LAST_WRITES_PAUSE = 10.0, 0.05


def now(volume: Volume) -> Path:
    return volume.path / "now"


def new_disk(size: int) -> dict[str, Any]:
    return {"size": size, "table": None, "ptuuid": "", "parts": {}, "fs": {}, "boot": None}


def load(volume: Volume) -> dict[str, Any]:
    """What is on the disk; a plain file (an imported image) counts as a disk that boots."""
    if volume.path.is_file():
        return {**new_disk(volume.size), "boot": {"root": "1", "mounts": {}}, "image": True}
    loaded: dict[str, Any] = json.loads((now(volume) / "disk.json").read_text(encoding="utf-8"))
    return loaded


def save(volume: Volume, disk: dict[str, Any]) -> None:
    file = now(volume) / "disk.json"
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(disk, indent=1), encoding="utf-8")
    fresh.replace(file)


def allocate(volume: Volume) -> None:
    (now(volume) / "parts").mkdir(parents=True)
    save(volume, new_disk(volume.size))


def free(volume: Volume) -> None:
    if volume.path.is_dir():
        remove_tree(volume.path)
    else:
        volume.path.unlink(missing_ok=True)


def resize(volume: Volume, size: int) -> None:
    save(volume, {**load(volume), "size": size})


def copy(source: Volume, target: Volume) -> None:
    """Copy what is there now, not the snapshots. An image file becomes a disk that boots a plain system. The target may
    be allocated already."""
    if now(target).exists():
        remove_tree(now(target))
    if source.path.is_file():
        (now(target) / "parts").mkdir(parents=True)
        disk = {**new_disk(target.size), "table": "gpt", "ptuuid": "image", "image": True}
        disk["parts"] = {
            "1": {"start": 2048, "end": target.size // 512 - 34, "type": "8300", "name": "root", "uuid": "1"}
        }
        disk["fs"] = {"1": {"type": "ext4", "uuid": f"image-{source.path.name}", "label": "nixos"}}
        disk["boot"] = {"root": "1", "mounts": {}}
        (now(target) / "parts" / "1").mkdir()
        save(target, disk)
        return
    target.path.mkdir(parents=True, exist_ok=True)
    copy_tree(now(source), now(target))
    save(target, {**load(target), "size": max(target.size, load(source)["size"])})


def unpack(archive: Path, volume: Volume, files: Mapping[str, tuple[str, int]]) -> None:
    """A file system without a partition table, with what is in the archive: the root of a container."""
    disk = {**load(volume), "fs": {"0": {"type": "ext4", "uuid": f"container-{volume.volid}", "label": ""}}}
    save(volume, {**disk, "boot": {"root": "0", "mounts": {}}})
    unpack_into(archive, now(volume) / "parts" / "0", files)


def mirror(source: Volume, target: Volume) -> None:
    """Copy, and let the copy take the original's place: a guest has mounted the folder itself, wherever it lies."""
    copy(source, target)
    size = load(target)["size"]
    aside = target.path / "aside"
    now(target).rename(aside)
    now(source).rename(now(target))
    aside.rename(now(source))
    save(target, {**load(target), "size": size})


def snapshot(volume: Volume, name: str) -> None:
    (volume.path / "snapshots").mkdir(exist_ok=True)
    copy_tree(now(volume), volume.path / "snapshots" / name)


def rollback(volume: Volume, name: str) -> None:
    remove_tree(now(volume))
    copy_tree(volume.path / "snapshots" / name, now(volume))


def drop_snapshot(volume: Volume, name: str) -> None:
    remove_tree(volume.path / "snapshots" / name)


def checksum(volume: Volume) -> str:
    """SHA-256 over all that is on the disk: table, file systems, names, modes, links and contents."""
    digest = hashlib.sha256((now(volume) / "disk.json").read_bytes())
    for path in sorted((now(volume) / "parts").rglob("*")):
        digest.update(f"{path.relative_to(volume.path)}\0{path.lstat().st_mode:o}\0".encode())
        if path.is_symlink():
            digest.update(str(path.readlink()).encode())
        elif path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def copy_tree(source: Path, target: Path) -> None:
    """With owners, modes, hard links; sharing blocks where the file system can."""
    subprocess.run(["cp", "-a", "--reflink=auto", "--", str(source), str(target)], check=True, capture_output=True)


def remove_tree(path: Path) -> None:
    """A Nix store's folders are read-only: without root they must be opened first. And a process of a guest that was
    just switched off may still be writing."""
    deadline, opened = time.monotonic() + LAST_WRITES_SECONDS, False
    while True:
        try:
            shutil.rmtree(path)
        except PermissionError:
            if opened:
                raise
            subprocess.run(["chmod", "-R", "u+rwX", "--", str(path)], check=True, capture_output=True)
            opened = True
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or time.monotonic() > deadline:
                raise
            time.sleep(LAST_WRITES_PAUSE)
        else:
            return
