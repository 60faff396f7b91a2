"""A list that several processes change at once, and that one of them leaves by a kill."""

import multiprocessing
import os
import stat
import subprocess
from datetime import date
from pathlib import Path

import pytest

from nixops_proxmox.addresses import Asked, MacPool, choose, commit_command
from nixops_proxmox.addresses.entry import PoolEntry
from nixops_proxmox.errors import ConfigError
from tests.addresses.test_files import SEED
from tests.pace import patience


def write_list(path: Path, count: int) -> MacPool:
    path.write_text("".join(f"- Host: pvm{n:03}\n  MAC: DE:AD:BE:EF:00:{n:02X}\n" for n in range(count)))
    return MacPool("campus", path)


def take_one(path: Path, user: str) -> None:
    """As an operator's process does it."""
    with MacPool("campus", path).locked() as pool:
        entry = choose(pool.pool, pool.entries, Asked(user, f"campus/{user}", user), {})
        pool.take(entry.mac, f"{user} (campus/{user})", date(2026, 11, 29).isoformat())


def test_many_operators_at_once_never_take_the_same(tmp_path: Path) -> None:
    pool = write_list(tmp_path / "machines.yml", 12)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=take_one, args=(pool.path, f"user{n}")) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(patience(60))
    assert [process.exitcode for process in processes] == [0] * 4
    assert sorted(entry.mark for entry in pool.read() if entry.user) == [f"campus/user{n}" for n in range(4)]
    assert os.listdir(tmp_path) == ["machines.yml"]


def test_the_lock_holds_from_one_change_to_the_next(tmp_path: Path) -> None:
    pool = write_list(tmp_path / "machines.yml", 3)
    with pool.locked() as opened:
        opened.take("DE:AD:BE:EF:00:00", "anna", "2026-11-29")
        done = subprocess.run(["flock", "-n", str(pool.path), "true"], timeout=patience(20))
        assert done.returncode == 1, "another process gets the lock of the new file"
        opened.take("DE:AD:BE:EF:00:01", "anna", "2026-11-29")
    assert [entry.user for entry in pool.read()] == ["anna", "anna", ""]


def test_the_file_keeps_its_mode_its_link_and_its_text(tmp_path: Path) -> None:
    real = tmp_path / "real.yml"
    real.write_text(SEED)
    real.chmod(0o640)
    (tmp_path / "machines.yml").symlink_to(real)
    (tmp_path / ".real.yml.new").write_text("what a killed writer left")
    with MacPool("campus", tmp_path / "machines.yml").locked() as pool:
        pool.take("DE:AD:BE:EF:00:01", "anna (campus/web)", "2026-11-29")
        pool.give_back("DE:AD:BE:EF:00:01")
    assert real.read_text() == SEED
    assert stat.S_IMODE(real.stat().st_mode) == 0o640 and (tmp_path / "machines.yml").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["machines.yml", "real.yml"]


def test_a_list_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the pool campus .* cannot be read: No such file"):
        MacPool("campus", tmp_path / "machines.yml").read()


def test_the_commit_is_offered_and_works(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
        name = ["-c", "user.name=Anna", "-c", "user.email=anna@example.org"]
        return subprocess.run(
            ["git", *name, *words], cwd=tmp_path, check=True, capture_output=True, text=True, env=environment
        ).stdout

    folder = tmp_path / "a network"
    folder.mkdir()
    pool = write_list(folder / "machines.yml", 1)
    assert commit_command(pool.path, ["x"]) == ""
    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-q", "-m", "first")
    with pool.locked() as opened:
        opened.take("DE:AD:BE:EF:00:00", "anna", "2026-11-29")
    command = commit_command(pool.path, ["pvm000 for web"])
    assert command == f"git -C {tmp_path} commit -m 'machines.yml: pvm000 for web' -- 'a network/machines.yml'"
    import shlex

    git(*shlex.split(command)[1:])
    assert git("log", "--format=%s").splitlines() == ["machines.yml: pvm000 for web", "first"]


def test_an_entry_knows_whose_it_is() -> None:
    assert PoolEntry(1, "x", user="anna (campus/web.net1)").mark == "campus/web.net1"
    assert PoolEntry(1, "x", user="Lars (old)").mark == ""
