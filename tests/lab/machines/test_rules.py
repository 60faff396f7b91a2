"""Scripted guests know the scripts that the tool sends today, each by its marker."""

import ast
import asyncio
import base64
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nixops_proxmox.errors import ActivationFailed
from nixops_proxmox.guest.agent import IS_BOOTING, run_once_argv, tail_script
from nixops_proxmox.guest.disks import LIST_DISKS, parse_disks
from nixops_proxmox.guest.installer import enter_script, parse_entered
from nixops_proxmox.lab.machines.simulated import Body, Options
from nixops_proxmox.lab.machines.simulated.machine import SimulatedMachine
from nixops_proxmox.lab.machines.simulated.replies import JOBS, SCRIPTS, find_marker
from nixops_proxmox.lab.machines.simulated.scripted import ScriptedGuest
from nixops_proxmox.model import Completed, JobPhase, Probation, ProbationState
from nixops_proxmox.nixeval.activate import (
    activate_script,
    active_script,
    explain_inactive,
    find_generation_before,
    generations_script,
    parse_activation,
    rollback_script,
    seen_script,
)
from nixops_proxmox.nixeval.probation import (
    begin_script,
    confirm_script,
    parse_probation,
    refuse_script,
)
from nixops_proxmox.nixops2.console import SCRIPT
from nixops_proxmox.nixops2.original import meet_script
from nixops_proxmox.nixops2.physical import HARDWARE_SCRIPT, parse_hardware
from nixops_proxmox.ssh.jobs import discard_script, find_script, parse_job, start_script
from nixops_proxmox.texts import script_marker
from tests.lab.machines.simulated_bench import GIB, Bench

PACKAGE = Path(__file__).resolve().parents[3] / "nixops_proxmox"
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
        for name, script in (("partition-0-0", script_marker("partition")), ("install-0", script_marker("install"))):
            assert parse_job((await guest.run(find_script(name), b"")).out.decode()).phase is JobPhase.ABSENT
            assert (await guest.run(start_script(name, len(script)), script.encode())).status == 0
            await asyncio.sleep(0)
            job = parse_job((await guest.run(find_script(name, patience=2), b"")).out.decode())
            assert (job.phase, job.status) == (JobPhase.DONE, 0)
        assert (await guest.run(discard_script("install-0"), b"")).status == 0
        [disk] = parse_disks((await guest.run(LIST_DISKS, b"")).out.decode())
        assert disk.signatures == ("gpt",)

    play(scenario, SCRIPTED)


def test_every_script_of_the_tool_is_known_and_no_other() -> None:
    written = {name for path in sorted(PACKAGE.rglob("*.py")) for name in written_markers(path)}
    assert written == {*SCRIPTS, *JOBS, *NOT_IN_A_SIMULATED_GUEST}


# What a simulated guest has none of, and is never asked for: LUKS, LVM, swap and ZFS on a disk that grows, Nix, a TPM,
# and an SSH server before its disk is open.
NOT_IN_A_SIMULATED_GUEST = {
    *("grow-luks", "grow-pv", "grow-lv", "grow-swap", "grow-zfs"),
    *("hold", "fetch"),
    *("luks-hand-on", "luks-unlock"),
}


