"""Machines from nothing to an installed system that boots by itself: the image, the stand-ins and the driver together.

Minutes without KVM, and the phases' times are printed (`pytest -s`). One machine at a time.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.guest.disks import LIST_DISKS, parse_disks
from nixops_proxmox.lab.machines.base import DiskSlot, Ended
from nixops_proxmox.lab.machines.qemu.machine import QemuMachine
from tests.lab.qemu.bench import ADDRESS, GIB, PLAIN, Bench, with_disks
from tests.pace import patience

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [pytest.mark.qemu, pytest.mark.slow, pytest.mark.nix, pytest.mark.timeout(600)]

BIOS_PARTITIONS = """set -e
disk=/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_ROOT1
sgdisk --zap-all $disk
sgdisk --new=1:0:0 --typecode=1:8300 $disk
udevadm settle
mkfs.ext4 -q -L nixos $disk-part1
mount $disk-part1 /mnt
mkdir -p /mnt/data
mkfs.btrfs -q /dev/disk/by-id/virtio-DATA1
mount /dev/disk/by-id/virtio-DATA1 /mnt/data
"""
UEFI_PARTITIONS = """set -e
parted -s /dev/sda mklabel gpt mkpart ESP fat32 1MiB 100MiB set 1 esp on mkpart root ext4 100MiB 100%
udevadm settle
mkfs.vfat /dev/sda1
mkfs.ext4 -q /dev/sda2
mount /dev/sda2 /mnt
mkdir /mnt/boot
mount /dev/sda1 /mnt/boot
"""


async def enter_installer(bench: Bench, machine: QemuMachine) -> None:
    """As the deploying tool does: our key in through the agent, the host's key out through it."""
    await bench.wait_for_agent(machine)
    bench.stamp("power on → agent")
    _, public = bench.make_key("client")
    await bench.execute(machine, f"umask 077; mkdir -p /root/.ssh; echo '{public}' > /root/.ssh/authorized_keys")
    bench.trust(await bench.wait_for(machine, "cat /etc/ssh/ssh_host_ed25519_key.pub"))
    await bench.wait_for_ssh()
    bench.stamp("agent → ssh")


async def deliver_keys(bench: Bench) -> None:
    """Host key and authorized keys onto the target."""
    private, public = bench.make_key("host")
    _, client = bench.make_key("client")
    await bench.ssh(
        "set -e; umask 077; mkdir -p /mnt/etc/ssh /mnt/root/.ssh; chmod 0755 /mnt/etc /mnt/etc/ssh\n"
        f"echo '{private}' > /mnt/etc/ssh/ssh_host_ed25519_key\n"
        f"echo '{public}' > /mnt/etc/ssh/ssh_host_ed25519_key.pub\n"
        f"echo '{client}' > /mnt/root/.ssh/authorized_keys; echo web > /mnt/etc/hostname"
    )


async def reboot(bench: Bench, machine: QemuMachine) -> None:
    """From inside; what answers then has the delivered host key."""
    installer = machine.pid
    await bench.ssh("sync; reboot")
    async with asyncio.timeout(patience(30)):
        while machine.pid == installer:
            await asyncio.sleep(0.02)
    bench.stamp("reboot → power on")
    await bench.wait_for_agent(machine)
    bench.stamp("power on → agent, from disk")
    bench.trust(bench.make_key("host")[1])
    await bench.wait_for_ssh()
    bench.stamp("agent → ssh, from disk")


@pytest.mark.weekly
def test_a_guest_of_machine_10_names_its_disks_by_slot_and_our_rules_and_script_by_serial(
    play: Callable[..., Any],
) -> None:
    """As PVE 9 starts QEMU."""
    name, links = "scsi-0QEMU_QEMU_HARDDISK_ROOT1", "ls /dev/disk/by-id"
    rules, script = ((ROOT / "nix" / f"disk-links.{kind}").read_text() for kind in ("rules", "sh"))

    async def scenario(bench: Bench) -> None:
        disk = await bench.disk("scsi0", GIB, serial="ROOT1")
        machine = await bench.start(replace(with_disks(PLAIN, disk, bench.installer()), names_drives=True))
        await bench.wait_for_agent(machine)
        found = parse_disks(await bench.execute(machine, LIST_DISKS))
        assert [(one.device, one.serial) for one in found] == [("/dev/sda", "ROOT1")]
        seen = await bench.execute(machine, links)
        assert "scsi-0QEMU_QEMU_HARDDISK_drive-scsi0" in seen and name not in seen
        await bench.execute(machine, "sgdisk --new=1:0:0 /dev/sda >/dev/null; udevadm settle")
        await bench.execute(machine, f"cat >/run/links.sh <<'END'\n{script}END\nsh -e /run/links.sh")
        seen = await bench.execute(machine, f"readlink -f /dev/disk/by-id/{name} /dev/disk/by-id/{name}-part1")
        assert seen.split() == ["/dev/sda", "/dev/sda1"]
        await bench.execute(machine, f"rm /dev/disk/by-id/{name}*; mkdir -p /run/udev/rules.d")
        await bench.execute(machine, f"cat >/run/udev/rules.d/99-links.rules <<'END'\n{rules}END")
        await bench.execute(machine, "udevadm control --reload; udevadm trigger --action=change; udevadm settle")
        seen = await bench.execute(machine, f"readlink -f /dev/disk/by-id/{name} /dev/disk/by-id/{name}-part1")
        assert seen.split() == ["/dev/sda", "/dev/sda1"]

    play(scenario)


