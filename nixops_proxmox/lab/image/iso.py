"""Puts root file system, kernel and first stage onto an ISO image that boots by BIOS (isolinux) and UEFI (GRUB)."""

import shutil
from pathlib import Path

from nixops_proxmox.lab.image.debs import ImageFailed, run
from nixops_proxmox.lab.image.stages import Stages

LABEL = "NIXOSLAB"
# Without KVM, on a busy machine, the timer that Linux tries at boot comes too late, and it panics: it is not tried.
KERNEL_ARGUMENTS = "console=ttyS0,115200 console=tty0 loglevel=3 quiet no_timer_check"
GRUB_MODULES = (
    "part_gpt",
    "part_msdos",
    "iso9660",
    "fat",
    "normal",
    "linux",
    "search",
    "search_label",
    "configfile",
    "echo",
    "all_video",
)

ISOLINUX = f"""\
SERIAL 0 115200
DEFAULT lab
PROMPT 0
TIMEOUT 1
LABEL lab
  LINUX /lab/kernel
  INITRD /lab/initrd
  APPEND root=live:{LABEL} {KERNEL_ARGUMENTS}
"""
GRUB = f"""\
set timeout=0
menuentry "installer" {{
  linux /lab/kernel root=live:{LABEL} {KERNEL_ARGUMENTS}
  initrd /lab/initrd
}}
"""
GRUB_EARLY = (
    f"search --no-floppy --set=root --label {LABEL}\nset prefix=($root)/boot/grub\nconfigfile /boot/grub/grub.cfg\n"
)


def squash_argv(root: Path, target: Path) -> list[str]:
    """LZ4: 0.3 s to make, and the quickest to read under TCG. Owned by root, whichever user builds it."""
    return [
        *("mksquashfs", str(root), str(target), "-comp", "lz4", "-all-root", "-noappend", "-no-progress", "-no-xattrs"),
        *("-quiet", "-mkfs-time", "0"),
    ]


def xorriso_argv(tree: Path, iso: Path, mbr: Path) -> list[str]:
    return [
        *("xorriso", "-as", "mkisofs", "-quiet", "-o", str(iso), "-V", LABEL, "-J", "-r"),
        *("-isohybrid-mbr", str(mbr), "-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat"),
        *("-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"),
        *("-eltorito-alt-boot", "-e", "efi.img", "-no-emul-boot", "-isohybrid-gpt-basdat", str(tree)),
    ]


def make_efi_image(grub: Path, work: Path, target: Path) -> None:
    """A FAT file system with GRUB as the removable media's boot loader."""
    early = work / "early.cfg"
    early.write_text(GRUB_EARLY, encoding="utf-8")
    loader = work / "bootx64.efi"
    run(
        [
            *("grub-mkimage", "-d", str(grub), "-O", "x86_64-efi", "-o", str(loader)),
            *("-p", "/boot/grub", "-c", str(early), *GRUB_MODULES),
        ]
    )
    with target.open("wb") as image:
        image.truncate(max(1, -(-loader.stat().st_size // 2**20) + 1) * 2**20)
    run(["mformat", "-i", str(target), "-v", "EFI", "::"])
    run(["mmd", "-i", str(target), "::/EFI", "::/EFI/BOOT"])
    run(["mcopy", "-i", str(target), str(loader), "::/EFI/BOOT/BOOTX64.EFI"])


def find_kernel(root: Path) -> Path:
    kernels = sorted((root / "boot").glob("vmlinuz-*"))
    if len(kernels) != 1:
        raise ImageFailed(f"expected one kernel in the image, found {[path.name for path in kernels]}")
    return kernels[0]


def make_iso(root: Path, stages: Stages, grub: Path, work: Path, iso: Path) -> None:
    """`root` is squashed as it is, after its /boot (kernel, initrd) moved to where the installed system finds them."""
    tree = work / "iso"
    for folder in ("lab", "isolinux", "boot/grub"):
        (tree / folder).mkdir(parents=True)
    isolinux, syslinux = root / "usr/lib/ISOLINUX", root / "usr/lib/syslinux/modules/bios"
    shutil.copy(isolinux / "isolinux.bin", tree / "isolinux")
    shutil.copy(syslinux / "ldlinux.c32", tree / "isolinux")
    mbr = work / "isohdpfx.bin"
    shutil.copy(isolinux / "isohdpfx.bin", mbr)
    (tree / "isolinux/isolinux.cfg").write_text(ISOLINUX, encoding="utf-8")
    (tree / "boot/grub/grub.cfg").write_text(GRUB, encoding="utf-8")
    shutil.move(find_kernel(root), tree / "lab/kernel")
    shutil.rmtree(root / "boot")
    (root / "boot").mkdir()
    for name, archive in (("initrd", stages.first), ("initrd-roots", stages.roots)):
        (tree / "lab" / name).write_bytes(run(["lz4", "-l", "-9", "-c"], stdin=archive))
    run(squash_argv(root, tree / "lab/root.sqfs"))
    make_efi_image(grub, work, tree / "efi.img")
    run(xorriso_argv(tree, iso, mbr))
