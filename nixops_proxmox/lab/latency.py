"""How long things take in the lab: one record of seconds, on the lab's clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True)
class Latency:
    """Seconds. `tasks` is by task type (qmcreate, qmstart, …), `task` for the types not listed."""

    request: float = 0.0
    task: float = 0.0
    tasks: Mapping[str, float] = field(default_factory=dict)
    refused_login: float = 3.0  # pveproxy answers every 401 only after this
    statistics: float = 10.0  # a new VM is "unknown" in /cluster/resources until pvestatd has told of it
    flock: float = 10.0  # how long a call waits for another one on the same VM
    cluster_lock: float = 10.0
    proxied: float = 30.0  # pveproxy gives a proxied request up after this: 596
    agent: float = 5.0
    agent_ping: float = 3.0
    agent_silence: float = 3.0  # of an agent that a fault has silenced
    ha: float = 0.0  # between two rounds of the HA manager
    fence: float = 0.0  # from a node's loss until the HA manager has fenced it
    replication: float = 0.0  # between two rounds of pvescheduler, which copies, and removes jobs
    restart: float = 0.0  # between a guest's end in a qmreboot and the start that follows it
    upload: float = 0.0  # seconds per MiB

    def of_task(self, kind: str) -> float:
        return self.tasks.get(kind, self.task)

    @classmethod
    def instant(cls) -> Self:
        """Nothing is added; who waits for something gives up after as long as on a real node."""
        return cls(refused_login=0.0, statistics=0.0, agent_silence=0.05)

    @classmethod
    def realistic(cls) -> Self:
        """A small cluster on SSDs."""
        return cls(
            request=0.02,
            task=0.5,
            restart=0.5,
            ha=2.0,
            fence=120.0,
            replication=60.0,
            tasks={"qmcreate": 2.0, "qmstart": 1.2, "qmclone": 6.0, "vzdump": 10.0, "qmrestore": 8.0, "imgcopy": 0.8},
            upload=0.002,
        )
