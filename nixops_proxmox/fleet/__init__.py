"""Several machines at once: bounded, and one that fails does not stop the others."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from nixops_proxmox.errors import DeployError
from nixops_proxmox.model import Machine


@dataclass(frozen=True)
class Outcome:
    """How it ended for one machine: where it stands now, and the error that stopped it. `kind`: of something else that
    was worked on, such as a volume; empty: it is a machine."""

    name: str
    seconds: float
    machine: Machine | None = None
    error: DeployError | None = None
    kind: str = ""

    @property
    def title(self) -> str:
        return f"{self.kind} {self.name}".lstrip()


def run_all(
    names: Sequence[str],
    work: Callable[[str], Machine],
    *,
    jobs: int,
    ended: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:
    """Do `work` for every name, at most `jobs` at a time. The outcomes are in the order of the names. Only errors that
    we raise on purpose are outcomes: anything else is a defect, and is raised when all have ended. `ended` is told each
    outcome at once, from the machine's own thread."""

    def one(name: str) -> Outcome:
        began = time.monotonic()
        try:
            machine = work(name)
        except DeployError as error:
            outcome = Outcome(name, time.monotonic() - began, error=error)
        else:
            outcome = Outcome(name, time.monotonic() - began, machine=machine)
        ended(outcome)
        return outcome

    if len(names) <= 1:
        return [one(name) for name in names]  # in the caller's thread, where a signal's exception ends it at once
    with ThreadPoolExecutor(max_workers=max(1, min(jobs, len(names))), thread_name_prefix="machine") as pool:
        return list(pool.map(one, names))
