"""Scripted guests know the scripts that the tool sends today."""

import asyncio
import base64
from collections.abc import Callable

import pytest

from nixops_proxmox.guest.agent import join_script, run_once_argv
from nixops_proxmox.guest.disks import LIST_DISKS, parse_disks
from nixops_proxmox.guest.installer import enter_script, parse_entered
from nixops_proxmox.lab.machines.simulated import Body, Options
from nixops_proxmox.lab.machines.simulated.machine import SimulatedMachine
from nixops_proxmox.lab.machines.simulated.scripted import ScriptedGuest
from nixops_proxmox.model import Completed, JobPhase
from nixops_proxmox.ssh.jobs import discard_script, find_script, parse_job, start_script
from tests.lab.machines.simulated_bench import GIB, Bench

pytestmark = pytest.mark.netns
SCRIPTED = Options(body=Body.SCRIPTED)


def guest_of(machine: SimulatedMachine) -> ScriptedGuest:
    assert isinstance(machine.body, ScriptedGuest)
    return machine.body


def test_the_way_in(play: Callable[..., None]) -> None:
    async def scenario(bench: Bench) -> None:
        guest = guest_of(await bench.power_on(await bench.hardware()))
        argv = run_once_argv("token-1")
        packed = base64.b64encode(enter_script([bench.public]).encode())
        pid, ending = await guest.start_program(argv, {}, packed)
        entrance = parse_entered(Completed(0, (await ending).out.decode(), ""))
        assert pid and entrance.is_installer and entrance.boot_id == guest.about.boot_id
        assert len(entrance.host_keys) == 1 and entrance.system == "NixOS 24.11 (lab)"
        assert bench.public.strip() in guest.files["/root/.ssh/authorized_keys"].decode()

    play(scenario, SCRIPTED)


def test_disks_and_jobs(play: Callable[..., None]) -> None:
    async def scenario(bench: Bench) -> None:
        guest = guest_of(await bench.power_on(await bench.hardware()))
        [disk] = parse_disks((await guest.run(LIST_DISKS, b"")).out.decode())
        assert (disk.serial, disk.size, disk.signatures) == ("root1", 8 * GIB, ())
        for name, script in (("partition-0-0", "sgdisk"), ("install-0", "nixos-install --root /mnt")):
            assert parse_job((await guest.run(find_script(name), b"")).out.decode()).phase is JobPhase.ABSENT
            assert (await guest.run(start_script(name, len(script)), script.encode())).status == 0
            await asyncio.sleep(0)
            job = parse_job((await guest.run(find_script(name, patience=2), b"")).out.decode())
            assert (job.phase, job.status) == (JobPhase.DONE, 0)
        assert (await guest.run(discard_script("install-0"), b"")).status == 0
        [disk] = parse_disks((await guest.run(LIST_DISKS, b"")).out.decode())
        assert disk.signatures == ("gpt",)

    play(scenario, SCRIPTED)


def test_a_file_in_parts(play: Callable[..., None]) -> None:
    async def scenario(bench: Bench) -> None:
        guest = guest_of(await bench.power_on(await bench.hardware()))
        for number, text in enumerate((b"one ", b"two")):
            file = await guest.open_file(f"/run/x/{number:06}", "w")
            file.write(text)
            file.close()
        assert (await guest.run(join_script("/run/x", "/root/whole", "0" * 64, 0o600), b"")).status == 0
        assert guest.files["/root/whole"] == b"one two"

    play(scenario, SCRIPTED)
