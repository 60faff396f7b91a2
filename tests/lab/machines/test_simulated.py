"""Guests from outside: boot, agent, SSH, disks, installation, power."""

import asyncio
import base64
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace

import asyncssh
import pytest

from nixops_proxmox.lab.hardware import names_drives
from nixops_proxmox.lab.machines.base import AgentError, AgentTimeout, Ended, NicSlot, StartFailed
from nixops_proxmox.lab.machines.simulated import Options, volumes
from nixops_proxmox.lab.machines.simulated.sandbox import Sandbox
from nixops_proxmox.lab.release import get_release
from tests.lab.machines.simulated_bench import GIB, PARTITION, Bench, until
from tests.pace import patience

Play = Callable[..., None]
MAKE_KEY = (
    "mkdir -p /mnt/etc/ssh; ssh-keygen -q -t ed25519 -N '' -f /mnt/etc/ssh/ssh_host_ed25519_key; cat /mnt/etc/ssh/*.pub"
)
pytestmark = pytest.mark.netns


def test_the_installer_boots_from_the_cd_and_says_so(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        assert (await machine.agent("guest-get-osinfo", {}, 3))["variant-id"] == "installer"
        assert await bench.must(machine, "cat /etc/nixops-proxmox-installer") == "simulated\n"
        assert (
            await bench.must(machine, "cat /sys/class/dmi/id/product_uuid") == "6f0a3c52-0000-4000-8000-00000000ab01\n"
        )

    play(scenario)


def test_a_reset_is_another_boot_with_another_host_key(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        look = "cat /proc/sys/kernel/random/boot_id /etc/ssh/ssh_host_ed25519_key.pub"
        before = (await bench.must(machine, look)).splitlines()
        await machine.reset()
        await bench.wait_for_agent(machine)
        after = (await bench.must(machine, look)).splitlines()
        assert not set(before) & set(after)

    play(scenario)


def test_a_file_of_bytes_goes_in_and_out_through_the_agent(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        data = bytes(range(256)) * 100
        handle = await machine.agent("guest-file-open", {"path": "/root/x", "mode": "w"}, 3)
        wrote = await machine.agent(
            "guest-file-write", {"handle": handle, "buf-b64": base64.b64encode(data).decode()}, 3
        )
        assert wrote == {"count": len(data), "eof": False}
        await machine.agent("guest-file-close", {"handle": handle}, 3)
        handle = await machine.agent("guest-file-open", {"path": "/root/x"}, 3)
        read = await machine.agent("guest-file-read", {"handle": handle, "count": 1 << 20}, 3)
        assert (base64.b64decode(read["buf-b64"]), read["eof"]) == (data, True)
        with pytest.raises(AgentError, match="No such file or directory"):
            await machine.agent("guest-file-open", {"path": "/nowhere/x"}, 3)
        with pytest.raises(AgentError, match="handle '5' has not been found"):
            await machine.agent("guest-file-close", {"handle": 5}, 3)

    play(scenario)


def test_what_became_of_a_program_is_told_once(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        answer = await bench.run(machine, "cat; echo oops >&2; exit 7", b"given")
        assert (answer.status, answer.out, answer.err) == (7, "given", "oops\n")
        pid = (await machine.agent("guest-exec", {"path": "/bin/true"}, 3))["pid"]

        async def ended() -> bool:
            return bool((await machine.agent("guest-exec-status", {"pid": pid}, 3))["exited"])

        await until(ended, lambda: "/bin/true")
        with pytest.raises(AgentError, match=f"PID {pid} does not exist"):
            await machine.agent("guest-exec-status", {"pid": pid}, 3)
        with pytest.raises(AgentError, match="Failed to execute child process"):
            await machine.agent("guest-exec", {"path": "no-such-program"}, 3)

    play(scenario)


def test_an_agent_that_is_paused_is_a_timeout(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        machine.pause_agent()
        with pytest.raises(AgentTimeout):
            await machine.agent("guest-ping", {}, 0.05)
        machine.pause_agent(on=False)
        assert await machine.agent("guest-ping", {}, 1) == {}

    play(scenario)


def test_ssh_takes_only_keys_that_the_guest_has(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        with pytest.raises(asyncssh.PermissionDenied):
            await bench.ssh(machine)
        await bench.authorize(machine)
        for address in bench.addresses(machine):
            async with await bench.ssh(machine, address) as connection:
                done = await connection.run("cat; echo err >&2; exit 3", input=b"\0\xff" * 500_000, encoding=None)
            assert (done.stdout, done.stderr, done.exit_status) == (b"\0\xff" * 500_000, b"err\n", 3)

    play(scenario)


def test_the_host_key_is_the_file_that_the_agent_reads(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        await bench.authorize(machine)
        told = await bench.must(machine, "cat /etc/ssh/ssh_host_ed25519_key.pub")
        async with await bench.ssh(machine) as connection:
            shown = connection.get_server_host_key()
        assert shown is not None and shown.export_public_key().decode().split()[:2] == told.split()[:2]

    play(scenario)


@pytest.mark.parametrize("method", ["curve25519-sha256", "curve25519-sha256@libssh.org"])
def test_both_names_of_the_key_exchange_are_taken(play: Play, method: str) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        await bench.authorize(machine)
        done = await bench.command(
            ["ssh", *options(bench), "-o", f"KexAlgorithms={method}", f"root@{bench.addresses(machine)[0]}", "true"]
        )
        assert done.status == 0, done

    play(scenario)


def test_openssh_gets_in_over_ipv6(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        await bench.authorize(machine)
        address = next(address for address in bench.addresses(machine) if ":" in address)
        done = await bench.command(["ssh", *options(bench), f"root@{address}", "hostname; pwd"])
        assert (done.status, done.out) == (0, "nixos-installer\n/root\n"), done

    play(scenario)


def options(bench: Bench) -> list[str]:
    settings = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "LogLevel=ERROR"]
    return ["-F", "none", "-i", str(bench.write_key()), *(word for setting in settings for word in ("-o", setting))]


def test_a_terminal_is_a_terminal_and_a_shell_without_one_reads_commands(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        await bench.authorize(machine)
        async with await bench.ssh(machine) as connection:
            shown = await connection.run("tty; stty size; exit 5", term_type="xterm", term_size=(100, 30))
            assert (shown.exit_status, str(shown.stdout).split()[-2:]) == (5, ["30", "100"])
            assert "not a tty" not in str(shown.stdout)
            typed = await connection.run(term_type="xterm", input="echo $((6 * 7))-$TERM\nexit\n")
            assert "42-xterm" in str(typed.stdout)
            plain = await connection.run(input="pwd\n")
            assert plain.stdout == "/root\n"

    play(scenario)


@pytest.mark.parametrize("protocol", ["-s", "-O"])
def test_scp_copies_both_ways(play: Play, protocol: str) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        await bench.authorize(machine)
        (bench.directory / "file").write_bytes(b"\0" * 300_000)
        far = f"root@[{bench.addresses(machine)[1]}]:/root/file"
        there = await bench.command(["scp", protocol, *options(bench), str(bench.directory / "file"), far])
        back = await bench.command(["scp", protocol, *options(bench), far, str(bench.directory / "again")])
        assert (there.status, back.status) == (0, 0), (there, back)
        assert (bench.directory / "again").read_bytes() == b"\0" * 300_000

    play(scenario)


def test_an_installed_disk_boots_by_itself_and_keeps_what_was_put_on_it(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        hardware = await bench.hardware(boot=("scsi0", "ide2"))
        machine = await bench.power_on(hardware)
        live = bench.addresses(machine)
        await install_plain(bench, machine)
        key = await bench.must(machine, MAKE_KEY)
        await bench.must(machine, "mkdir -p /mnt/root/.ssh; echo hello >/mnt/root/note; umount -R /mnt")
        assert await machine.shut_down(5)
        assert bench.ended == [(101, Ended.GUEST_SHUTDOWN)]

        machine = await bench.power_on(hardware)
        assert "variant-id" not in await machine.agent("guest-get-osinfo", {}, 3)
        assert (await machine.agent("guest-get-host-name", {}, 3))["host-name"] == "web"
        assert await bench.must(machine, "cat /root/note /etc/ssh/ssh_host_ed25519_key.pub") == "hello\n" + key
        assert "/" in await bench.must(machine, "findmnt -n -o TARGET /dev/sda2")
        assert not set(live) & set(bench.addresses(machine)), "the installed system has other addresses"
        await bench.authorize(machine)
        (await bench.ssh(machine)).abort()

    play(scenario)


def test_a_disk_may_move_under_a_running_guest(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        hardware = await bench.hardware()
        machine = await bench.power_on(hardware)
        await install_plain(bench, machine)
        await bench.must(machine, "umount -R /mnt")
        await machine.power_off()
        machine = await bench.power_on(replace(hardware, boot=("scsi0",)))
        await bench.authorize(machine)
        before = await bench.must(machine, "echo before >/root/note; cat /proc/sys/kernel/random/boot_id")
        old = hardware.disks[0].volume
        new = (await bench.new_disk("moved", 101)).volume
        assert old is not None and new is not None
        await bench.driver.mirror(old, new)
        await bench.driver.free(old)
        assert await bench.must(machine, "cat /root/note; cat /proc/sys/kernel/random/boot_id") == f"before\n{before}"
        async with await bench.ssh(machine) as connection:
            await connection.run("echo after >/root/note", check=True)
        await machine.reset()
        await bench.wait_for_agent(machine)
        assert await bench.must(machine, "cat /root/note") == "after\n"

    play(scenario)


async def install_plain(bench: Bench, machine, partition: str = PARTITION) -> None:  # type: ignore[no-untyped-def]
    await bench.must(machine, partition + "nixos-generate-config --root /mnt\n")
    await bench.must(machine, "echo '{ ... }: { networking.hostName = \"web\"; }' >/mnt/etc/nixos/configuration.nix")
    await bench.must(machine, "nixos-install --root /mnt --no-root-passwd")


@pytest.mark.parametrize(
    ("prepare", "complaint"),
    [
        ("true", "/mnt/etc/nixos/configuration.nix doesn't exist"),
        ("mkdir -p /mnt/etc/nixos; echo '{' >/mnt/etc/nixos/configuration.nix", "syntax error"),
        ("mkdir -p /mnt/etc/nixos; echo '{ }' >/mnt/etc/nixos/configuration.nix", "failed to install the boot loader"),
        (
            PARTITION.replace("ef02", "8300") + "mkdir -p /mnt/etc/nixos; echo '{ }' >/mnt/etc/nixos/configuration.nix",
            "no BIOS Boot Partition",
        ),
    ],
)
def test_nixos_install_fails_as_the_original_does(play: Play, prepare: str, complaint: str) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        await bench.must(machine, prepare)
        answer = await bench.run(machine, "nixos-install --root /mnt --no-root-passwd")
        assert answer.status == 1 and complaint in answer.err, answer

    play(scenario)


def test_uefi_wants_an_esp(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware(bios="ovmf"))
        with pytest.raises(AssertionError, match="ESP"):
            await install_plain(bench, machine)
        await bench.must(machine, "umount -R /mnt")
        layout = PARTITION.replace("+2M -t 1:ef02 -c 1:bios", "+256M -t 1:ef00 -c 1:ESP")
        layout += 'mkfs.vfat -F 32 -n ESP "$disk-part1"\nmkdir -p /mnt/boot\nmount "$disk-part1" /mnt/boot\n'
        await install_plain(bench, machine, layout)
        await bench.must(machine, "echo kernel >/mnt/boot/kernel")
        await machine.power_off()
        hardware = machine.hardware
        machine = await bench.power_on(replace(hardware, boot=("scsi0",)))
        assert (
            await bench.must(machine, "cat /boot/kernel; findmnt -n -o SOURCE,FSTYPE /boot")
            == "kernel\n/dev/sda1 vfat\n"
        )

    play(scenario)


def test_seabios_hangs_on_a_partitioned_disk_without_boot_loader_and_ovmf_goes_on(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        seabios = await bench.hardware(101, boot=("scsi0", "ide2"))
        machine = await bench.power_on(seabios)
        await bench.must(machine, PARTITION)
        await machine.reset()

        async def hangs() -> bool:
            return "SeaBIOS hangs" in machine.trouble

        await until(hangs, lambda: "the firmware")
        with pytest.raises(AgentTimeout):
            await machine.agent("guest-ping", {}, 0.05)
        assert not await machine.shut_down(0.05), "nothing there listens to the ACPI button"
        await machine.power_off()
        again = await bench.power_on(replace(seabios, bios="ovmf"))
        assert again.body is not None and again.body.about.installer

    play(scenario)


def test_a_guest_that_reboots_itself_stays_powered_on(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        before = await bench.must(machine, "cat /proc/sys/kernel/random/boot_id")
        started = machine.started
        await machine.agent("guest-exec", {"path": "reboot"}, 5)
        await until(lambda: rebooted(machine), lambda: "another boot")
        assert (bench.ended, machine.started) == ([], started)
        assert await bench.must(machine, "cat /proc/sys/kernel/random/boot_id") != before

    async def rebooted(machine) -> bool:  # type: ignore[no-untyped-def]
        return len(machine.boots) == 2 and machine.is_up()

    play(scenario)


def test_a_crash_takes_every_process_along(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        await bench.authorize(machine)
        async with await bench.ssh(machine) as connection:
            session = asyncio.ensure_future(connection.run("sleep 654.321"))
            await until(lambda: sees(bench, True), lambda: "sleep")
            await machine.crash()
            done = await asyncio.gather(session, return_exceptions=True)
        assert isinstance(done[0], BaseException) or done[0].exit_status != 0
        assert bench.ended == [(101, Ended.CRASHED)]
        await until(lambda: sees(bench, False), lambda: "no sleep")

    async def sees(bench: Bench, there: bool) -> bool:
        return ((await bench.command(["pgrep", "-f", "sleep 654.321"])).status == 0) is there

    play(scenario)


def test_a_guest_whose_first_process_is_killed_has_crashed(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        assert isinstance(machine.body, Sandbox)
        os.kill(machine.body.holder.pid, signal.SIGKILL)

        async def ended() -> bool:
            return bench.ended == [(101, Ended.CRASHED)]

        await until(ended, lambda: "the news of it")
        with pytest.raises(AgentTimeout):
            await machine.agent("guest-ping", {}, 0.05)
        await bench.power_on(machine.hardware)

    play(scenario)


def test_a_machine_that_is_on_cannot_be_powered_on(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        with pytest.raises(StartFailed, match="already running"):
            await bench.power_on(machine.hardware)

    play(scenario)


def test_a_slow_boot_is_slow_and_power_off_does_not_wait_for_it(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        hardware = await bench.hardware()
        machine = await bench.driver.power_on(hardware, lambda why: bench.ended.append((101, why)))
        with pytest.raises(AgentTimeout):
            await machine.agent("guest-ping", {}, 0.1)
        await machine.power_off()
        assert bench.ended == [(101, Ended.HOST)]

    play(scenario, Options(installer_boot=30))


def test_a_cut_cable_stalls_and_heals(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        await bench.authorize(machine)
        async with await bench.ssh(machine) as connection:
            cut = asyncio.create_task(machine.cut_network(patience(0.4)))

            async def stalls() -> bool:
                try:
                    (await bench.driver.network.holder.connect(bench.addresses(machine)[0], 22, timeout=0.1)).close()
                except OSError:
                    return True
                return False

            await until(stalls, lambda: "the cut")
            await cut
            assert (await asyncio.wait_for(connection.run("echo alive"), patience(10))).stdout == "alive\n"

    play(scenario)


def test_an_isolated_bridge_is_reached_through_a_jump_host_alone(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        nics = (
            NicSlot("net0", "virtio", "BC:24:11:00:01:01", "vmbr0"),
            NicSlot("net1", "virtio", "BC:24:11:00:01:02", "vmbr1"),
        )
        jump = await bench.power_on(await bench.hardware(101, nics=nics))
        inner = await bench.power_on(
            await bench.hardware(102, nics=(NicSlot("net0", "virtio", "BC:24:11:00:02:01", "vmbr1"),))
        )
        for machine in (jump, inner):
            await bench.authorize(machine)
        for address in bench.addresses(inner):
            with pytest.raises(OSError):
                await bench.driver.network.holder.connect(address, 22, timeout=0.2)
            async with (
                await bench.ssh(jump) as tunnel,
                asyncssh.connect(
                    address, tunnel=tunnel, username="root", client_keys=[bench.key], known_hosts=None, config=None
                ) as connection,
            ):
                assert (await connection.run("hostname")).stdout == "nixos-installer\n"

    play(scenario)


def test_lsblk_tells_disks_with_serial_and_size(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        hardware = await bench.hardware()
        data = await bench.new_disk("scsi1", 101, "data1", 3 * GIB)
        machine = await bench.power_on(replace(hardware, disks=(*hardware.disks, data)))
        told = json.loads(await bench.must(machine, "lsblk -b -J -o NAME,SERIAL,SIZE,TYPE,WWN,MODEL"))["blockdevices"]
        assert [(disk["name"], disk["serial"], disk["size"], disk["type"]) for disk in told] == [
            ("sda", "root1", 8 * GIB, "disk"), ("sr0", None, 8, "rom"), ("sdb", "data1", 3 * GIB, "disk"),
        ]  # fmt: skip

    play(scenario)


@pytest.mark.parametrize(
    ("machine", "release", "expected"),
    [
        ("pc", "8.4", False),
        ("pc", "9.0", True),
        ("q35", "9.1", True),
        ("pc-i440fx-9.2", "9.1", False),
        ("pc-q35-10.0+pve1", "9.0", True),
    ],
)
def test_what_a_scsi_disk_says_of_itself_follows_from_the_version_of_the_machine(
    machine: str, release: str, expected: bool
) -> None:
    assert names_drives(machine, get_release(release)) is expected


def test_where_a_disk_says_its_slot_udev_names_it_so_and_lsblk_still_tells_the_serial(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(replace(await bench.hardware(), names_drives=True))
        told = await bench.must(machine, "lsblk -d -n -o NAME,SERIAL; ls /dev/disk/by-id")
        assert "sda root1" in told and "scsi-0QEMU_QEMU_HARDDISK_drive-scsi0" in told
        assert "HARDDISK_root1" not in told

    play(scenario)


def test_names_sizes_and_serials_can_be_made_to_mislead(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        hardware = await bench.hardware()
        data = await bench.new_disk("scsi1", 101, "data1", 4 * GIB)
        machine = await bench.power_on(replace(hardware, disks=(*hardware.disks, data)))
        told = (await bench.must(machine, "lsblk -b -d -n -o NAME,SIZE,SERIAL")).splitlines()
        assert told[0] == f"sda {2 * GIB} data1" and told[2].startswith(f"sdb {8 * GIB} ") and "root1" not in told[2]

    play(scenario, Options(disk_order="reversed", wrong_size=frozenset({"scsi1"}), wrong_serial=frozenset({"scsi0"})))


def test_a_disk_that_nobody_writes_keeps_its_checksum(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        hardware = await bench.hardware()
        data = await bench.new_disk("scsi1", 101, "data1")
        assert data.volume is not None
        hardware = replace(hardware, disks=(*hardware.disks, data))
        machine = await bench.power_on(hardware)
        await bench.must(
            machine, "mkfs.ext4 -q /dev/sdb && mkdir /d && mount /dev/sdb /d && echo precious >/d/file && umount /d"
        )
        before = volumes.checksum(data.volume)
        await install_plain(bench, machine)
        await machine.reset()
        await bench.wait_for_agent(machine)
        assert volumes.checksum(data.volume) == before
        await bench.must(machine, "mount /dev/sdb /mnt && echo more >>/mnt/file")
        assert volumes.checksum(data.volume) != before

    play(scenario)


def test_a_disk_made_read_only_takes_no_writes_until_the_next_boot(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        await bench.must(machine, "mkfs.ext4 -q /dev/sda && mount /dev/sda /mnt && echo x >/mnt/x && umount /mnt")
        await bench.must(machine, "blockdev --setro /dev/sda && mount /dev/sda /mnt && cat /mnt/x")
        for attempt in (
            "echo y >/mnt/y",
            "umount /mnt; wipefs -a /dev/sda",
            "sgdisk -Z /dev/sda",
            "mkfs.ext4 -q -F /dev/sda",
        ):
            assert (await bench.run(machine, attempt)).status != 0, attempt
        await machine.reset()
        await bench.wait_for_agent(machine)
        await bench.must(machine, "mount /dev/sda /mnt && cat /mnt/x && echo y >/mnt/y")

    play(scenario)


def test_a_copied_volume_and_a_snapshot_hold_what_was_there(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        disk = await bench.new_disk("scsi0", 7)
        assert disk.volume is not None
        empty = volumes.checksum(disk.volume)
        await bench.driver.snapshot(disk.volume, "before")
        (volumes.now(disk.volume) / "parts" / "1").mkdir()
        other = replace(disk.volume, path=bench.directory / "copy")
        await bench.driver.copy(disk.volume, other)
        assert volumes.checksum(other) == volumes.checksum(disk.volume) != empty
        await bench.driver.rollback(disk.volume, "before")
        assert volumes.checksum(disk.volume) == empty
        await bench.driver.free(other)
        assert not other.path.exists()

    play(scenario)


def test_a_disk_that_is_unplugged_is_gone_from_the_guest_mounted_or_not(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        hardware = await bench.hardware()
        data, spare = await bench.new_disk("scsi1", 101, "data1"), await bench.new_disk("scsi2", 101, "spare1")
        machine = await bench.power_on(replace(hardware, disks=(*hardware.disks, data, spare)))
        disk = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data1"
        await bench.must(machine, f"mkfs.ext4 -q {disk}; mkdir -p /data; mount {disk} /data; echo kept >/data/file")
        listed = "lsblk -d -n -o NAME,SERIAL; ls /data /dev/sd* /dev/disk/by-id; blkid; true"
        assert "data1" in await bench.must(machine, listed)
        await machine.change(machine.hardware, replace(machine.hardware, disks=(*hardware.disks, spare)))
        after = await bench.must(machine, listed)
        assert "data1" not in after and "file" not in after and "sdb" not in after
        assert "root1" in after and "sdc spare1" in after
        assert (await bench.run(machine, "mountpoint -q /data")).status != 0
        assert data.volume is not None
        assert volumes.load(data.volume)["fs"]["0"]["type"] == "ext4"

    play(scenario)


def test_a_disk_that_is_plugged_in_is_found_at_once_and_gone_when_it_is_taken(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        hardware = await bench.hardware()
        machine = await bench.power_on(hardware)
        data = await bench.new_disk("scsi30", 101, "data1")
        await machine.change(hardware, replace(hardware, disks=(*hardware.disks, data)))
        disk = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data1"
        assert "sdb data1" in await bench.must(machine, "lsblk -d -n -o NAME,SERIAL")
        await bench.must(machine, f"mkfs.ext4 -q {disk}; mkdir -p /data; mount {disk} /data; echo kept >/data/file")
        await machine.change(machine.hardware, hardware)
        assert "data1" not in await bench.must(machine, "lsblk -d -n -o NAME,SERIAL; ls /dev/disk/by-id /data")
        await machine.change(machine.hardware, replace(hardware, disks=(*hardware.disks, data)))
        assert await bench.must(machine, f"mount {disk} /data; cat /data/file") == "kept\n"

    play(scenario)


def test_a_disk_that_is_swapped_is_let_go_of_and_its_name_is_not_given_to_another(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        hardware = await bench.hardware()
        machine = await bench.power_on(hardware)
        other = replace(await bench.new_disk("scsi1", 102, "root1"), key="scsi0")
        await machine.change(hardware, replace(hardware, disks=(other, bench.cd)))
        assert "root1" not in await bench.must(machine, "lsblk -d -n -o NAME,SERIAL")
        await machine.reset()
        await bench.wait_for_agent(machine)
        assert "sda root1" in await bench.must(machine, "lsblk -d -n -o NAME,SERIAL")

    play(scenario)


def test_a_cd_that_is_taken_out_leaves_its_drive_and_everything_else_alone(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        hardware = await bench.hardware()
        machine = await bench.power_on(hardware)
        assert "sr0" in await bench.must(machine, "lsblk -d -n -o NAME")
        tray = replace(bench.cd, volume=None)
        await machine.change(hardware, replace(hardware, disks=(hardware.disks[0], tray)))
        assert (await bench.must(machine, "lsblk -d -n -o NAME,SERIAL; ls /dev/sr0")).split() == [
            "sda",
            "root1",
            "/dev/sr0",
        ]
        await machine.change(machine.hardware, hardware)

    play(scenario)
