"""How the installer image is put together: package lists, archives, what decides that it must be built anew."""

import shutil
import subprocess
from pathlib import Path

import pytest

from nixops_proxmox.lab.image import build, cpio, debs, disk, packages, stages, tree
from nixops_proxmox.lab.image.debs import ImageFailed

PRINTED = """Reading package lists...
The following additional packages will be installed:
  perl
'http://deb.debian.org/debian/pool/extlinux_6.04%7egit-1_amd64.deb' extlinux_3%3a6.04~git-1_amd64.deb 192180 MD5Sum:8e
'http://deb.debian.org/debian/pool/main/p/perl/perl_5.36_amd64.deb' perl_5.36_amd64.deb 239392 MD5Sum:8d
'http://deb.debian.org/debian/pool/main/p/perl/libperl5.36_5.36_amd64.deb' libperl5.36_5.36_amd64.deb 4207640 MD5Sum:8f
"""
DEPENDENCIES = """kernel/fs/btrfs/btrfs.ko: kernel/crypto/xor.ko kernel/lib/raid6_pq.ko
kernel/crypto/xor.ko:
kernel/lib/raid6_pq.ko:
kernel/net/8021q/8021q.ko: kernel/net/802/mrp.ko kernel/net/llc/llc.ko
"""


def test_file_names_are_read_out_of_apts_printout() -> None:
    assert debs.parse_uris(PRINTED) == [
        "extlinux_3%3a6.04~git-1_amd64.deb", "perl_5.36_amd64.deb", "libperl5.36_5.36_amd64.deb",
    ]  # fmt: skip


def test_what_only_maintainer_scripts_need_is_left_out() -> None:
    assert debs.keep_packages(debs.parse_uris(PRINTED)) == ["extlinux_3%3a6.04~git-1_amd64.deb"]


def test_an_epoch_is_told_to_apt_with_a_colon() -> None:
    assert debs.exact_version("extlinux_3%3a6.04~git-1_amd64.deb") == "extlinux=3:6.04~git-1"


def test_apt_keeps_everything_below_our_own_folder(tmp_path: Path) -> None:
    argv = debs.apt_argv(tmp_path, "update")
    settings = dict(argv[at + 1].split("=", 1) for at, word in enumerate(argv) if word == "-o")
    folders = {
        "Dir::State",
        "Dir::State::lists",
        "Dir::State::status",
        "Dir::Cache",
        "Dir::Cache::archives",
        "Dir::Etc::sourcelist",
    }
    assert all(Path(settings[name]).is_relative_to(tmp_path) for name in folders)


def test_modules_load_after_what_they_need() -> None:
    known = stages.parse_dependencies(DEPENDENCIES)
    assert stages.close_over(["btrfs", "ext4", "8021q"], known) == [
        "kernel/lib/raid6_pq.ko", "kernel/crypto/xor.ko", "kernel/fs/btrfs/btrfs.ko",
        "kernel/net/llc/llc.ko", "kernel/net/802/mrp.ko", "kernel/net/8021q/8021q.ko",
    ]  # fmt: skip


def test_a_program_brings_all_the_libraries_that_it_is_linked_with(tmp_path: Path) -> None:
    """Of this computer: a root file system of links to what is here."""
    (tmp_path / "usr").symlink_to("/usr")
    program = "usr/bin/ssh-keygen" if Path("/usr/bin/ssh-keygen").exists() else "usr/bin/env"
    found = {path.name for path in stages.close_over_libraries(tmp_path, [program])}
    told = subprocess.check_output(["ldd", f"/{program}"], text=True)
    assert found >= {line.split()[0] for line in told.splitlines() if "=>" in line}


def test_a_library_that_is_in_no_package_is_told(tmp_path: Path) -> None:
    with pytest.raises(ImageFailed, match=r"libfoo\.so\.1 is in none of the image's packages"):
        stages.find_library(tmp_path, "libfoo.so.1")


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_the_first_stages_archive_is_one_that_cpio_reads(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "bin").mkdir(parents=True)
    (source / "init").write_text("#!/bin/sh\n")
    (source / "init").chmod(0o755)
    (source / "bin/sh").symlink_to("busybox")
    (source / "odd").write_text("x")
    target.mkdir()
    subprocess.run(["cpio", "-i", "--quiet"], cwd=target, input=cpio.pack(source), check=True)
    assert (target / "init").read_text() == "#!/bin/sh\n"
    assert (target / "init").stat().st_mode & 0o777 == 0o755
    assert (target / "bin/sh").readlink() == Path("busybox")
    assert sorted(path.name for path in target.iterdir()) == ["bin", "init", "odd"]


