"""Ways to use NixOps that most people never meet: behind a jump host, mounted, asked and refused, without a program."""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from nixops_proxmox.ssh.keys import new_key_pair
from tests.nixops.bed import Nixops, machine, network
from tests.nixops.conftest import MakeNixops
from tests.pace import patience, wait_until

pytestmark = [pytest.mark.nixops, pytest.mark.nix, pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(900)]

NOBODY = 65534
GATE = """
{ ... }: {
  deployment.targetEnv = "proxmox";
  deployment.keys.pass.text = "hunter2";
  deployment.proxmox = {
    disks = [ { storage = "local-lvm"; size = "2G"; } ];
    install.iso = "local:iso/lab-installer.iso";
    memory = 512;
    network = [ { bridge = "vmbr0"; ipv4 = "10.77.0.111/24"; } { bridge = "vmbr1"; } ];
    ssh.authorizedKeys = [ "KEY" ];
  };
};
"""
INNER = machine(ipv4="dhcp", bridge="vmbr1", proxmox='endpoint.jump = "root@10.77.0.111";')


@dataclass(frozen=True)
class WithAgent(Nixops):
    """A user whose key is in an SSH agent: jump hosts are logged in to by it."""

    socket: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {"SSH_AUTH_SOCK": self.socket}


@pytest.fixture(scope="module")
def agent() -> Iterator[tuple[str, str]]:
    """Its socket, and the key's public half."""
    user = new_key_pair()
    with TemporaryDirectory() as folder:  # a socket's path is short
        socket = f"{folder}/agent"
        process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda: Path(socket).exists())
            add = ["ssh-add", "-q", "-"]
            subprocess.run(add, input=user.private, text=True, env=os.environ | {"SSH_AUTH_SOCK": socket}, check=True)
            yield socket, user.public
        finally:
            process.terminate()
            process.wait()


@pytest.fixture(scope="module")
def odds(make_nixops: MakeNixops, agent: tuple[str, str]) -> Nixops:
    """One machine that is at hand, with the user's key in it, and one behind it."""
    socket, public = agent
    made = make_nixops(network({"gate": GATE.replace("KEY", public), "inner": INNER}), deployment="odds")
    made.deploy("--include", "gate")
    own = made.bed.home / ".ssh"
    own.mkdir(mode=0o700, exist_ok=True)
    (own / "known_hosts").write_text(f"10.77.0.111 {made.records()['gate']['facts']['host_key']}\n")
    return WithAgent(made.bed, made.program, made.lib, made.folder, made.deployment, socket)