def written_markers(path: Path) -> Iterator[str]:
    """The names that a module gives to `script_marker`; each must be there to be read."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("script_marker", "_script"):
            if ast.unparse(node.args[0]) == "name":  # handed on by `_script`, whose callers say it
                continue
            assert isinstance(node.args[0], ast.Constant), f"{path}:{node.lineno}"
            yield str(node.args[0].value)


def test_the_contract_is_written_down() -> None:
    page = (PACKAGE.parent / "docs" / "lab-simulated.md").read_text()
    table = page.partition("| marker |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([a-z-]+)", table, re.MULTILINE)) == {*SCRIPTS, *JOBS}


@pytest.mark.parametrize("words", [("a b", "it's", "$(reboot)", ""), ()])
def test_a_marker_is_read_as_it_was_written(words: tuple[str, ...]) -> None:
    assert find_marker(script_marker("enter", *words) + "exit 1\n") == ("enter", *words)
    assert subprocess.run(["sh", "-c", script_marker("enter", *words) + "exit 3\n"], check=False).returncode == 3


def test_no_parameter_of_a_marker_begins_a_line_of_the_script() -> None:
    with pytest.raises(ValueError, match="line end"):
        script_marker("enter", "key\nreboot")


def test_a_system_is_activated_and_left_again(play: Callable[..., None]) -> None:
    async def scenario(bench: Bench) -> None:
        guest = guest_of(await bench.power_on(await bench.hardware()))

        async def tell(script: str) -> Completed:
            done = await guest.run(script, b"")
            return Completed(done.status, done.out.decode(), done.err.decode())

        for system, number in (("/nix/store/one", 2), ("/nix/store/two", 3), ("/nix/store/two", 3)):
            assert parse_activation(await tell(activate_script(system)), "web").generation == number
        assert find_generation_before((await tell(generations_script())).stdout) == 2
        assert parse_activation(await tell(rollback_script()), "web").generation == 2
        assert explain_inactive((await tell(seen_script())).stdout, "/nix/store/one").startswith("/nix/store/one is")
        with pytest.raises(ActivationFailed):
            parse_activation(await tell(rollback_script(7)), "web")

    play(scenario, SCRIPTED)


def test_a_system_is_on_probation_as_in_a_real_guest(play: Callable[..., None]) -> None:
    async def scenario(bench: Bench) -> None:
        guest = guest_of(await bench.power_on(await bench.hardware()))

        async def tell(script: str) -> Probation:
            done = await guest.run(script, b"")
            seen = parse_probation(Completed(done.status, done.out.decode(), done.err.decode()))
            assert seen is not None
            return seen

        before = guest.system
        assert (await tell(script_marker("probation-find"))).state is ProbationState.NONE
        seen = await tell(begin_script("/nix/store/one", "n1", seconds=60, policy="revert"))
        assert (seen.state, seen.previous, seen.alive) == (ProbationState.WAITING, before, True) and seen.left > 50
        assert (await guest.run(active_script(), b"")).out.strip() == b""
        assert (await guest.run(begin_script("/nix/store/two", "n2", seconds=60, policy="revert"), b"")).status == 75
        seen = await tell(confirm_script("n1"))
        assert (seen.state, seen.generation, guest.system) == (ProbationState.CONFIRMED, 2, "/nix/store/one")
        await tell(begin_script("/nix/store/two", "n2", seconds=60, policy="revert"))
        seen = await tell(refuse_script("n2", "it's ill"))
        assert (seen.state, seen.why, seen.refused) == (ProbationState.REVERTED, "it's ill", True)
        await tell(begin_script(before, "n3", seconds=0, policy="revert", generation=1))
        await asyncio.sleep(0.01)
        seen = await tell(confirm_script("n3"))
        assert (seen.state, guest.system) == (ProbationState.REVERTED, "/nix/store/one"), "it came too late"

    play(scenario, SCRIPTED)


def test_the_rest_of_the_contract_is_answered_as_a_real_guest_answers(play: Callable[..., None]) -> None:
    async def scenario(bench: Bench) -> None:
        guest = guest_of(await bench.power_on(await bench.hardware()))
        assert (await guest.run(tail_script("/etc/ssh/ssh_host_ed25519_key.pub", 4), b"")).out.startswith(b"ed25519 ")
        assert parse_hardware(json.loads((await guest.run(HARDWARE_SCRIPT, b"")).out), None)["fileSystems"]["/"]
        assert (await guest.run(meet_script(bench.public), b"")).out.startswith(b"ssh-ed25519 ")
        assert bench.public.encode() in guest.files["/root/.ssh/authorized_keys"]
        for script, told in ((IS_BOOTING, b"running\n"), (SCRIPT, b"")):
            assert (await guest.run(script, b"")).out == told

    play(scenario, SCRIPTED)
