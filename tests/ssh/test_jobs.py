"""Detached jobs, by running the very scripts here with a folder of the test's own."""

import os
import signal
import subprocess
import time
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nixops_proxmox.errors import CommandFailed, ConnectionLost, JobStillRunning, SshUnreachable
from nixops_proxmox.model import Completed, Job, JobPhase
from nixops_proxmox.ssh.jobs import discard_job, find_job, last_line, parse_job, start_job, start_script, wait_for_job
from nixops_proxmox.ssh.shell import SshShell
from tests.pace import patience, wait_until

from .server import Sshd, start_sshd

SHELLS = [
    shell
    for shell in (["/bin/dash", "-c"], ["/bin/bash", "-c"], ["/bin/busybox", "sh", "-c"])
    if Path(shell[0]).exists()
]


def here(script: str, *, stdin: bytes = b"", timeout: float = 60, shell: list[str] | None = None) -> Completed:
    done = subprocess.run([*(shell or ["/bin/sh", "-c"]), script], input=stdin, capture_output=True, timeout=timeout)
    return Completed(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def settle(directory: str, name: str = "j") -> Job:
    return wait_for_job(here, name, timeout=patience(10), tell=lambda _: None, directory=directory)


def has_ended(pid: int) -> bool:
    """It is gone, or a zombie whose parent has not waited for it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def end(directory: str, name: str = "j") -> None:
    """The job and all that it started."""
    os.killpg(int((Path(directory) / name / "pid").read_text().split()[0]), signal.SIGKILL)


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "jobs dir")


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_a_job_runs_detached_and_leaves_status_and_log(directory: str, shell: list[str]) -> None:
    def run(script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed:
        return here(script, stdin=stdin, timeout=timeout, shell=shell)

    assert find_job(run, "j", directory).phase is JobPhase.ABSENT
    gate = Path(directory).parent / "gate"
    waits = f"until [ -e '{gate}' ]; do sleep 0.05; done"
    start_job(run, "j", f"echo hello; echo oops >&2; {waits}; umask; exit 7", directory)
    wait_until(lambda: find_job(run, "j", directory).log_tail == "hello\noops\n")
    assert find_job(run, "j", directory).phase is JobPhase.RUNNING
    gate.touch()
    job = wait_for_job(run, "j", timeout=patience(10), tell=lambda _: None, directory=directory)
    assert (job.phase, job.status, job.log_tail) == (JobPhase.DONE, 7, "hello\noops\n0022\n")


def test_a_second_start_never_makes_a_second_one(directory: str, tmp_path: Path) -> None:
    script = f"echo ran >> {tmp_path}/count; sleep 0.3"
    threads = [Thread(target=start_job, args=(here, "j", script, directory)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    start_job(here, "j", script, directory)
    settle(directory)
    start_job(here, "j", script, directory)
    assert (tmp_path / "count").read_text() == "ran\n"
    assert sorted(path.name for path in Path(directory).iterdir()) == ["j"]


def test_a_discarded_name_can_be_started_again_but_not_while_it_runs(directory: str) -> None:
    discard_job(here, "j", directory)
    start_job(here, "j", "sleep 0.3; echo first; exit 1", directory)
    with pytest.raises(CommandFailed, match="it runs"):
        discard_job(here, "j", directory)
    settle(directory)
    discard_job(here, "j", directory)
    assert find_job(here, "j", directory).phase is JobPhase.ABSENT
    start_job(here, "j", "echo second", directory)
    assert settle(directory).log_tail == "second\n"


def test_half_a_script_is_never_run(directory: str) -> None:
    done = here(start_script("j", 100, directory), stdin=b"echo half")
    assert done.status == 1
    assert find_job(here, "j", directory).phase is JobPhase.ABSENT
    assert list(Path(directory).iterdir()) == []


def test_a_job_whose_runner_is_killed_has_vanished(directory: str) -> None:
    start_job(here, "j", "sleep 30", directory)
    leader = int((Path(directory) / "j" / "pid").read_text().split()[0])
    os.killpg(leader, signal.SIGKILL)
    wait_until(lambda: find_job(here, "j", directory).phase is JobPhase.VANISHED)
    start_job(here, "j", "true", directory)
    assert find_job(here, "j", directory).phase is JobPhase.VANISHED


def test_while_anything_of_the_job_lives_it_is_running(directory: str) -> None:
    """The runner alone is killed (out of memory): the script it started goes on and must not get company."""
    start_job(here, "j", "sleep 3600", directory)
    leader = int((Path(directory) / "j" / "pid").read_text().split()[0])
    os.kill(leader, signal.SIGKILL)
    wait_until(lambda: has_ended(leader))
    assert find_job(here, "j", directory).phase is JobPhase.RUNNING
    end(directory)
    wait_until(lambda: find_job(here, "j", directory).phase is JobPhase.VANISHED)


def test_a_process_number_used_again_is_not_taken_for_the_job(directory: str) -> None:
    start_job(here, "j", "true", directory)
    settle(directory)
    (Path(directory) / "j" / "status").unlink()
    (Path(directory) / "j" / "pid").write_text(f"{os.getpid()} 12345\n")
    assert find_job(here, "j", directory).phase is JobPhase.VANISHED


def test_binary_and_long_logs_give_a_readable_tail(directory: str) -> None:
    start_job(here, "j", r"yes line | head -c 100000; printf '\377\n last \r now'", directory)
    job = settle(directory)
    assert len(job.log_tail) <= 4096
    assert last_line(job.log_tail) == "now"


def test_lines_are_told_as_they_change(directory: str) -> None:
    told: list[str] = []
    gate = Path(directory).parent / "gate"

    def tell(line: str) -> None:
        told.append(line)
        gate.touch()

    start_job(here, "j", f"echo one; until [ -e '{gate}' ]; do sleep 0.05; done; echo two; echo", directory)
    wait_for_job(here, "j", timeout=patience(10), tell=tell, directory=directory)
    assert told == ["one", "two"]


def test_waiting_outlasts_broken_connections_and_keeps_to_its_deadline(directory: str) -> None:
    start_job(here, "j", "sleep 0.5; exit 4", directory)
    failures: list[Exception] = [ConnectionLost("x"), SshUnreachable("y"), ConnectionLost("z")]

    def shaky(script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed:
        if failures:
            raise failures.pop()
        return here(script, stdin=stdin, timeout=timeout)

    job = wait_for_job(shaky, "j", timeout=patience(20), tell=lambda _: None, directory=directory, pause=lambda _: None)
    assert job.status == 4
    now = iter(range(1000))

    def silent(script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed:
        raise SshUnreachable("no route to host")

    with pytest.raises(SshUnreachable, match="no route"):
        wait_for_job(silent, "j", timeout=30, tell=lambda _: None, now=lambda: float(next(now)), pause=lambda _: None)


def test_a_job_over_its_time_is_said_to_run_on(directory: str) -> None:
    start_job(here, "j", "echo busy; sleep 3600", directory)
    wait_until(lambda: find_job(here, "j", directory).log_tail == "busy\n")
    with pytest.raises(JobStillRunning, match=r"still runs after 0\.3 s; it last said: busy"):
        wait_for_job(here, "j", timeout=0.3, tell=lambda _: None, directory=directory)
    end(directory)


def test_of_a_log_that_is_told_from_its_middle_the_line_that_was_cut_is_left_out(directory: str) -> None:
    """It may begin with half a secret."""
    start_job(here, "j", "printf '%05000d\\nthe end\\n' 0", directory)
    assert settle(directory).log_tail == "the end\n"


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", ".x", "a/b", "x" * 200])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        start_script(name, 1)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_rubbish_instead_of_a_job_is_our_own_error(text: str) -> None:
    try:
        assert isinstance(parse_job(text), Job)
    except CommandFailed as error:
        assert error.output == text


def test_noise_of_a_login_shell_does_not_matter() -> None:
    assert parse_job("Welcome!\nnixops-proxmox-job done 3\nlog\n") == Job(JobPhase.DONE, 3, "log\n")


def test_over_ssh_a_job_outlives_its_connection(tmp_path: Path) -> None:
    with start_sshd(tmp_path) as server, SshShell(server.login(), job_directory=str(tmp_path / "jobs")) as shell:
        shell.start_job("j", "sleep 0.8; echo end")
        server.kill_connections()
        assert shell.wait_for_job("j", timeout=patience(10), tell=lambda _: None).log_tail == "end\n"


def test_over_ssh_starting_a_job_does_not_hold_the_connection(sshd: Sshd, tmp_path: Path) -> None:
    with SshShell(sshd.login(), job_directory=str(tmp_path / "jobs")) as shell:
        began = time.monotonic()
        shell.start_job("j", "sleep 3600")
        assert time.monotonic() - began < patience(20)
        assert shell.find_job("j").phase is JobPhase.RUNNING
    end(str(tmp_path / "jobs"))
