"""What a plan promised about restarts, held against what happened. A difference is a defect, and is recorded."""

from typing_extensions import override

from nixops_proxmox.core.passing import PassingJournal
from nixops_proxmox.core.upid import find_upid
from nixops_proxmox.kinds.machine.plans import Plan, foresee, runs, vm_in
from nixops_proxmox.kinds.machine.ports import Journal
from nixops_proxmox.kinds.machine.shape import World
from nixops_proxmox.kinds.machine.steps.hardware import find_changes
from nixops_proxmox.kinds.machine.table import SETTLED
from nixops_proxmox.model import Machine

STARTS = ("qmstart", "qmreboot", "qmreset")  # PVE's types of tasks after which the system boots


class Watched(PassingJournal[Machine]):
    """Remembers whether the machine was started."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal)
        self.started = False

    @override
    def note(self, attempt: int, machine: Machine, /) -> None:
        task = find_upid(machine.facts.task)
        self.started = self.started or (task is not None and task.type in STARTS)
        super().note(attempt, machine)


def find_promise(plan: Plan, world: World) -> bool | None:
    """Whether the plan says that the machine is restarted. None if it promises nothing: nothing is done, the machine
    does not run yet, or what runs is not its system."""
    vm = vm_in(plan)
    if vm is None or not plan.moves or not runs(plan) or len(plan.legs) > 1 or plan.seen.phase not in SETTLED:
        return None
    return bool(foresee(plan, world, find_changes(world, vm, plan.seen)).restart)


def tell_broken(machine: Machine, world: World, journal: Watched, *, promised: bool | None) -> None:
    """Say and record it if the promise was broken."""
    if promised is None or promised is journal.started:
        return
    told = (
        "the plan promised a restart, and there was none"
        if promised
        else "the plan promised no restart, and the machine was restarted"
    )
    world.reporter.warn(machine, f"{told}: this is a defect of nixops-proxmox, please report it")
    journal.record(machine, f"defect: {told}")
