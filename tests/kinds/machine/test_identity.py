"""Another host key for a machine that runs: at no moment does it show one that is not known."""

import contextlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest

from nixops_proxmox.errors import NoEndpoint, NoPath
from nixops_proxmox.kinds.machine.engine import run_errand
from nixops_proxmox.kinds.machine.errands.identity import RotateIdentity
from nixops_proxmox.kinds.machine.rekeying import back_script, clean_script, move_script, put_delivery
from nixops_proxmox.kinds.machine.scripts import identity_files
from nixops_proxmox.model import Machine, Phase
from nixops_proxmox.spec import HOST_KEY, Ssh
from tests.kinds.machine.cluster import CONTAINER, COPIES, SPEC, Bench, Crash, Fuse

KEPT = "/persist/etc/ssh/ssh_host_ed25519_key"
PERSISTENT = SPEC.model_copy(update={"ssh": Ssh(host_key=KEPT)})
NEW = "/nix/store/00000000000000000000000000000000-new"


@pytest.fixture
def bench() -> Bench:
    found = Bench()
    found.run()
    found.vm.shows = found.record.machine.facts.host_key
    return found


def rotate(bench: Bench, fuse: Fuse | None = None, *, by_agent: bool = False) -> Machine:
    errand = RotateIdentity(by_agent=by_agent)
    return run_errand(errand, bench.record.machine, bench.world(fuse), bench.record)


def test_the_old_key_goes_when_the_new_one_is_proven(bench: Bench) -> None:
    old = bench.record.machine.facts
    machine = rotate(bench)
    assert machine.facts.host_key != old.host_key and machine.phase is Phase.READY
    assert (bench.vm.shows, bench.vm.old_key) == (machine.facts.host_key, "")
    assert (machine.facts.host_keys, machine.facts.next_host_key) == ((machine.facts.host_key,), "")
    assert bench.keys.keys[old.uuid] == f"private {machine.facts.host_key.split()[1]}" and not bench.keys.following
    assert rotate(bench).facts.host_key not in (old.host_key, machine.facts.host_key), "each time another one"


def broken(ready: Bench) -> Iterator[tuple[int, Bench]]:
    for at in range(1000):
        bench, fuse = deepcopy(ready), Fuse(at)
        with contextlib.suppress(Crash):
            rotate(bench, fuse)
        if fuse.count <= at:
            assert at >= 8
            return
        yield at, bench


def test_after_a_break_anywhere_every_door_knows_its_key_and_the_same_again_ends_it(bench: Bench) -> None:
    for at, hurt in broken(bench):
        facts = hurt.record.machine.facts
        assert hurt.vm.shows in facts.host_keys, f"{at}: it shows a key that nobody knows"
        hurt.world().guest.system_shell(hurt.record.machine, SPEC)
        assert hurt.keys.keys[facts.uuid], at
        new = rotate(hurt).facts
        assert (hurt.vm.shows, hurt.vm.old_key, new.next_host_key) == (new.host_key, "", ""), at
        assert hurt.keys.minted == 1 or not facts.errand, f"{at}: a second key was made"
        assert new.host_key != bench.record.machine.facts.host_key


def test_a_deploy_in_the_middle_of_it_finds_the_machine(bench: Bench) -> None:
    for at, hurt in broken(bench):
        assert hurt.run(system=NEW).facts.system == NEW, at
        facts = hurt.record.machine.facts
        assert hurt.vm.shows in facts.host_keys, at


def test_a_key_that_nobody_can_prove_is_taken_back(bench: Bench) -> None:
    old = bench.record.machine.facts.host_key
    bench.vm.refuses_key = True
    with pytest.raises(NoEndpoint, match="it has its old host key again") as failed:
        rotate(bench)
    assert failed.value.attempts == ("10.0.0.3:22: another host key",)
    facts = bench.record.machine.facts
    assert (bench.vm.shows, bench.vm.old_key, facts.host_key) == (old, "", old)
    assert bench.run().phase is Phase.READY


def test_a_machine_that_shows_an_older_key_gets_one_by_its_agent() -> None:
    bench = Bench()
    spec = COPIES["image"]
    bench.run(spec=spec)
    bench.vm.shows = "ssh-ed25519 of-an-old-snapshot"
    with pytest.raises(NoEndpoint):
        run_errand(RotateIdentity(), bench.record.machine, bench.world(spec=spec), bench.record)
    errand = RotateIdentity(by_agent=True)
    facts = run_errand(errand, bench.record.machine, bench.world(spec=spec), bench.record).facts
    assert bench.vm.shows == facts.host_key


