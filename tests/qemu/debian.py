"""A whole Debian as its cloud images are: systemd, cloud-init, systemd-boot, and the kernel that is made for clouds.

Debian publishes such images, which cannot be had everywhere. This one is made of the same packages by mmdebstrap. Its
kernel has no driver for AHCI, as that of Debian's `genericcloud` image.
"""

import hashlib
import tempfile
from pathlib import Path

from nixops_proxmox.lab.image import packages
from tests.qemu import building

TOOLS = ("mmdebstrap", "mke2fs", "mkfs.vfat", "mcopy", "sfdisk", "qemu-img")
PACKAGES = (
    *("systemd-sysv", "systemd-boot", "systemd-resolved", "dbus", "linux-image-cloud-amd64", "cloud-init"),
    *("cloud-guest-utils", "openssh-server", "qemu-guest-agent", "netplan.io", "sudo", "e2fsprogs", "iproute2"),
    "locales",  # cloud-init sets one, and fails without
    *("grub-common", "grub-efi-amd64-bin"),  # a test has it instead of systemd-boot
)
SECTOR = 512
ESP_START, ESP_SIZE = 1 << 20, 96 << 20  # bytes
ROOT_SIZE = 900 << 20
TAIL = 1 << 20  # for the copy of the partition table
TABLE = f"""\
label: gpt
start={ESP_START // SECTOR}, size={ESP_SIZE // SECTOR}, type=uefi
start={(ESP_START + ESP_SIZE) // SECTOR}, size={ROOT_SIZE // SECTOR}, type=linux
"""
ENTRY = """\
title Debian
version {version}
linux /{version}/linux
initrd /{version}/initrd
options root=LABEL=root ro console=ttyS0 systemd.show_status=1
"""


def find_obstacle() -> str:
    """Why it cannot be built here, or nothing."""
    return building.find_obstacle(*TOOLS)


def build_debian(cache: Path) -> Path:
    """The image in `cache`, a qcow2; built if it is not there."""
    key = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    image = cache / f"debian-{key}.qcow2"
    if not image.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            _build(Path(folder)).replace(image)
    return image


def _build(work: Path) -> Path:
    root, esp, system, disk = work / "root", work / "esp.img", work / "root.img", work / "disk.raw"
    building.run(
        *("mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", "--mode=root"),
        *("--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"),
        *("--dpkgopt=path-exclude=/usr/share/locale/*", packages.SUITE, str(root), packages.MIRROR),
    )
    _seal(root)
    _fill_esp(root, esp)
    building.run("mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", str(root), str(system), f"{ROOT_SIZE >> 10}k")
    _truncate(disk, ESP_START + ESP_SIZE + ROOT_SIZE + TAIL)
    building.run("sfdisk", "-q", str(disk), given=TABLE.encode())
    for part, start in ((esp, ESP_START), (system, ESP_START + ESP_SIZE)):
        building.run(
            "dd", f"if={part}", f"of={disk}", "bs=1M", f"seek={start >> 20}", "conv=notrunc,sparse", "status=none"
        )
    image = work / "disk.qcow2"
    building.run("qemu-img", "convert", "-q", "-c", "-f", "raw", "-O", "qcow2", str(disk), str(image))
    return image


def _seal(root: Path) -> None:
    """As a published image is: it has no identity, and nobody can log in."""
    (root / "etc/fstab").write_text("LABEL=root / ext4 defaults 0 1\nLABEL=ESP /boot/efi vfat umask=0077 0 1\n")
    (root / "boot/efi").mkdir(exist_ok=True)
    (root / "etc/machine-id").write_text("")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    # As cloud-init would at the first boot, which takes it minutes without KVM.
    (root / "etc/locale.gen").write_text("en_US.UTF-8 UTF-8\n")
    (root / "etc/default/locale").write_text("LANG=en_US.UTF-8\n")
    building.run("chroot", str(root), "locale-gen")
    building.run("chroot", str(root), "systemctl", "-q", "enable", "systemd-networkd", "systemd-resolved", "ssh")


def _fill_esp(root: Path, esp: Path) -> None:
    """systemd-boot, as `bootctl install` and `kernel-install` lay it out."""
    (kernel,) = (root / "boot").glob("vmlinuz-*")
    version = kernel.name.partition("-")[2]
    loader = root / "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
    entry, settings = root.parent / "debian.conf", root.parent / "loader.conf"
    entry.write_text(ENTRY.format(version=version))
    settings.write_text("timeout 0\ndefault debian.conf\n")
    _truncate(esp, ESP_SIZE)
    building.run("mkfs.vfat", "-n", "ESP", "-F", "32", str(esp))
    folders = ("EFI", "EFI/BOOT", "EFI/systemd", "loader", "loader/entries", version)
    building.run("mmd", "-i", str(esp), *(f"::/{folder}" for folder in folders))
    files = {
        "EFI/BOOT/BOOTX64.EFI": loader,
        "EFI/systemd/systemd-bootx64.efi": loader,
        "loader/loader.conf": settings,
        "loader/entries/debian.conf": entry,
        f"{version}/linux": kernel,
        f"{version}/initrd": root / f"boot/initrd.img-{version}",
    }
    for name, source in files.items():
        building.run("mcopy", "-i", str(esp), str(source), f"::/{name}")


def _truncate(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)
