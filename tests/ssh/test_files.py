"""Private files: whole or not there at all, and nothing is left of a run that was killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nixops_proxmox.ssh.files import create_file, replace_file, start_private_file, sweep, sweep_runs

HOLD = """
import sys, time
from pathlib import Path
from nixops_proxmox.ssh.files import {name}
with {call} as path:
    print(path, flush=True)
    time.sleep(60)
"""
PRIVATE = HOLD.format(name="start_private_file", call="start_private_file('id_ed25519', 'PRIVATE')")
BESIDE = HOLD.format(name="_written_beside", call="_written_beside(Path(sys.argv[1]), 'PRIVATE')")


@contextmanager
def holding(script: str, home: Path, *arguments: str, runtime: Path | None = None) -> Iterator[Path]:
    """A process in the middle of such a file, killed with -9 at the end."""
    environment = os.environ | {"XDG_STATE_HOME": str(home / "state"), "XDG_RUNTIME_DIR": str(runtime or "")}
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield Path(process.stdout.readline().strip())
        finally:
            process.send_signal(signal.SIGKILL)


def next_run(home: Path, runtime: Path | None = None) -> None:
    environment = os.environ | {"XDG_STATE_HOME": str(home / "state"), "XDG_RUNTIME_DIR": str(runtime or "")}
    script = f"from {sweep_runs.__module__} import sweep_runs; sweep_runs()"
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)


def files_in(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


@pytest.mark.parametrize("in_memory", [False, True], ids=["state", "runtime"])
def test_the_next_run_removes_what_a_killed_one_left_and_nothing_of_a_living_one(
    tmp_path: Path, in_memory: bool
) -> None:
    runtime = tmp_path / "runtime" if in_memory else None
    if runtime:
        runtime.mkdir()
    with holding(PRIVATE, tmp_path, runtime=runtime) as path:
        assert path.read_text() == "PRIVATE"
        assert [(p.stat().st_mode & 0o777) for p in (path, path.parent, path.parent.parent)] == [0o600, 0o700, 0o700]
        assert path.is_relative_to(runtime or tmp_path / "state")
        next_run(tmp_path, runtime)
        assert path.exists(), "its owner lives"
    assert path.exists(), "kill -9 leaves it"
    next_run(tmp_path, runtime)
    assert files_in(tmp_path) == []
    assert not path.parent.exists()


def test_a_run_without_a_session_removes_what_one_left_in_the_state(tmp_path: Path) -> None:
    with holding(PRIVATE, tmp_path) as path:
        pass
    (tmp_path / "runtime").mkdir()
    next_run(tmp_path, tmp_path / "runtime")
    assert not path.exists()


def test_what_a_killed_writer_left_beside_goes_with_the_next_writing(tmp_path: Path) -> None:
    target = tmp_path / "id_ed25519"
    with holding(BESIDE, tmp_path, str(target)) as left:
        assert left.parent == tmp_path
        replace_file(target, "new")
        assert left.exists(), "its writer lives"
    replace_file(target, "newer")
    assert files_in(tmp_path) == [target]
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("newer", 0o600)


def test_a_file_is_made_once(tmp_path: Path) -> None:
    assert create_file(tmp_path / "a", "first") and not create_file(tmp_path / "a", "second")
    assert (tmp_path / "a").read_text() == "first"
    assert os.listdir(tmp_path) == ["a"]


def test_a_sweep_follows_no_link_and_minds_the_prefix(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / ".key.1").write_text("old")
    (folder / "key").write_text("kept")
    (folder / ".key.link").symlink_to(tmp_path / "precious")
    sweep(folder, ".key.")
    assert {path.name for path in folder.iterdir()} == {"key", ".key.link"}
    assert (tmp_path / "precious" / "file").exists()
    sweep(tmp_path / "missing")


def test_it_ends_with_its_block(tmp_path: Path) -> None:
    with start_private_file("id", "x") as path:
        assert path.exists()
    assert not path.parent.exists()
