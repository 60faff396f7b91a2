"""The calls of storage replication: the cluster's jobs, and what a node knows of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nixops_proxmox.pve.api import answers

ReplicationKeys = Mapping[str, str]


@dataclass(frozen=True)
class ReplicationState:
    """What the node of the VM knows of a job. `last_sync`: seconds since 1970; 0: nothing was copied yet."""

    last_sync: int = 0
    failures: int = 0  # since then
    error: str = ""


class ReplicationCalls:
    """`ask`: the client's. Reading needs VM.Audit on the VM; writing Datastore.Allocate on /storage, and since 9.0
    VM.Replicate on the VM instead."""

    def __init__(self, ask: Callable[..., Any]) -> None:
        self._ask = ask

    def list_jobs(self) -> Mapping[str, ReplicationKeys]:
        """By ID, which is VMID-NUMBER. What was never set is not there."""
        return answers.parse_backup_jobs(self._ask("GET", "/cluster/replication"))

    def create(self, job: str, settings: ReplicationKeys) -> None:
        self._ask("POST", "/cluster/replication", {**settings, "id": job, "type": "local"})

    def change(self, job: str, settings: ReplicationKeys, gone: Sequence[str] = ()) -> None:
        """`gone`: the settings that go back to PVE's own."""
        params = {**settings, "delete": ",".join(gone)} if gone else settings
        self._ask("PUT", "/cluster/replication/{job}", params, job=job)

    def remove(self, job: str, *, force: bool = False) -> None:
        """The node of the VM does it later, with the copies. `force`: at once, and copies stay."""
        self._ask("DELETE", "/cluster/replication/{job}", {"force": 1} if force else None, job=job)

    def list_states(self, node: str) -> Mapping[str, ReplicationState]:
        """By job: those whose VM is on the node."""
        jobs = answers.as_maps(self._ask("GET", "/nodes/{node}/replication", node=node), "replication")
        return {answers.as_text(job.get("id"), "id"): _state(job) for job in jobs}


def _state(job: Mapping[str, Any]) -> ReplicationState:
    return ReplicationState(
        answers.as_int(job.get("last_sync", 0), "last_sync"),
        answers.as_int(job.get("fail_count", 0), "fail_count"),
        str(job.get("error", "")),
    )