@pytest.mark.weekly
def test_a_bios_machine_is_installed_with_a_closure_changed_and_rolled_back(play: Callable[..., Any]) -> None:
    async def scenario(bench: Bench) -> None:
        disks = (await bench.disk("scsi0", 4 * GIB, serial="ROOT1"), await bench.disk("virtio0", serial="DATA1"))
        nics = (bench.nic(), bench.nic("net1", "BC:24:11:00:00:02", "vmbr1"))
        hardware = replace(with_disks(PLAIN, *disks, bench.installer()), nics=nics, memory=1024)
        machine = await bench.start(hardware)
        await enter_installer(bench, machine)
        assert "VARIANT_ID=installer" in await bench.ssh("cat /etc/os-release")
        assert (await bench.ssh("cat /sys/class/dmi/id/product_uuid")).strip() == PLAIN.uuid
        addresses = await bench.ssh("ip -br address show eth0; ip -br address show eth1")
        assert all(prefix in addresses for prefix in ("10.77.0.", ADDRESS, "3ffe:77::", "10.77.1.", "fd77:77:1:"))
        await bench.ssh(BIOS_PARTITIONS)
        bench.stamp("partition")
        await deliver_keys(bench)
        await bench.ssh("nixos-generate-config --root /mnt")
        written = await bench.ssh("cat /mnt/etc/nixos/hardware-configuration.nix")
        assert 'fileSystems."/data"' in written
        assert 'fsType = "btrfs"' in written
        first, second = await bench.build("one"), await bench.build("two")
        await bench.copy(first, into_target=True)
        bench.stamp("copy")
        said = await bench.ssh(f"nixos-install --no-root-passwd --no-channel-copy --system {first} 2>&1")
        assert "installation finished!" in said
        bench.stamp("install")

        await reboot(bench, machine)
        assert (await bench.ssh("hostname; cat /etc/motd; readlink /run/current-system")).split() == [
            "web",
            "one",
            first,
        ]
        assert "VARIANT_ID" not in await bench.ssh(
            "cat /etc/os-release; ! ls /etc/nixops-proxmox-installer 2>/dev/null"
        )
        assert (await bench.ssh("findmnt -n -o FSTYPE /data")).strip() == "btrfs"
        url = f"http://[{ADDRESS}]:8080/"
        assert (await bench.run(["curl", "-gsS", "--retry", "20", "--retry-all-errors", url]))[1].strip() == "web"

        await bench.copy(second, into_target=False)
        profile = "/nix/var/nix/profiles/system"
        await bench.ssh(f"nix-env -p {profile} --set {second} && {second}/bin/switch-to-configuration switch")
        assert (await bench.ssh("cat /etc/motd")).strip() == "two"
        await bench.ssh(f"nix-env -p {profile} --rollback && {profile}/bin/switch-to-configuration switch")
        assert (await bench.ssh("cat /etc/motd")).strip() == "one"
        bench.stamp("second system, and back")
        await bench.ssh("/usr/lib/lab/bootloader refresh")
        menu = await bench.ssh("cat /boot/extlinux/extlinux.conf")
        assert "NixOS - Configuration 1" in menu
        assert f"init={second}/init" in menu

        await check_hotplug(bench, machine)
        bench.stamp("hotplug")
        await check_mirror(bench, machine)
        bench.stamp("mirror")
        assert await machine.shut_down(30)
        assert bench.ended == [Ended.HOST]
        bench.stamp("shutdown")
        print(bench.times)  # noqa: T201

    play(scenario, 500)


async def check_hotplug(bench: Bench, machine: QemuMachine) -> None:
    """The guest sees what comes and goes."""
    before = machine.hardware
    more = with_disks(
        before, *before.disks, await bench.disk("scsi5", serial="LATE"), await bench.disk("virtio3", serial="LATER")
    )
    more = replace(more, nics=(*before.nics, bench.nic("net2", "BC:24:11:00:00:03", "vmbr2")))
    await machine.change(before, more)
    await bench.wait_for(machine, "ls /dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_LATE /dev/disk/by-id/virtio-LATER")
    assert "192.88.99." in await bench.wait_for(machine, "ip -br -4 address show eth2 | grep 192.88.99")
    await machine.change(more, before)
    gone = await bench.wait_for(machine, "! ls /dev/disk/by-id | grep LATE; ! ls /sys/class/net | grep eth2")
    assert gone == ""


