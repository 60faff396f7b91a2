"""Faults as data: what goes wrong at the n-th call that matches a method and a path."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self, get_args

Action = Literal[
    "refuse",  # answer `status` and `text` instead of acting
    "hang",  # never answer, never act
    "drop_before",  # close the connection without acting
    "drop_after",  # act, then close the connection without an answer
    "delay",  # act only after `seconds`; the client has its 596 after 30
    "slow",  # act at once, answer after `seconds` (596 after 30)
    "kill_task",  # the worker that the call starts is killed `seconds` later (0: before it does anything)
    "fail_task",  # … fails with `text` without having done anything; with `late`, after having done all
    "warn_task",  # … succeeds with a warning
    "lock_vm",  # the VM's configuration has lock `text` for `seconds`
    "flock_vm",  # somebody else holds the VM's lock file for `seconds`
    "lock_storage",  # somebody else allocates on storage `target` for `seconds`
    "lose_node",  # node `target` goes offline (for `seconds`, if given)
    "no_quorum",  # the cluster loses quorum (for `seconds`, if given)
    "agent_silent",  # the VM's guest agent does not answer its next `count` calls
    "agent_frozen",  # a backup has frozen the guest's file systems for `seconds`
    "steal_vmid",  # somebody else creates a VM with the id that the call asks for, just before
]


@dataclass
class Fault:
    """Happens at the `nth` match (1: the first) and the `times - 1` after it; `times=0`: from then on always."""

    action: Action
    method: str = "*"  # any; else one or several: "POST|PUT|DELETE"
    path: str = ".*"  # regular expression, searched in the path without /api2/json
    nth: int = 1
    times: int = 1
    status: int = 500
    text: str = ""
    seconds: float = 0.0
    target: str = ""
    count: int = 1
    late: bool = False
    seen: int = field(default=0, compare=False)

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """From the control endpoint's JSON. ValueError names what is wrong."""
        unknown = set(data) - {one.name for one in fields(cls)}
        if unknown:
            raise ValueError(f"unknown keys: {', '.join(sorted(unknown))}")
        if data.get("action") not in get_args(Action):
            raise ValueError(f"action is one of {', '.join(get_args(Action))}, not {data.get('action')!r}")
        re.compile(data.get("path", ""))
        return cls(**data)

    def strikes(self, method: str, path: str) -> bool:
        """Count this call if it matches; is it the one?"""
        if (self.method != "*" and method not in self.method.split("|")) or not re.search(self.path, path):
            return False
        self.seen += 1
        return self.seen >= self.nth and (self.times == 0 or self.seen < self.nth + self.times)


class Faults:
    """All faults of a lab, and how often each has been seen."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, *faults: Fault) -> None:
        self._faults.extend(faults)

    def clear(self) -> None:
        self._faults.clear()

    def struck(self, method: str, path: str) -> list[Fault]:
        """Those that strike this call; every matching fault counts it."""
        return [fault for fault in self._faults if fault.strikes(method, path)]

    def described(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self._faults]
