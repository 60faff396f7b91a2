"""Replication jobs, as replication.cfg and the nodes' own states have them. What is done with them: replication.py."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class ReplicationJob:
    """`settings`: as replication.cfg has them. `since`: when it was made, or was last told something."""

    settings: dict[str, Any]
    since: float
    last_try: int = 0
    last_sync: int = 0
    fail_count: int = 0
    error: str = ""

    @property
    def guest(self) -> int:
        return int(self.settings["guest"])

    @property
    def target(self) -> str:
        return str(self.settings["target"])

    def state(self) -> dict[str, Any]:
        told = {"last_sync": self.last_sync, "last_try": self.last_try, "fail_count": self.fail_count}
        return {**told, "error": self.error} if self.error else told


@dataclass
class Replications:
    """By ID, which is VMID-NUMBER."""

    jobs: dict[str, ReplicationJob] = field(default_factory=dict)

    def of(self, vmid: int) -> dict[str, ReplicationJob]:
        return {name: job for name, job in self.jobs.items() if job.guest == vmid}

    def forget(self, vmid: int) -> None:
        for name in self.of(vmid):
            del self.jobs[name]

    def turn(self, vmid: int, old: str, new: str) -> None:
        """The VM moved: the job whose target that is copies back, and all have the new source."""
        for job in self.of(vmid).values():
            if job.target == new:
                job.settings["target"] = old
            job.settings["source"] = new
