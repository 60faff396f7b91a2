"""QEMU processes as machines: started, watched, changed and ended. No guest system boots in these tests."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.lab.image import ImagePaths
from nixops_proxmox.lab.machines.base import AgentTimeout, DiskSlot, Ended, StartFailed, Volume
from nixops_proxmox.lab.machines.qemu import argv
from nixops_proxmox.lab.owned import find_recorded, find_start_time
from tests.lab.qemu.bench import GIB, PLAIN, Bench, with_disks
from tests.pace import patience

pytestmark = pytest.mark.qemu


def test_a_machine_runs_pauses_resumes_and_is_switched_off(play: Callable[..., Any]) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.start(with_disks(PLAIN, await bench.disk("scsi0")))
        assert (await machine.status())["qmpstatus"] == "running"
        await machine.pause()
        assert (await machine.status())["qmpstatus"] == "paused"
        await machine.resume()
        status = await machine.status()
        assert status["mem"] > 0
        assert status.keys() >= {"qmpstatus", "cpu", "netin", "netout", "diskread", "diskwrite"}
        await machine.power_off()
        assert bench.ended == [Ended.HOST]
        assert find_start_time(machine.pid) is None

    play(scenario)


def test_a_machine_that_was_killed_has_crashed(play: Callable[..., Any]) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.start(replace(PLAIN, nics=(bench.nic(),)))
        os.kill(machine.pid, signal.SIGKILL)
        assert await bench.wait_for_end() is Ended.CRASHED
        shown = await bench.run(["ip", "link", "show", "tap101i0"])
        assert shown[0] != 0
        again = await bench.start(PLAIN)
        assert again.pid != machine.pid

    play(scenario)


def test_a_reset_machine_goes_on_running_since_its_power_on(play: Callable[..., Any]) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.start(with_disks(PLAIN, await bench.disk("scsi0")))
        first, started = machine.pid, machine.started
        await machine.reset()
        async with asyncio.timeout(patience(10)):
            while machine.pid == first:
                await asyncio.sleep(0.02)
            while (await machine.status())["qmpstatus"] != "running":
                await asyncio.sleep(0.02)
        assert bench.ended == []
        assert machine.started == started

    play(scenario)


def test_a_second_start_is_refused(play: Callable[..., Any]) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.start(PLAIN)
        with pytest.raises(StartFailed, match="VM 101 already running"):
            await bench.start(PLAIN)

    play(scenario)


def test_what_qemu_says_against_a_start_is_in_the_lines(play: Callable[..., Any]) -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(StartFailed, match="start failed: QEMU exited with code 1") as caught:
            await bench.start(replace(PLAIN, machine="pc-i440fx-99.9"))
        assert any("unsupported machine type" in line and line.startswith("kvm: ") for line in caught.value.lines)
        assert not list(bench.folder.rglob("*.pid")) or find_recorded(next(bench.folder.rglob("qemu.pid"))) is None

    play(scenario)


def test_a_missing_volume_fails_the_start_and_leaves_no_tap(play: Callable[..., Any]) -> None:
    async def scenario(bench: Bench) -> None:
        gone = DiskSlot("scsi0", Volume("local-lvm:gone", bench.folder / "gone", GIB, "raw"))
        with pytest.raises(StartFailed, match=r"start failed: .*gone"):
            await bench.start(replace(PLAIN, disks=(gone,), nics=(bench.nic(),)))
        assert (await bench.run(["ip", "link", "show", "tap101i0"]))[0] != 0

    play(scenario)


def test_nobody_answers_on_a_channel_without_a_guest(play: Callable[..., Any]) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.start(PLAIN)
        with pytest.raises(AgentTimeout, match=r"guest-ping: no answer within 0\.2 s"):
            await machine.agent("guest-ping", {}, 0.2)
        assert await machine.shut_down(0.3) is False
        assert bench.ended == []
        await machine.power_off()
        assert bench.ended == [Ended.HOST]

    play(scenario)


def test_disks_come_and_go_while_it_runs(play: Callable[..., Any]) -> None:
    async def scenario(bench: Bench) -> None:
        before = with_disks(PLAIN, await bench.disk("scsi0"))
        machine = await bench.start(before)
        more = with_disks(before, *before.disks, await bench.disk("scsi1", serial="DATA"))
        await machine.change(before, more)
        drives = {drive["device"]: drive for drive in await machine.monitor.execute("query-block")}
        assert drives["drive-scsi1"]["inserted"]["image"]["virtual-size"] == GIB
        await machine.change(more, before)
        assert "drive-scsi1" not in {drive["device"] for drive in await machine.monitor.execute("query-block")}
        assert machine.hardware.disks == before.disks
        with pytest.raises(StartFailed, match="sata0 cannot be plugged"):
            await machine.change(before, with_disks(before, *before.disks, await bench.disk("sata0")))

    play(scenario)


def test_a_disc_is_ejected_and_inserted(play: Callable[..., Any]) -> None:
    async def scenario(bench: Bench) -> None:
        empty, full = DiskSlot("ide2", None, cdrom=True), bench.installer()
        machine = await bench.start(with_disks(PLAIN, full))
        [drive] = await machine.monitor.execute("query-block")
        assert drive["inserted"]["file"] == str(bench.image.iso)
        await machine.change(with_disks(PLAIN, full), with_disks(PLAIN, empty))
        [drive] = await machine.monitor.execute("query-block")
        assert "inserted" not in drive
        await machine.change(with_disks(PLAIN, empty), with_disks(PLAIN, full))
        [drive] = await machine.monitor.execute("query-block")
        assert drive["inserted"]["file"] == str(bench.image.iso)

    play(scenario)


def test_a_nic_is_plugged_in_and_its_cable_moved(play: Callable[..., Any]) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.start(PLAIN)
        plugged = replace(PLAIN, nics=(bench.nic(),))
        await machine.change(PLAIN, plugged)
        assert (await bench.run(["ip", "-o", "link", "show", "tap101i0"]))[1].count("master vmbr0")
        moved = replace(PLAIN, nics=(replace(bench.nic(), bridge="vmbr2"),))
        await machine.change(plugged, moved)
        assert (await bench.run(["ip", "-o", "link", "show", "tap101i0"]))[1].count("master vmbr2")

    play(scenario)


def test_a_running_disk_is_resized_and_snapshot_through_its_qemu(play: Callable[..., Any]) -> None:
    async def scenario(bench: Bench) -> None:
        disk = await bench.disk("scsi0")
        assert disk.volume is not None
        machine = await bench.start(with_disks(PLAIN, disk))
        await bench.driver.resize(disk.volume, 2 * GIB)
        await bench.driver.snapshot(disk.volume, "before")
        [drive] = await machine.monitor.execute("query-block")
        assert drive["inserted"]["image"]["virtual-size"] == 2 * GIB
        assert [snapshot["name"] for snapshot in drive["inserted"]["image"]["snapshots"]] == ["before"]
        await bench.driver.drop_snapshot(disk.volume, "before")
        [drive] = await machine.monitor.execute("query-block")
        assert "snapshots" not in drive["inserted"]["image"]

    play(scenario)


def test_memory_is_saved_and_restored(play: Callable[..., Any]) -> None:
    async def scenario(bench: Bench) -> None:
        hardware = with_disks(PLAIN, await bench.disk("scsi0"))
        machine = await bench.start(hardware)
        await machine.save_state(bench.folder / "state")
        assert (await machine.status())["qmpstatus"] == "paused"
        await machine.power_off()
        restored = await bench.start(hardware, state=bench.folder / "state")
        assert (await restored.status())["qmpstatus"] == "running"

    play(scenario)


def test_uefi_variables_live_on_the_efi_disk(play: Callable[..., Any]) -> None:
    async def scenario(bench: Bench) -> None:
        efi = await bench.disk("efidisk0", 540672)
        assert efi.volume is not None
        blank = efi.volume.path.read_bytes()
        machine = await bench.start(replace(PLAIN, bios="ovmf", disks=(efi,)))
        assert (await machine.status())["qmpstatus"] == "running"
        await machine.power_off()
        assert efi.volume.path.read_bytes() != blank

    play(scenario)


def test_a_screenshot_is_a_png_and_a_machine_that_is_off_has_none(play: Callable[..., Any]) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.start(PLAIN)
        path = bench.driver.screenshot(101)
        assert path is not None
        assert path.read_bytes().startswith(b"\x89PNG")
        assert bench.driver.console(101) == machine.folder / argv.SERIAL
        await machine.power_off()
        assert bench.driver.screenshot(101) is None
        assert bench.driver.console(101) is None

    play(scenario)


LAB = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from dataclasses import replace
from nixops_proxmox.lab.image import ImagePaths
from tests.lab.qemu.bench import Bench, PLAIN
async def main():
    image = ImagePaths(*map(Path, sys.argv[2].split(":")), "")
    bench = Bench(Path(sys.argv[1]), image)
    await bench.driver.open()
    machine = await bench.start(replace(PLAIN, bios="ovmf", nics=(bench.nic(), bench.nic("net1", bridge="vmbr1")),
        disks=(await bench.disk("tpmstate0", 4 << 20),)))
    print(bench.driver.network.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def test_a_killed_lab_leaves_no_process_behind(tmp_path: Path, image: ImagePaths) -> None:
    paths = ":".join(map(str, (image.iso, image.kernel, image.initrd)))
    root = str(Path(__file__).parents[3])
    with subprocess.Popen([sys.executable, "-c", LAB, str(tmp_path), paths, root], stdout=subprocess.PIPE) as lab:
        assert lab.stdout is not None
        holder = int(lab.stdout.readline())
        pids = {file.name: find_recorded(file) for file in tmp_path.rglob("*.pid")}
        left = [holder, *(pid for pid in pids.values() if pid)]
        lab.kill()
    assert set(pids) == {"qemu.pid", "swtpm.pid", "dnsmasq.pid"}
    deadline = time.monotonic() + patience(10)
    while alive := [pid for pid in left if find_start_time(pid) is not None]:
        assert time.monotonic() < deadline, f"still there: {alive} of {pids}"
        time.sleep(0.02)