def test_an_archive_depends_on_content_alone(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("same")
    (tmp_path / "one/file").touch()
    assert cpio.pack(tmp_path / "one") == cpio.pack(tmp_path / "two")


def test_scripts_get_their_x_bit_and_settings_do_not(tmp_path: Path) -> None:
    tree.lay_over(tmp_path)
    assert (tmp_path / "usr/bin/nixos-install").stat().st_mode & 0o111
    assert (tmp_path / "usr/bin/lab-services").stat().st_mode & 0o111
    assert not (tmp_path / "etc/passwd").stat().st_mode & 0o111
    assert (tmp_path / "etc/nixops-proxmox-installer").exists()


def test_every_script_of_the_image_parses() -> None:
    for source in tree.overlay_files():
        if source.read_bytes().startswith((b"#!/bin/sh", b"#!/bin/bash", b"#!/bin/busybox sh")):
            subprocess.run(["bash", "-n", str(source)], check=True)


def test_the_images_python_programs_compile() -> None:
    programs = [path for path in tree.overlay_files() if path.read_bytes().startswith(b"#!/usr/bin/python3")]
    assert programs == []
    for path in programs:
        compile(path.read_text(), str(path), "exec")


def test_a_built_image_is_not_built_again(tmp_path: Path) -> None:
    said: list[str] = []
    built = tmp_path / f"nixos-lab-{build.content_key()}.iso"
    built.write_bytes(b"iso")
    assert build.build_image(tmp_path, said.append).iso == built
    assert said == []


def test_the_key_changes_with_the_builder_and_with_the_files_in_the_image(
    tmp_path: Path,
) -> None:
    overlay = tmp_path / "overlay"
    shutil.copytree(tree.OVERLAY, overlay)
    before = build.content_key(overlay)
    assert before == build.content_key(overlay) == build.content_key()
    with (overlay / "etc/passwd").open("a") as file:
        file.write("# one more line\n")
    assert build.content_key(overlay) != before


def test_a_failing_tool_is_told_with_its_last_words() -> None:
    with pytest.raises(ImageFailed, match=r"sh -c echo no space >&2; exit 3 failed \(3\): no space"):
        debs.run(["sh", "-c", "echo no space >&2; exit 3"])
    with pytest.raises(ImageFailed, match="no-such-tool is not installed"):
        debs.run(["no-such-tool"])


def test_no_package_is_both_wanted_and_left_out() -> None:
    wanted = set(packages.PACKAGES) - {packages.KERNEL}  # the meta package itself holds no file
    assert not wanted & set(packages.LEFT_OUT)


def image_in(folder: Path) -> build.ImagePaths:
    return build.ImagePaths(folder / "a.iso", folder / "a.kernel", folder / "a.initrd", "a")


def test_the_live_system_is_told_to_install_itself_and_cannot_write_its_own_cd(tmp_path: Path) -> None:
    argv = disk.install_argv(image_in(tmp_path), tmp_path / "disk.raw", kvm=False)
    assert "lab.image" in argv[argv.index("-append") + 1].split()
    assert f"if=none,id=cd,format=raw,readonly=on,file={tmp_path / 'a.iso'}" in argv
    assert "-nodefaults" in argv and "-netdev" not in argv


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
def test_a_disk_image_is_there_only_if_the_live_system_said_that_it_is_done(tmp_path: Path) -> None:
    target = tmp_path / "a.qcow2"
    with pytest.raises(ImageFailed, match="it said:\nno space left"):
        disk.build_disk_into(tmp_path, image_in(tmp_path), target, print, lambda _: "no space left")
    assert not target.exists()
    disk.build_disk_into(tmp_path, image_in(tmp_path), target, print, lambda _: f"fine\n{disk.DONE}\n")
    assert target.read_bytes()[:4] == b"QFI\xfb"


def test_a_boot_loader_finds_what_will_hold_the_boot_folder_before_it_is_there(tmp_path: Path) -> None:
    """With a BIOS and no /boot of its own: the check is made before anything is installed."""
    script = (tree.OVERLAY / "usr/lib/lab/bootloader").read_text()
    start = script.index("column_of() {")
    function = script[start : script.index("\n}\n", start) + 3]
    argv = ["bash", "-e", "-c", f'{function}column_of "$1" "$2"', "bash", "FSTYPE", str(tmp_path / "mnt/boot")]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    assert 'findmnt -n -o FSTYPE --target "$root/boot"' not in script
