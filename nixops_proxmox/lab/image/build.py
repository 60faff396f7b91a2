"""The installer image, built once per content: packages' names, our files in it and the builder itself."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nixops_proxmox.lab.image.debs import ImageFailed, fetch_debs
from nixops_proxmox.lab.image.iso import make_iso
from nixops_proxmox.lab.image.tree import OVERLAY, build_tree, overlay_files

HOST_TOOLS = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "tar": "tar",
    "depmod": "kmod",
    "strip": "binutils",
    "readelf": "binutils",
    "lz4": "lz4",
    "mksquashfs": "squashfs-tools",
    "grub-mkimage": "grub-common",
    "mformat": "mtools",
    "xorriso": "xorriso",
}


@dataclass(frozen=True)
class ImagePaths:
    iso: Path
    kernel: Path  # the same as on the ISO, for who boots it directly
    initrd: Path
    key: str  # the content hash


def default_cache() -> Path:
    """Where images are kept unless somebody says otherwise: one place for all labs of a user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nixops-proxmox" / "lab-image"


def content_key(overlay: Path = OVERLAY) -> str:
    """Hash of everything of ours that decides what is in the image; Debian's point releases do not change it."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    files = {path: path.name for path in sorted(here.glob("*.py"))} | overlay_files(overlay)
    for path, name in files.items():
        digest.update(f"{name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def missing_tools() -> list[str]:
    """Debian packages that the build needs and the host does not have."""
    return sorted({package for tool, package in HOST_TOOLS.items() if shutil.which(tool, path=search_path()) is None})


def search_path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def build_image(cache: Path, progress: Callable[[str], None]) -> ImagePaths:
    """The image in `cache`, built if this content has not been. Two builders of one cache wait for each other.

    Raises ImageFailed. About 100 MiB of packages are kept in `cache`/apt, 110 MiB per image.
    """
    key = content_key()
    name = f"nixos-lab-{key}"
    image = ImagePaths(cache / f"{name}.iso", cache / f"{name}.kernel", cache / f"{name}.initrd", key)
    if image.iso.exists():
        return image
    missing = missing_tools()
    if missing:
        raise ImageFailed("the installer image needs Debian's packages: " + " ".join(missing))
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not image.iso.exists():
            build_into(cache, image, progress)
    return image


def build_into(cache: Path, image: ImagePaths, progress: Callable[[str], None]) -> None:
    debs = fetch_debs(cache / "apt", progress)
    with tempfile.TemporaryDirectory(prefix="build-", dir=cache) as folder:
        work = Path(folder)
        progress(f"unpacking {len(debs)} packages")
        root = work / "root"
        grub = work / "grub"
        stages = build_tree(debs, root, grub, work)
        progress("writing the image")
        unfinished = work / "image.iso"
        make_iso(root, stages, grub, work, unfinished)
        shutil.move(work / "iso/lab/kernel", image.kernel)
        shutil.move(work / "iso/lab/initrd", image.initrd)
        unfinished.replace(image.iso)  # last: its presence says that all is there
    progress(f"image ready: {image.iso.name}, {image.iso.stat().st_size // 2**20} MiB")
