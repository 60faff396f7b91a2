"""No child outlives the lab, and what an earlier one left is found by its pid file, and only that."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from nixops_proxmox.lab.owned import (
    end_owned,
    find_recorded,
    find_start_time,
    owned_argv,
    start_owned,
    sweep,
    write_pid,
)
from tests.pace import patience, wait_until

PARENT = """
import asyncio, sys
from pathlib import Path
from nixops_proxmox.lab.owned import owned_argv, start_owned
async def main():
    folder = Path(sys.argv[1])
    await start_owned(owned_argv(["sleep", "600"]), pid_file=folder / "child.pid", log=folder / "log", cwd=folder)
    print("started", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def test_a_child_dies_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"started\n"
        child = find_recorded(tmp_path / "child.pid")
        assert child is not None
        parent.kill()
    wait_until(lambda: find_start_time(child) is None, 5)


def test_a_sweep_ends_what_the_pid_file_names(tmp_path: Path) -> None:
    (tmp_path / "101").mkdir()
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as left:
        write_pid(tmp_path / "101/qemu.pid", left.pid)
        assert sweep(tmp_path) == ["101/qemu.pid"]
        assert left.wait(patience(5)) == -signal.SIGKILL
    assert sweep(tmp_path) == []


def test_a_process_that_has_the_number_by_now_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "qemu.pid").write_text(f"{os.getpid()} 1\n")
    assert sweep(tmp_path) == []
    assert not (tmp_path / "qemu.pid").exists()


def test_rubbish_in_a_pid_file_names_nobody(tmp_path: Path) -> None:
    for text in ("", "-1 5", "one two", f"{os.getpid()}"):
        (tmp_path / "qemu.pid").write_text(text)
        assert find_recorded(tmp_path / "qemu.pid") is None


def test_ending_asks_first_and_then_insists(tmp_path: Path) -> None:
    async def go() -> list[int | None]:
        polite = await start_owned(
            owned_argv(["sleep", "600"]), pid_file=tmp_path / "a.pid", log=tmp_path / "log", cwd=tmp_path
        )
        stubborn = await start_owned(
            owned_argv(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"]),
            pid_file=tmp_path / "b.pid", log=tmp_path / "ready", cwd=tmp_path,
        )  # fmt: skip
        async with asyncio.timeout(patience(5)):
            while (tmp_path / "ready").read_text() != "ready\n":
                await asyncio.sleep(0.01)
        await end_owned(polite, tmp_path / "a.pid", grace=5)
        await end_owned(stubborn, tmp_path / "b.pid", grace=0.1)
        return [polite.returncode, stubborn.returncode]

    assert asyncio.run(go()) == [-signal.SIGTERM, -signal.SIGKILL]
    assert not list(tmp_path.glob("*.pid"))


def test_a_parent_that_died_too_early_for_the_kernel_to_tell_is_noticed() -> None:
    argv = owned_argv(["echo", "on my own"])
    # The grandchild's parent is a shell, not us: as if we had died and it was adopted.
    done = subprocess.run(["sh", "-c", '"$@"; exit 7', "sh", *argv], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (7, "")
