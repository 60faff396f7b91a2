"""Child processes that cannot outlive us: the kernel ends them with the lab, and a sweep finds what is left of one.

`setpriv --pdeathsig` runs after whatever enters a namespace, which would clear the signal's setting; a parent that died
before it did so is seen by the child's having another one. The pid file holds pid and start time, so that a number
given to another process since is not mistaken for ours.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

KILLED_SECONDS = 10.0


def owned_argv(argv: Sequence[str]) -> list[str]:
    """`argv` that gets SIGKILL when the thread of ours that started it ends."""
    still_ours = f'[ "$PPID" = {os.getpid()} ] && exec "$@"'
    return ["setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", still_ours, "sh", *argv]


def find_start_time(pid: int) -> str | None:
    """Clock ticks from boot to the process's start (proc(5), stat field 22); None: there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def write_pid(file: Path, pid: int) -> None:
    file.write_text(f"{pid} {find_start_time(pid)}\n", encoding="utf-8")


def find_recorded(file: Path) -> int | None:
    """The process of a pid file, if it is still that one."""
    try:
        words = file.read_text(encoding="utf-8").split()
    except OSError:
        return None
    if len(words) != 2 or not words[0].isdigit() or find_start_time(int(words[0])) != words[1]:
        return None
    return int(words[0])


def kill_recorded(file: Path) -> bool:
    """Kill what a pid file names, and remove the file; True if there was something to kill."""
    pid = find_recorded(file)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    file.unlink(missing_ok=True)
    return pid is not None


def sweep(directory: Path) -> list[str]:
    """End what an earlier lab left running below `directory`; names of the pid files that named something."""
    return [str(file.relative_to(directory)) for file in sorted(directory.rglob("*.pid")) if kill_recorded(file)]


async def start_owned(argv: Sequence[str], *, pid_file: Path, log: Path, cwd: Path) -> asyncio.subprocess.Process:
    """Start `argv` in `cwd`, its output appended to `log`. The program is exec'ed: its pid is the process's."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *argv, cwd=cwd, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    write_pid(pid_file, process.pid)
    return process


async def end_owned(process: asyncio.subprocess.Process, pid_file: Path, *, grace: float = 0.0) -> None:
    """SIGTERM, `grace` seconds, SIGKILL; returns when it is gone."""
    if process.returncode is None and grace:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), grace)
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.wait_for(process.wait(), KILLED_SECONDS)
    pid_file.unlink(missing_ok=True)
