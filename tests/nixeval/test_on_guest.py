"""A machine that builds its own system: the build is a job there, which is found again, and each end is explained."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nixops_proxmox.errors import BuildFailed, ConnectionLost, JobStillRunning
from nixops_proxmox.model import Completed, Job, JobPhase
from nixops_proxmox.nixeval.copy import Destination, copy_closure
from nixops_proxmox.nixeval.holding import SOURCE, hold_script
from nixops_proxmox.nixeval.on_guest import build_on_guest, build_script, job_name
from nixops_proxmox.nixeval.runner import ProcessRunner, Tell
from nixops_proxmox.nixeval.tools import Nix
from tests.builds import BUILDER, can_sandbox
from tests.pace import patience

DRV, SYSTEM = f"/nix/store/{'a' * 32}-web.drv", f"/nix/store/{'b' * 32}-web"


@dataclass
class Guest:
    """A guest with a job that may be there already. `answers`: what comes of waiting for it, in turn."""

    job: Job
    answers: list[Job | Exception]
    done: list[str] = field(default_factory=list)

    def run(self, script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed:
        raise NotImplementedError

    def find_job(self, name: str) -> Job:
        return self.job

    def discard_job(self, name: str) -> None:
        assert self.job.phase is not JobPhase.RUNNING
        self.done.append("discard")

    def start_job(self, name: str, script: str) -> None:
        self.done.append(f"start {name}")

    def wait_for_job(self, name: str, *, timeout: float, tell: Tell) -> Job:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        tell("building")
        return answer


def _build(guest: Guest, now: float = 0.0) -> None:
    build_on_guest(DRV, SYSTEM, guest, machine="web", tell=lambda _: None, now=lambda: now)


ENDED_WELL = Job(JobPhase.DONE)


@pytest.mark.parametrize("before", JobPhase)
def test_a_build_that_another_run_began_is_waited_for_and_any_other_is_begun(before: JobPhase) -> None:
    guest = Guest(Job(before), [JobStillRunning("it still runs"), ENDED_WELL])
    _build(guest)
    begun = ["discard", f"start build-{'a' * 32}"]
    assert guest.done == ([] if before is JobPhase.RUNNING else begun) and not guest.answers


ENDS: Mapping[str, tuple[Job | Exception, str, str]] = {
    "a builder": (
        Job(JobPhase.DONE, 1, f"building '{DRV}'\nerror: builder for '/nix/store/{'c' * 32}-part.drv' failed"),
        r"(?s)web: its system could not be built there\nbuilding.*\nerror: builder for.*-part.drv' failed",
        f"the whole log, on the machine: nix-store --read-log /nix/store/{'c' * 32}-part.drv",
    ),
    "another error": (
        Job(JobPhase.DONE, 1, "error: cannot connect to cache.nixos.org"),
        "web: its system could not be built there\nerror: cannot connect",
        f"the whole log, on the machine: nix-store --read-log {DRV}",
    ),
    "no memory": (Job(JobPhase.VANISHED, 0, "building"), "web: its build was killed there", "raise `memory`"),
    "a kill": (Job(JobPhase.DONE, 137, "Killed"), "web: its build was killed there", "deploy.buildOn"),
    "no Nix": (Job(JobPhase.DONE, 127, "nix-store: not found"), "there is no nix-store on it", ""),
    "no connection": (
        ConnectionLost("the connection broke"),
        "web: it does not answer any more while it builds its system: the connection broke",
        "the build goes on there",
    ),
}


@pytest.mark.parametrize("what", ENDS)
def test_each_end_of_a_build_is_explained(what: str) -> None:
    answer, words, hint = ENDS[what]
    with pytest.raises(BuildFailed, match=words) as caught:
        _build(Guest(Job(JobPhase.ABSENT), [answer]))
    assert hint in caught.value.hint


def test_a_build_that_never_ends_is_given_up_and_goes_on(fake_nix: Nix) -> None:
    moments = iter([0.0, 60.0, 90_000.0])
    guest = Guest(Job(JobPhase.RUNNING), [JobStillRunning("it still runs", hint="run it again")] * 2)
    with pytest.raises(BuildFailed, match="web: it did not build its system within 86400 s") as caught:
        build_on_guest(DRV, SYSTEM, guest, machine="web", tell=lambda _: None, now=lambda: next(moments))
    assert caught.value.hint == "run it again" and guest.done == []


def test_another_system_is_another_job() -> None:
    assert job_name(DRV) != job_name(DRV.replace("a" * 32, "0" * 32)) and job_name("/odd") == "build"


@pytest.mark.nix
def test_a_real_nix_builds_what_it_got_into_a_store_of_its_own_and_lets_the_derivations_go(
    nix: Nix, nix_run: ProcessRunner, tmp_path: Path
) -> None:
    """As in an installer: into the store below a root. Nothing of it is built here."""
    if not can_sandbox():
        pytest.skip("Nix cannot build in a sandbox here, and a store below a root has to")
    text = f'import {BUILDER} "web" {{ }} "printf system >$out"'
    drv = nix_run(nix.argv("nix-instantiate", "-E", text)).stdout.strip()
    system = nix_run(nix.argv("nix-store", "--query", "--outputs", drv)).stdout.strip()
    there = tmp_path / "there"
    store = f"local?require-sigs=false&root={there}"
    for path, name in ((system, "next"), (drv, SOURCE)):
        subprocess.run(["sh", "-c", hold_script(path, str(there), name)], check=True, timeout=patience(10))
    copy_closure(nix, drv, Destination(store), machine="web", run=nix_run)
    collect = nix.argv("nix-store", "--store", store, "--gc")
    assert nix_run(collect).status == 0
    for _ in range(2):  # again after a crash
        script = build_script(drv, system, str(there)).replace("nix-store ", f"{nix.argv('nix-store')[0]} ")
        done = nix_run(["sh", "-c", script])
        assert done.status == 0, done.stderr
    assert nix_run(collect).status == 0
    built = there / "nix" / "store" / Path(system).name
    assert built.read_text() == "system" and not Path(system).exists()
    assert not (there / "nix/var/nix/gcroots/nixops-proxmox" / SOURCE).is_symlink(), "only the system is held"