def test_what_cannot_be_is_refused(bench: Bench) -> None:
    world = bench.world()
    stopped = bench.record.machine.moved(Phase.STOPPED, bench.record.machine.facts)
    with pytest.raises(NoPath, match="it is stopped"):
        run_errand(RotateIdentity(), stopped, world, bench.record)
    with pytest.raises(NoPath, match="no guest agent"):
        run_errand(RotateIdentity(by_agent=True), bench.record.machine, replace(world, spec=CONTAINER), bench.record)


# Where it is.


def test_its_place_can_be_told_and_changed(bench: Bench) -> None:
    files = identity_files(bench.record.machine, PERSISTENT, "private", "public")
    assert [path for path in files if "ssh" in path] == [KEPT[1:], f"{KEPT[1:]}.pub"]
    assert bench.run(spec=PERSISTENT).facts.host_key_path == "", "without another system, nothing looks for it there"
    moved = bench.run(spec=PERSISTENT, system=NEW)
    assert (moved.facts.host_key_path, bench.vm.key_at) == (KEPT, KEPT)
    other = Bench()
    assert other.run(spec=PERSISTENT).facts.host_key_path == KEPT


# The scripts themselves.


class Guest:
    """A folder in the place of its file systems, and a `systemctl` that says what was restarted."""

    def __init__(self, root: Path) -> None:
        self.root, self.log = root, root / "log"
        (root / "bin").mkdir()
        program = f'[ "$1 $2" != "is-active ssh.service" ] || exit 3; [ "$1" != restart ] || echo "$2" >>{self.log}'
        (root / "bin" / "systemctl").write_text(f"#!/bin/sh\n{program}\n")
        (root / "bin" / "systemctl").chmod(0o755)
        self.key = root / "etc" / "key"
        self.key.parent.mkdir()
        self.key.write_text("old")
        self.key.chmod(0o600)
        self.key.with_name("key.pub").write_text("old public\n")

    def run(self, script: str, given: bytes = b"") -> int:
        path = f"{self.root}/bin:{os.environ['PATH']}"
        return subprocess.run(["sh", "-c", script], input=given, env={"PATH": path}, check=False).returncode

    def put(self) -> int:
        return self.run(*put_delivery(str(self.key), "new", "new public"))

    def has(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.key.parent.iterdir()}


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


def test_the_key_before_stays_beside_the_new_one_until_that_is_proven(guest: Guest) -> None:
    for _ in range(2):
        assert guest.put() == 0
        assert guest.has() == {"key": "new", "key.old": "old", "key.pub": "new public\n"}
    assert guest.key.stat().st_mode & 0o777 == 0o600
    assert guest.log.read_text().split() == ["sshd.service"] * 2
    for _ in range(2):
        assert guest.run(back_script(str(guest.key), "old public")) == 0
        assert guest.has() == {"key": "old", "key.pub": "old public\n"}
    assert guest.put() == guest.run(clean_script(str(guest.key))) == 0
    assert guest.has() == {"key": "new", "key.pub": "new public\n"}


def test_what_a_link_leads_to_is_written(guest: Guest) -> None:
    kept = guest.root / "persist"
    kept.mkdir()
    shutil.move(guest.key, kept / "key")
    guest.key.symlink_to(kept / "key")
    assert guest.put() == 0
    assert guest.key.is_symlink() and (kept / "key").read_text() == "new" and (kept / "key.old").read_text() == "old"


def test_a_key_that_is_put_elsewhere_stays_where_it_was(guest: Guest) -> None:
    to = guest.root / "persist" / "ssh" / "key"
    for _ in range(2):
        assert guest.run(move_script(str(guest.key), str(to))) == 0
        assert (to.read_text(), to.with_name("key.pub").read_text()) == ("old", "old public\n")
        assert to.stat().st_mode & 0o777 == 0o600 and guest.key.read_text() == "old"
    to.write_text("another")
    assert guest.run(move_script(str(guest.key), str(to))) == 0 and to.read_text() == "another"


def test_the_private_key_is_in_no_script(guest: Guest) -> None:
    script, archive = put_delivery(HOST_KEY, "PRIVATE", "public")
    assert "PRIVATE" not in script
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert {one.name: oct(one.mode) for one in tar.getmembers()} == {"key": "0o600", "key.pub": "0o644"}