def test_a_machine_behind_a_jump_host(odds: Nixops, tmp_path: Path) -> None:
    odds.deploy("--include", "inner")
    assert odds.records()["inner"]["facts"]["endpoint"]["jump"] == "root@10.77.0.111"
    assert odds.ssh("inner", "cat", "/etc/message") == "hello\n"
    (tmp_path / "here").write_text("hello")
    odds.run("scp", "--to", "inner", str(tmp_path / "here"), "/root/there")
    odds.run("scp", "--from", "inner", "/root/there", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "hello"
    odds.run("reboot", "--include", "inner")
    checked = odds.run("check", "--include", "inner")
    assert next(line for line in checked.stdout.splitlines() if line.startswith("| inner ")).count("Yes") == 4


@pytest.mark.parametrize("word", ["targetUser", "proxmox.ssh.user"])
def test_another_user_than_root(make_nixops: MakeNixops, tmp_path: Path, word: str) -> None:
    user = machine(ipv4="10.77.0.112/24", more=f'deployment.{word} = "deploy"; deployment.keys.pass.text = "hunter2";')
    one = make_nixops(network({"web": user}), deployment=word)
    one.deploy()
    assert one.ssh("web", "whoami; cat /etc/message; touch /etc/x || echo refused").split()[-2:] == ["hello", "refused"]
    assert one.ssh("web", "sudo", "-n", "cat", "/run/keys/pass") == "hunter2"
    (tmp_path / "here").write_text("hello")
    one.run("scp", "--to", "web", str(tmp_path / "here"), "there")
    assert one.ssh("web", "cat", "/home/deploy/there") == "hello"
    one.run("reboot")
    assert "copying 0 paths" in one.deploy().stderr
    checked = one.run("check")
    assert next(line for line in checked.stdout.splitlines() if line.startswith("| web ")).count("Yes") == 4
    one.run("destroy", "--confirm")


def test_a_machines_files_are_mounted(odds: Nixops, tmp_path: Path) -> None:
    if shutil.which("sshfs") is None or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no sshfs, or no right to mount by FUSE")
    place = tmp_path / "mounted"
    place.mkdir()
    odds.run("mount", "gate:/etc", str(place))
    try:
        assert (place / "message").read_text() == "hello\n"
    finally:
        subprocess.run(["fusermount", "-u", str(place)], check=True, timeout=patience(30))


def test_the_consoles_show_what_the_machine_says(odds: Nixops) -> None:
    assert odds.run("show-console-output", "gate").stdout
    done = odds.run("proxmox", "console", "gate", "--seconds", "3")
    assert "Traceback" not in done.stderr and done.stdout + done.stderr


def test_without_rsync_there_is_one_clear_error_and_the_doctor_says_it(odds: Nixops, tmp_path: Path) -> None:
    path = without(tmp_path, "rsync")
    refused = odds.run("send-keys", "--include", "gate", check=False, PATH=path)
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert "there is no rsync on this computer" in refused.stderr
    found = odds.run("proxmox", "doctor", check=False, PATH=path)
    assert "rsync" in found.stdout and "NixOps copies files by it" in found.stdout


def without(folder: Path, name: str) -> str:
    """A PATH on which all is found but one program."""
    folder = folder / "bin"
    folder.mkdir()
    for directory in reversed(os.environ["PATH"].split(":")):
        for program in Path(directory).glob("*"):
            link = folder / program.name
            link.unlink(missing_ok=True)
            link.symlink_to(program)
    (folder / name).unlink()
    return str(folder)


def test_restore_asks_first(odds: Nixops) -> None:
    odds.ssh("gate", "echo before > /root/data; sync")
    backup = odds.run("backup", "--include", "gate").stdout.split()[-1]
    odds.ssh("gate", "echo after > /root/data; sync")
    for answer in ("n\n", ""):
        asked = odds.run("restore", "--include", "gate", "--backup-id", backup, stdin=answer, check=False)
        assert "are you sure you want to restore ‘gate’" in asked.stderr and "Traceback" not in asked.stderr
        assert (asked.returncode, "it was not restored, because you did not agree" in asked.stderr) == (1, True)
        assert odds.ssh("gate", "cat", "/root/data") == "after\n"
    odds.run("restore", "--include", "gate", "--backup-id", backup, stdin="y\n")
    assert odds.ssh("gate", "cat", "/root/data") == "before\n"


def test_destroy_asks_first_and_names_the_vm(odds: Nixops) -> None:
    facts = odds.records()["gate"]["facts"]
    for answer in ("n\n", ""):
        asked = odds.run("destroy", "--include", "gate", stdin=answer, check=False)
        told = f"are you sure you want to destroy ‘gate’ (VM {facts['vmid']} on {facts['node']})"
        assert told in asked.stderr and "Traceback" not in asked.stderr
        assert odds.bed.vms()[str(facts["vmid"])]["status"] == "running"
    assert odds.records()["gate"]["facts"] == facts


def test_a_state_that_somebody_else_owns_is_named(odds: Nixops, tmp_path: Path) -> None:
    """As a user who may read it, and not write; of root, that is one who has lost root's right to write everywhere."""
    file = odds.folder / "state.nixops"
    with read_only(odds.folder):
        reader = replace(odds, program=str(bounded(tmp_path, odds.program)))
        done = reader.run("stop", "--include", "gate", "--confirm", check=False)
    assert done.returncode == 1 and str(file) in done.stderr and "Traceback" not in done.stderr
    vmid = str(odds.records()["gate"]["facts"]["vmid"])
    assert odds.bed.vms()[vmid]["status"] == "running"


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    files = [folder, *folder.iterdir()]
    kept = [(file, file.stat()) for file in files]
    for file, _ in kept:
        if os.geteuid() == 0:
            os.chown(file, NOBODY, NOBODY)
        file.chmod(0o555)
    try:
        yield
    finally:
        for file, found in kept:
            if file.exists():
                os.chown(file, found.st_uid, found.st_gid)
                file.chmod(stat.S_IMODE(found.st_mode))


def bounded(folder: Path, program: str) -> Path:
    """NixOps without what lets root write to anybody's files."""
    own, bound = folder / "nixops", "setpriv --bounding-set -dac_override,-dac_read_search,-fowner --"
    own.write_text(f'#!/bin/sh\nexec {bound if os.geteuid() == 0 else ""} {program} "$@"\n')
    own.chmod(0o755)
    return own


def test_a_lost_record_is_recovered(odds: Nixops) -> None:
    kept = ("vmid", "uuid", "host_key")
    before = odds.records()["gate"]["facts"]
    odds.query("delete from ResourceAttrs where machine in (select id from Resources where name = 'gate')")
    odds.query("delete from Resources where name = 'gate'")
    assert "recorded: gate" in odds.run("proxmox", "--confirm", "recover").stderr
    after = odds.records()["gate"]["facts"]
    assert [after[key] for key in kept] == [before[key] for key in kept]
    odds.run("stop", "--include", "gate", "--confirm")
    odds.deploy("--include", "gate")
    assert odds.ssh("gate", "cat", "/etc/message") == "hello\n"


def test_yes_destroys(odds: Nixops) -> None:
    mine = {str(record["facts"]["vmid"]) for record in odds.records().values() if record["facts"]["vmid"]}
    odds.run("destroy", stdin="y\n" * len(mine))
    assert not mine & set(odds.bed.vms())