async def check_mirror(bench: Bench, machine: QemuMachine) -> None:
    """The disk that the guest runs from moves, and the guest writes on."""
    slot = next(disk for disk in machine.hardware.disks if disk.key == "scsi0")
    assert slot.volume is not None
    target = (await bench.disk("scsi6", slot.volume.size)).volume
    assert target is not None
    await bench.driver.mirror(slot.volume, target)
    slot.volume.path.unlink()
    assert (await bench.ssh("echo after >/root/after; sync; cat /root/after")).strip() == "after"
    drives = await machine.monitor.execute("query-block")
    assert str(target.path) in [drive["inserted"]["file"] for drive in drives if drive["device"] == "drive-scsi0"]


@pytest.mark.weekly
def test_a_uefi_machine_with_a_tpm_is_installed_from_a_configuration(play: Callable[..., Any]) -> None:
    async def scenario(bench: Bench) -> None:
        disks = [
            await bench.disk("scsi0", 4 * GIB),
            await bench.disk("efidisk0", 540672),
            await bench.disk("tpmstate0", 4 << 20),
        ]
        hardware = replace(with_disks(PLAIN, *disks, bench.installer()), bios="ovmf", nics=(bench.nic(),), memory=1024)
        machine = await bench.start(hardware)
        await enter_installer(bench, machine)
        assert "tpm0" in await bench.ssh("ls /sys/class/tpm; ls -d /sys/firmware/efi")
        await check_refusals(bench)
        await bench.ssh(UEFI_PARTITIONS)
        bench.stamp("partition")
        await deliver_keys(bench)
        await bench.ssh("nixos-generate-config --root /mnt")
        _, client = bench.make_key("client")
        configuration = (
            "{ config, lib, pkgs, ... }: {\n  imports = [ ./hardware-configuration.nix ];\n"
            '  networking.hostName = lib.mkDefault "minimal";\n'
            f'  users.users.root.openssh.authorizedKeys.keys = [ "{client.strip()}" ];\n'
            '  environment.etc."nixops-proxmox/network.json".text = builtins.toJSON { interfaces = [ {\n'
            '    mac = "bc:24:11:00:00:01"; ipv4 = "10.77.0.9/24"; gateway4 = "10.77.0.1"; ipv6 = "auto"; } ]; };\n}\n'
        )
        await bench.ssh(f"cat > /mnt/etc/nixos/configuration.nix <<'EOF'\n{configuration}EOF\nrm -r /mnt/root/.ssh")
        await bench.ssh("nixos-install --no-root-passwd")
        bench.stamp("install")
        await reboot(bench, machine)
        seen = await bench.ssh("hostname; ls -d /sys/firmware/efi; ip -br -4 address show eth0")
        assert "minimal" in seen
        assert "10.77.0.9/24" in seen
        assert "Generation 1" in await bench.ssh("cat /boot/loader/entries/nixos-generation-1.conf")

        os.kill(machine.pid, signal.SIGKILL)
        assert await bench.wait_for_end() is Ended.CRASHED
        again = await bench.start(with_disks(hardware, *disks, DiskSlot("ide2", None, cdrom=True)))
        await bench.wait_for_agent(again)
        bench.stamp("after a crash: power on → agent")
        await again.power_off()
        print(bench.times)  # noqa: T201

    play(scenario, 500)


async def check_refusals(bench: Bench) -> None:
    """The stand-ins fail where and as the originals do."""
    for command, said in {
        "nixos-install --root /nowhere": "error: mount point /nowhere doesn't exist",
        "nixos-install": "error: /mnt is not a mount point",
        "nixos-install --flake .#web": "error: --flake: the lab's nixos-install has no nixpkgs",
        "nixos-install --surprise": "unknown option `--surprise'",
        "mount -t tmpfs t /mnt; nixos-install; s=$?; umount /mnt; exit $s": "configuration.nix doesn't exist",
        "mount -t tmpfs t /mnt; nixos-install --system /nix/x; s=$?; umount /mnt; exit $s": "/mnt is not on a disk",
        "nixos-enter --root /mnt -c true": "'/mnt' is not a NixOS installation",
    }.items():
        assert said in await bench.ssh(f"! ( {command} ) 2>&1"), command


def test_a_machine_that_powers_itself_off_is_seen_to_have_done_so(play: Callable[..., Any]) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.start(with_disks(replace(PLAIN, boot=("ide2",)), bench.installer()))
        await bench.wait_for_agent(machine)
        await bench.wait_for(machine, "ls /run/acpid.pid")
        await machine.monitor.execute("system_powerdown")  # the power button
        assert await bench.wait_for_end(30) is Ended.GUEST_SHUTDOWN
        assert "reboot: Power down" in (machine.folder / "serial.log").read_text(errors="replace")

    play(scenario, 120)
