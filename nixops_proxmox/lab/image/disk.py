"""A disk image of the same small system: the live image installs itself onto an empty disk, once per content."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from nixops_proxmox.lab.image.build import ImagePaths, build_image
from nixops_proxmox.lab.image.debs import ImageFailed, run
from nixops_proxmox.lab.image.iso import KERNEL_ARGUMENTS, LABEL

SIZE = 320 << 20  # bytes that the image's guest sees at first; it grows with its disk
SECONDS = 400.0  # without KVM, on a busy machine
DONE = "image: done"  # printed by the live system when the disk is ready
TAIL = 15  # lines of what it printed, for an error


def build_disk(cache: Path, progress: Callable[[str], None]) -> Path:
    """The disk image in `cache`, a qcow2, built if this content has not been. Raises ImageFailed.

    It has no host key, and no login is possible. A machine of it learns at its first boot who it is.
    """
    image = build_image(cache, progress)
    disk = image.iso.with_suffix(".qcow2")
    if disk.exists():
        return disk
    missing = [tool for tool in ("qemu-img", "qemu-system-x86_64") if shutil.which(tool) is None]
    if missing:
        raise ImageFailed("the disk image needs " + " and ".join(missing))
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not disk.exists():
            build_disk_into(cache, image, disk, progress)
    return disk


def install(argv: Sequence[str]) -> str:
    """What the machine printed until it ended."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        return (error.stdout or b"").decode(errors="replace")
    return (done.stdout + done.stderr).decode(errors="replace")


def build_disk_into(
    cache: Path,
    image: ImagePaths,
    disk: Path,
    progress: Callable[[str], None],
    install: Callable[[Sequence[str]], str] = install,
) -> None:
    with tempfile.TemporaryDirectory(prefix="build-", dir=cache) as folder:
        empty, unfinished = Path(folder) / "disk.raw", Path(folder) / "disk.qcow2"
        with empty.open("wb") as file:
            file.truncate(SIZE)
        progress("installing the system onto a disk image")
        said = install(install_argv(image, empty, kvm=os.access("/dev/kvm", os.R_OK | os.W_OK)))
        if DONE not in said:  # a KVM that is there and does not work gives nothing
            said = install(install_argv(image, empty, kvm=False))
        if DONE not in said:
            tail = "\n".join(said.splitlines()[-TAIL:])
            raise ImageFailed(f"the live system did not install itself onto the disk image; it said:\n{tail}")
        run(["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", str(empty), str(unfinished)])
        unfinished.replace(disk)
    progress(f"disk image ready: {disk.name}, {disk.stat().st_size // 2**20} MiB")


def install_argv(image: ImagePaths, disk: Path, *, kvm: bool) -> list[str]:
    """A machine without network that boots the live system and ends by itself."""
    return [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-accel", "kvm" if kvm else "tcg,thread=multi", "-cpu", "host" if kvm else "qemu64", "-machine", "q35"),
        *("-m", "768", "-serial", "stdio", "-kernel", str(image.kernel), "-initrd", str(image.initrd)),
        *("-append", f"root=live:{LABEL} lab.image {KERNEL_ARGUMENTS}"),
        *("-device", "virtio-scsi-pci", "-drive", f"if=none,id=cd,format=raw,readonly=on,file={image.iso}"),
        *("-device", "scsi-cd,drive=cd", "-drive", f"if=none,id=disk,format=raw,cache=unsafe,file={disk}"),
        *("-device", "scsi-hd,drive=disk"),
    ]
