"""Builds a system on the machine that will run it: derivations go there, and its own Nix builds or fetches the rest.

The build is a job in the machine. It goes on if we end, and the next run finds it.
"""

import re
import shlex
import time
from collections.abc import Callable
from typing import Protocol

from nixops_proxmox.errors import BuildFailed, ConnectionLost, JobStillRunning, SshUnreachable
from nixops_proxmox.model import Completed, Job, JobPhase
from nixops_proxmox.nixeval.build import TIMEOUT
from nixops_proxmox.nixeval.failures import LINES, failed_derivations
from nixops_proxmox.nixeval.holding import SOURCE, let_go_script
from nixops_proxmox.nixeval.runner import Tell
from nixops_proxmox.texts import tail_lines

SPELL = 60.0  # seconds of waiting; a machine that did not answer for so long is given up
NO_NIX, KILLED = 127, 137  # exit statuses of a shell


class JobShell(Protocol):
    """As much of a way into a guest as a build there needs."""

    def run(self, script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed: ...
    def start_job(self, name: str, script: str) -> None: ...
    def find_job(self, name: str) -> Job: ...
    def discard_job(self, name: str) -> None: ...
    def wait_for_job(self, name: str, *, timeout: float, tell: Tell) -> Job: ...


def build_script(derivation: str, system: str, root: str = "") -> str:
    """A POSIX script for the machine, as root. `root`: where it has the file systems of the store."""
    store = f"--store {shlex.quote(f'local?root={root}')} " if root else ""
    built = f"nix-store {store}--realise {shlex.quote(derivation)} >/dev/null"
    return f"{built} && nix-store {store}--check-validity {shlex.quote(system)} && {let_go_script(SOURCE, root)}"


def build_on_guest(
    derivation: str,
    system: str,
    shell: JobShell,
    *,
    machine: str,
    root: str = "",
    tell: Tell,
    now: Callable[[], float] = time.monotonic,
) -> None:
    """Build it there, or wait for the build that another run began. Its derivations are there. Raises BuildFailed.

    Safe to repeat: what was built is not built again."""
    name = job_name(derivation)
    if shell.find_job(name).phase is not JobPhase.RUNNING:
        shell.discard_job(name)
        shell.start_job(name, build_script(derivation, system, root))
    job = _wait(shell, name, machine, tell, now)
    if job.phase is not JobPhase.DONE or job.status != 0:
        raise _explain(job, derivation, machine)


def job_name(derivation: str) -> str:
    """By the hash in its name: another system is another job."""
    found = re.search(r"/([0-9a-z]{32})-", derivation)
    return f"build-{found[1]}" if found else "build"


def _wait(shell: JobShell, name: str, machine: str, tell: Tell, now: Callable[[], float]) -> Job:
    """Safe to repeat: it only watches a job that goes on by itself."""
    deadline = now() + TIMEOUT
    while True:
        try:
            return shell.wait_for_job(name, timeout=SPELL, tell=tell)
        except JobStillRunning as error:
            if now() >= deadline:
                raise BuildFailed(
                    f"{machine}: it did not build its system within {TIMEOUT:g} s", hint=error.hint
                ) from error
        except (ConnectionLost, SshUnreachable) as error:
            raise BuildFailed(
                f"{machine}: it does not answer any more while it builds its system: {error.message}",
                hint="the build goes on there if the machine still runs; run the same command again",
            ) from error


def _explain(job: Job, derivation: str, machine: str) -> BuildFailed:
    if job.phase is JobPhase.VANISHED or job.status == KILLED:
        return BuildFailed(
            f"{machine}: its build was killed there\n{job.log_tail}".rstrip(),
            hint='it may be out of memory: raise `memory`, or build here (deploy.buildOn = "here")',
        )
    if job.status == NO_NIX:
        return BuildFailed(f"{machine}: there is no nix-store on it, so it cannot build\n{job.log_tail}".rstrip())
    guilty = next(iter(failed_derivations(job.log_tail)), derivation)
    said = "\n".join(tail_lines(job.log_tail.strip().splitlines(), LINES))  # builders speak before Nix's `error:`
    return BuildFailed(
        f"{machine}: its system could not be built there\n{said}",
        hint=f"the whole log, on the machine: nix-store --read-log {guilty}",
    )
