"""Turns Debian packages into the image's root file system and first stage, without running any of their scripts."""

import lzma
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from nixops_proxmox.lab.image import packages
from nixops_proxmox.lab.image.debs import ImageFailed, run
from nixops_proxmox.lab.image.stages import Stages, build_stages, close_over, parse_dependencies

OVERLAY = Path(__file__).parent / "overlay"
# The very same file as in simulated guests.
SHARED = {Path(__file__).parents[1] / "guestfs/bin/lab-services": "usr/bin/lab-services"}
FOLDERS = (
    *("dev", "proc", "sys", "run", "tmp", "mnt", "root", "boot", "home", "nix/store", ".media"),
    *("var/lib", "var/log", "var/empty", "var/tmp"),
)
LINKS = {
    "usr/bin/sh": "bash",
    "usr/bin/awk": "gawk",
    "usr/sbin/init": "../bin/busybox",
    "usr/sbin/shutdown": "../lib/lab/halt",
    "usr/sbin/poweroff": "../lib/lab/halt",
    "usr/sbin/reboot": "../lib/lab/halt",
    "usr/sbin/halt": "../lib/lab/halt",
    "var/run": "../run",
    "var/lock": "../run/lock",
    "etc/mtab": "../proc/self/mounts",
}
APPLETS = (
    "vi",
    "less",
    "wget",
    "nc",
    "ping6",
    "nslookup",
    "telnet",
    "unzip",
    "time",
    "clear",
    "which",
    "killall",
    "xxd",
)
# For the boot scripts: a static program starts three times as fast as a dynamic one.
BOOT_APPLETS = ("cat", "hostname", "ip", "ln", "mkdir", "readlink", "setsid", "sleep", "sync", "touch", "tr", "umount")
LINKED = 65536  # bytes at a library's ends that hold its headers and symbols
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


def unpack(debs: Sequence[Path], root: Path) -> None:
    """All packages into one tree whose /bin, /sbin and /lib are links into /usr, so that /usr is all to mount."""
    for name in MERGED:
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
    for deb in debs:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as packed:
            argv = [
                "tar",
                "-x",
                "--keep-directory-symlink",
                "--no-same-owner",
                "--delay-directory-restore",
                "-C",
                str(root),
            ]
            done = subprocess.run(argv, stdin=packed.stdout, capture_output=True, check=False, timeout=120)
        if done.returncode != 0 or packed.returncode != 0:
            raise ImageFailed(f"unpacking {deb.name} failed: {done.stderr.decode(errors='replace').strip()[-400:]}")


def trim(root: Path) -> None:
    for name in packages.TRIMMED:
        shutil.rmtree(root / name, ignore_errors=True)


def drop_rules(root: Path) -> None:
    for path in (root / "usr/lib/udev/rules.d").iterdir():
        if path.name not in packages.UDEV_RULES:
            path.unlink()


def zero(root: Path) -> None:
    """The inside of some libraries; what the linker reads is at their ends."""
    for pattern in packages.ZEROED:
        for path in root.glob(pattern):
            data = path.read_bytes()
            inside = len(data) - 2 * LINKED
            if inside > 0 and not path.is_symlink():
                path.write_bytes(data[:LINKED] + bytes(inside) + data[-LINKED:])


def kernel_release(root: Path) -> str:
    releases = sorted(path.name for path in (root / "usr/lib/modules").iterdir())
    if len(releases) != 1:
        raise ImageFailed(f"expected one kernel in the image, found {releases}")
    return releases[0]


def keep_modules(root: Path) -> dict[str, tuple[str, list[str]]]:
    """Drop the kernel modules that nothing here loads; what is left, by name."""
    folder = root / "usr/lib/modules" / kernel_release(root)
    for packed in (folder / "kernel").rglob("*.ko.xz"):
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))  # the image is packed as a whole
        packed.unlink()
    run(["depmod", "-b", str(root), "-C", "/dev/null", folder.name])
    known = parse_dependencies((folder / "modules.dep").read_text(encoding="utf-8"))
    wanted = (*packages.BOOT_MODULES, *packages.ROOT_MODULES, *packages.SYSTEM_MODULES)
    kept = close_over(wanted, known)
    for path in (folder / "kernel").rglob("*.ko"):
        if str(path.relative_to(folder)) not in kept:
            path.unlink()
    files = [str(folder / file) for file in kept]
    run(["strip", "-g", *files])  # signatures go with it: the kernel is tainted, and loads them faster
    run(["depmod", "-b", str(root), "-C", "/dev/null", folder.name])
    return known


def lay_over(root: Path) -> None:
    """Our own files on top; scripts get their x bit here, for a wheel does not keep it."""
    for source, name in overlay_files().items():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        data = source.read_bytes()
        target.write_bytes(data)
        target.chmod(0o755 if data.startswith(b"#!") else 0o644)


def overlay_files(overlay: Path = OVERLAY) -> dict[Path, str]:
    """Our files in the image: where they are here → where they are there."""
    ours = {path: str(path.relative_to(overlay)) for path in sorted(overlay.rglob("*")) if path.is_file()}
    return {**ours, **{path: name for path, name in SHARED.items() if path.exists()}}


def finish_root(root: Path) -> None:
    """Links and folders that maintainer scripts, or NixOS, would have made."""
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, to in LINKS.items():
        link(root / name, to)
    for applet in APPLETS:
        path = root / "usr/bin" / applet
        if not path.exists():
            link(path, "busybox")
    for applet in BOOT_APPLETS:
        link(root / "usr/lib/lab/applets" / applet, "../../../bin/busybox")
    collect_certificates(root)


def link(path: Path, to: str) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(to)


def collect_certificates(root: Path) -> None:
    """What update-ca-certificates would do."""
    folder = root / "etc/ssl/certs"
    folder.mkdir(parents=True, exist_ok=True)
    certificates = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    (folder / "ca-certificates.crt").write_bytes(b"".join(path.read_bytes() for path in certificates))


def build_tree(debs: Sequence[Path], root: Path, grub: Path, work: Path) -> Stages:
    """Fill `root`, and `grub` with GRUB's EFI modules (only the ISO needs them); returns the first stage's archives."""
    root.mkdir()
    unpack(debs, root)
    shutil.move(root / "usr/lib/grub/x86_64-efi", grub)
    trim(root)
    drop_rules(root)
    zero(root)
    known = keep_modules(root)
    lay_over(root)
    finish_root(root)
    return build_stages(root, kernel_release(root), known, work)
