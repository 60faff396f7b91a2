"""Our scripts in the lab's own guests: what they ask of a guest must be what a guest has."""

import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from nixops_proxmox.guest.disks import LIST_DISKS, match_disks, parse_disks
from nixops_proxmox.guest.installer import enter_script, parse_entered
from nixops_proxmox.model import Completed, Job, JobPhase
from nixops_proxmox.spec import Disk
from nixops_proxmox.ssh.jobs import discard_script, find_script, parse_job, start_script
from nixops_proxmox.ssh.keys import new_key_pair
from tests.lab.machines.conftest import namespaces as namespaces
from tests.lab.machines.conftest import play as play
from tests.lab.machines.simulated_bench import PARTITION, Bench
from tests.pace import turns

Play = Callable[[Callable[[Bench], Coroutine[Any, Any, None]]], None]
pytestmark = pytest.mark.netns


async def run(bench: Bench, machine: Any, script: str, stdin: bytes = b"") -> Completed:
    done = await bench.run(machine, script, stdin)
    return Completed(done.status, done.out, done.err)


def test_the_installer_is_entered(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        key = new_key_pair("ours")
        entered = parse_entered(await run(bench, machine, enter_script([key.public])))
        assert entered.is_installer and entered.host_keys and entered.uuid
        assert (await run(bench, machine, "cat /root/.ssh/authorized_keys")).stdout == key.public + "\n"

    play(scenario)


def test_disks_are_listed_with_what_is_on_them(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        blank = parse_disks((await run(bench, machine, LIST_DISKS)).stdout)
        assert blank and not any(disk.signatures for disk in blank)
        assert (await run(bench, machine, PARTITION)).status == 0
        written = parse_disks((await run(bench, machine, LIST_DISKS)).stdout)
        assert any("ext4" in disk.signatures for disk in written)
        wanted = Disk(slot="scsi0", storage="local", size=written[0].size)
        assert match_disks("web", [(wanted, written[0].serial or "x")], written)[0] == written[0]

    play(scenario)


def test_jobs_run_detached(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        script = b"echo begun; sleep 0.7; echo ended; exit 3"

        async def find() -> Job:
            return parse_job((await run(bench, machine, find_script("j"))).stdout)

        assert (await find()).phase is JobPhase.ABSENT
        for _ in range(2):
            done = await run(bench, machine, start_script("j", len(script)), script)
            assert done.status == 0, done
        assert (await find()) == Job(JobPhase.RUNNING, 0, "begun\n")

        async def ended() -> bool:
            return (await find()).phase is not JobPhase.RUNNING

        await turns(ended)
        assert await find() == Job(JobPhase.DONE, 3, "begun\nended\n")
        assert (await run(bench, machine, discard_script("j"))).status == 0
        assert (await find()).phase is JobPhase.ABSENT

    play(scenario)


LOG_IN = """
import sys
from pathlib import Path
from nixops_proxmox.reach.race import StopSignal
from nixops_proxmox.model import Endpoint
from nixops_proxmox.ssh.login import SshLogin
from nixops_proxmox.ssh.identity import LoginKeys
from nixops_proxmox.ssh.probe import probe_host_key
from nixops_proxmox.ssh.shell import SshShell
from tests.pace import patience

host, key, file = sys.argv[1:]
login = SshLogin(Endpoint(host), (key,), LoginKeys(files=(Path(file),)))
probe_host_key(login, StopSignal())
with SshShell(login) as shell:
    shell.start_job("j", "sleep 0.3; echo logged; exit 5")
    job = shell.wait_for_job("j", timeout=patience(20), tell=lambda line: None)
    done = shell.run("wc -c; echo err >&2; exit 3", stdin=bytes(1000000))
    print(job.status, job.log_tail.strip(), done.status, done.stdout.strip(), done.stderr.strip())
"""


def test_the_lab_guests_sshd_lets_us_work_by_every_address(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        await bench.authorize(machine)
        (host_key,) = parse_entered(await run(bench, machine, enter_script([]))).host_keys
        for index, address in enumerate(bench.addresses(machine)):
            code = LOG_IN.replace('"j"', f'"j{index}"')
            done = await bench.command([sys.executable, "-c", code, address, host_key, str(bench.write_key())])
            assert (done.status, done.out) == (0, "5 logged 3 1000000 err\n"), done

    play(scenario)
