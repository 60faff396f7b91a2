"""Whose change it was: the description, what the last deploy left, and what the VM has now, side by side."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Protocol

from nixops_proxmox.kinds.machine.steps.hardware import NOT_KEPT, brief
from nixops_proxmox.model import Change, Facts, Vm
from nixops_proxmox.pve.api.answers import TaskListed
from nixops_proxmox.state import JournalEntry

TASKS = frozenset(
    {
        "qmconfig",
        "resize",
        "qmmove",
        "qmset",
        "qmigrate",
        "qmrollback",
        "qmrestore",
        "qmtemplate",
        "vzmigrate",
        "vzrollback",
        "vzrestore",
        "vztemplate",
    }
)
SHOWN = 3  # tasks that are named


class Origin(StrEnum):
    """Who made the description and the VM differ."""

    DESCRIPTION = "description"  # it changed since the last deploy
    BY_HAND = "by hand"  # the VM changed since then
    UNKNOWN = "unknown"  # no deploy has written down how it left the VM


@dataclass(frozen=True)
class Drift:
    """One difference. `tasks`: of PVE, since the last deploy and not ours, that may have made it, the latest first."""

    change: Change
    origin: Origin
    tasks: tuple[TaskListed, ...] = ()


class TaskLog(Protocol):
    """As much of a hypervisor as this needs."""

    def list_changes(self, vm: Vm, since: float, kinds: Collection[str], /) -> Sequence[TaskListed]: ...


def find_origin(change: Change, facts: Facts) -> Origin:
    if not facts.applied or change.key in NOT_KEPT or change.key == "pool" or " " in change.key:
        return Origin.UNKNOWN  # we do not write down such a value
    return Origin.DESCRIPTION if facts.applied.get(change.key, "") == brief(change.have) else Origin.BY_HAND


def find_drift(
    changes: Iterable[Change], facts: Facts, vm: Vm, log: TaskLog, history: Sequence[JournalEntry]
) -> list[Drift]:
    """Asks for PVE's tasks only if somebody changed the VM."""
    found = [Drift(change, find_origin(change, facts)) for change in changes]
    if not any(one.origin is Origin.BY_HAND for one in found):
        return found
    tasks = find_strange_tasks(vm, log, history)
    return [Drift(one.change, one.origin, tasks if one.origin is Origin.BY_HAND else ()) for one in found]


def find_strange_tasks(vm: Vm, log: TaskLog, history: Sequence[JournalEntry]) -> tuple[TaskListed, ...]:
    """What changed the VM since our last work on it, and was not started by us. PVE keeps no task for a change that it
    makes at once."""
    ours = {upid for entry in history for upid in entry.tasks}
    since = max((entry.ended for entry in history if entry.ended is not None), default=0.0)
    tasks = [task for task in log.list_changes(vm, since, TASKS) if task.upid not in ours]
    return tuple(islice(sorted(tasks, key=lambda task: -task.started), SHOWN))
