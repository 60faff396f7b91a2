"""NixOps's state and lock in a database that a team shares."""

import os
import signal
from pathlib import Path

import pytest

from tests.nixops.bed import Nixops, kill_all, machine, network, wait_for_text
from tests.nixops.conftest import MakeNixops
from tests.pace import patience, wait_until

pytestmark = [pytest.mark.nixops, pytest.mark.nix, pytest.mark.netns, pytest.mark.slow]


def shared(folder: Path, *, lock: bool = True) -> str:
    both = 'network.storage.proxmox-sql = { url = "%s"; };' % (folder / "team.sqlite")
    return both + (f' network.lock.proxmox-sql = {{ url = "{folder / "team.sqlite"}"; }};' if lock else "")


def colleague(one: Nixops, tmp_path: Path) -> Nixops:
    """The same network in another folder, with the same database."""
    (tmp_path / "nixops.nix").write_text((one.folder / "nixops.nix").read_text())
    return Nixops(one.bed, one.program, one.lib, tmp_path, one.deployment)


def test_two_folders_one_state(
    make_nixops: MakeNixops, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    web = {"web": machine(ipv4="10.77.0.61/24")}
    one = make_nixops(network(web, more=shared(tmp_path)), deployment="team")
    one.deploy()
    other = colleague(one, tmp_path_factory.mktemp("other"))
    assert "up / up-to-date" in other.run("info", "--plain").stdout
    assert "copying 0 paths" in other.deploy().stderr
    assert not (one.folder / "state.nixops").exists()
    other.run("destroy", "--confirm")
    assert "missing" in one.run("info", "--plain").stdout


def test_killed_in_the_middle_nothing_is_lost_and_there_is_one_vm(make_nixops: MakeNixops, tmp_path: Path) -> None:
    """NixOps itself would write the state back at the end only."""
    web = {"web": machine(ipv4="10.77.0.62/24")}
    one = make_nixops(network(web, more=shared(tmp_path)), deployment="team-killed")
    before = set(one.bed.vms())
    process = one.start("deploy")
    assert wait_for_text(one.folder / "killed.log", "partition the disks", process)
    kill_all(process)
    one.deploy()
    assert len(set(one.bed.vms()) - before) == 1
    assert one.ssh("web", "cat", "/etc/message") == "hello\n"
    one.run("destroy", "--confirm")


def test_whoever_writes_excludes_others_and_is_named(make_nixops: MakeNixops, tmp_path: Path) -> None:
    web = {"web": machine(ipv4="10.77.0.63/24")}
    one = make_nixops(network(web, more=shared(tmp_path)), deployment="team-locked")
    process = one.start("deploy")
    assert wait_for_text(one.folder / "killed.log", "create the vm", process)
    refused = one.deploy(check=False)
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert "is locked by" in refused.stderr and "nixops deploy" in refused.stderr
    assert one.run("info", "--plain").returncode == 0, "whoever only reads is not kept out"
    assert process.wait(patience(120)) == 0
    one.run("destroy", "--confirm")


def test_without_the_lock_nobody_overwrites_anybody(make_nixops: MakeNixops, tmp_path: Path) -> None:
    web = {"web": machine(ipv4="10.77.0.64/24")}
    one = make_nixops(network(web, more=shared(tmp_path, lock=False)), deployment="team-raced")
    process = one.start("deploy")
    assert wait_for_text(one.folder / "killed.log", "create the vm", process)
    late = one.run("set-args", "--argstr", "a", "b", check=False)
    process.wait(patience(120))
    log = (one.folder / "killed.log").read_text()
    assert (late.returncode == 0) != (process.returncode == 0), "exactly one of them is told"
    assert "somebody else has changed" in (log if late.returncode == 0 else late.stderr)
    assert list((one.bed.home / "state" / "nixops-proxmox" / "overtaken").glob("*.nixops"))
    wait_until(lambda: one.run("destroy", "--confirm", check=False).returncode == 0)


@pytest.mark.timeout(900)
def test_whose_lock_was_broken_does_nothing_any_more(
    make_nixops: MakeNixops, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A laptop that sleeps in the middle of a deploy, a colleague who takes over, and then the laptop wakes up."""
    web = {"web": machine(ipv4="10.77.0.65/24")}
    one = make_nixops(network(web, more=shared(tmp_path)), deployment="team-asleep")
    other = colleague(one, tmp_path_factory.mktemp("other"))
    process = one.start("deploy")
    assert wait_for_text(one.folder / "killed.log", "partition the disks", process)
    os.killpg(process.pid, signal.SIGSTOP)
    other.run("unlock")
    before = other.run("export").stdout
    # What the lab was told before comes to its end.
    wait_until(lambda: not any(task["status"] == "running" for task in one.bed.control("GET", "state")["tasks"]))
    one.bed.forget_calls()
    os.killpg(process.pid, signal.SIGCONT)
    assert process.wait(patience(120)) == 1
    assert [call for call in one.bed.calls() if call["method"] != "GET"] == []
    log = (one.folder / "killed.log").read_text()
    assert "somebody else has taken the lock of 'nixops'" in log and "Traceback" not in log
    assert other.run("export").stdout == before
    assert list((one.bed.home / "state" / "nixops-proxmox" / "overtaken").glob("*.nixops"))
    other.deploy()
    assert other.ssh("web", "cat", "/etc/message") == "hello\n"
    other.run("destroy", "--confirm")


@pytest.mark.timeout(900)
def test_nixops_itself_does_nothing_after_its_lock_was_broken(make_nixops: MakeNixops, tmp_path: Path) -> None:
    """Stopped when it is about to copy: neither the copy nor the activation comes."""
    web = {"web": machine(ipv4="10.77.0.66/24")}
    one = make_nixops(network(web, more=shared(tmp_path)), deployment="team-copying")
    one.deploy("--create-only")
    process = one.start("deploy")
    assert wait_for_text(one.folder / "killed.log", "building all machine configurations", process)
    os.killpg(process.pid, signal.SIGSTOP)
    one.run("unlock")
    os.killpg(process.pid, signal.SIGCONT)
    assert process.wait(patience(120)) == 1
    log = (one.folder / "killed.log").read_text()
    assert "somebody else has taken the lock of 'nixops'" in log and "Traceback" not in log
    assert one.run("ssh", "web", "test", "-e", "/etc/message", check=False).returncode == 1
    one.run("destroy", "--confirm")


@pytest.mark.parametrize("what", ["storage", "lock"])
def test_a_password_in_nix_is_refused(make_nixops: MakeNixops, what: str) -> None:
    url = "postgresql://me:hunter2@db/state"
    legacy = "" if what == "storage" else "network.storage.legacy = { };"
    with pytest.raises(AssertionError) as refused:
        make_nixops(network({}, more=f'{legacy} network.{what}.proxmox-sql = {{ url = "{url}"; }};'))
    told = str(refused.value)
    assert "has a password in it" in told and "Traceback" not in told and "hunter2" not in told
