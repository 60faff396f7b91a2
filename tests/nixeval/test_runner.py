import os
import signal
import threading
import time
from pathlib import Path

import pytest

from nixops_proxmox.nixeval.runner import Cancelled, OutOfTime, ProcessRunner, pasteable
from nixops_proxmox.secrecy import redact
from tests.pace import patience, wait_until


def test_output_status_and_lines_come_back() -> None:
    lines: list[str] = []
    done = ProcessRunner()(["sh", "-c", "echo out; echo one >&2; echo two >&2; exit 3"], tell=lines.append)
    assert (done.status, done.stdout, done.stderr) == (3, "out\n", "one\ntwo\n")
    assert lines == ["one", "two"]


def test_lines_are_told_before_the_program_ends(tmp_path: Path) -> None:
    heard = threading.Event()
    gate = tmp_path / "gate"

    def tell(line: str) -> None:
        heard.set()
        gate.touch()

    script = f"echo working >&2; while [ ! -e {gate} ]; do sleep 0.01; done"
    assert ProcessRunner()(["sh", "-c", script], tell=tell, timeout=patience(10)).status == 0
    assert heard.is_set()


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert ProcessRunner()(["printf", r"a\377b"]).stdout == "a�b"


def test_a_flood_on_both_pipes_does_not_block() -> None:
    script = "i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done"
    done = ProcessRunner()(["sh", "-c", f"({script}) & ({script}) >&2; wait"], timeout=patience(30))
    assert len(done.stdout) == len(done.stderr) == 3000 * 41


def test_the_deadline_ends_the_program_and_its_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    seconds = patience(0.5)
    with pytest.raises(OutOfTime, match=f"sh did not end within {seconds:g} s") as caught:
        ProcessRunner()(["sh", "-c", f"sleep 3600 & echo $! > {pid_file}; echo so far >&2; wait"], timeout=seconds)
    assert caught.value.stderr == "so far\n"
    _wait_until_gone(int(pid_file.read_text()))


def test_what_a_listener_raises_ends_the_program_and_is_raised() -> None:
    def refuse(line: str) -> None:
        raise ValueError(line)

    flood = "i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789 >&2; i=$((i+1)); done"
    for script in ("echo no >&2; sleep 3600", f"echo no >&2; {flood}"):
        started = time.monotonic()
        with pytest.raises(ValueError, match=r"^no$"):
            ProcessRunner()(["sh", "-c", script], tell=refuse)
        assert time.monotonic() - started < patience(10)


def test_cancelling_ends_the_program() -> None:
    runner = ProcessRunner()
    threading.Timer(0.2, runner.cancelled.set).start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        runner(["sleep", "3600"])
    assert time.monotonic() - started < patience(10)


def test_a_background_child_that_keeps_the_pipe_is_not_waited_for() -> None:
    started = time.monotonic()
    done = ProcessRunner()(["sh", "-c", "sleep 3600 & echo $!; exit 0"])
    assert time.monotonic() - started < patience(15)
    os.kill(int(done.stdout), signal.SIGTERM)  # an error if it were gone
    assert done.status == 0


def test_the_environment_is_added_to_ours() -> None:
    run = ProcessRunner(environment={"A": "1", "B": "1"})
    assert run(["sh", "-c", "echo $A $B ${PATH:+path}"], env={"B": "2"}).stdout == "1 2 path\n"


def test_a_missing_program_is_told_apart() -> None:
    with pytest.raises(FileNotFoundError):
        ProcessRunner()(["/no/such/program"])


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://me:hunter2@cache.example/x", "https://***@cache.example/x"),
        ("https://cache.example/x?token=hunter2&a=b", "https://cache.example/x?***&a=b"),
        ("access-tokens = github.com=hunter2", "access-tokens***"),
        ("ssh://root@[fd77::1]", "ssh://root@[fd77::1]"),
        ("github:nixos/nixpkgs#web", "github:nixos/nixpkgs#web"),
    ],
)
def test_secrets_are_blanked(text: str, clean: str) -> None:
    assert redact(text) == clean
    assert "hunter2" not in pasteable(["nix", text], {"NIX_CONFIG": text})


def test_a_command_line_can_be_pasted() -> None:
    assert pasteable(["nix", "copy", "a b"], {"NIX_SSHOPTS": "-i /k"}) == "NIX_SSHOPTS='-i /k' nix copy 'a b'"


def _wait_until_gone(pid: int) -> None:
    def is_gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    wait_until(is_gone, 5, f"the end of process {pid}")
