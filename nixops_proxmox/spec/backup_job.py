"""A backup job: PVE itself backs up machines, at times of the cluster's own."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StringConstraints
from typing_extensions import override

from nixops_proxmox.spec import values as v
from nixops_proxmox.spec.frozen import Frozen
from nixops_proxmox.spec.resource import Comment, Objection, ResourceSpec

if TYPE_CHECKING:
    from nixops_proxmox.spec.machine import MachineSpec

Count = Annotated[int, Field(ge=1, le=10_000)]
Schedule = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9*/,:. -]{1,128}$")]  # a calendar event of PVE


class Keep(Frozen):
    """How many backups of a machine are kept; nothing set: PVE's storage decides."""

    last: Count | None = None
    hourly: Count | None = None
    daily: Count | None = None
    weekly: Count | None = None
    monthly: Count | None = None
    yearly: Count | None = None

    def counts(self) -> Mapping[str, int]:
        """As PVE calls them: `keep-last`, …"""
        return {f"keep-{name}": count for name, count in self.model_dump(exclude_none=True).items()}


class BackupJobSpec(ResourceSpec):
    """One of `resources.backupJobs`."""

    kind = "backup-job"
    option = "backupJobs"

    schedule: Schedule
    storage: v.Storage
    machines: Annotated[tuple[v.DnsName, ...], v.Unique] = ()  # of this deployment
    pool: v.Pool | None = None  # instead: all that is in a pool
    mode: Literal["snapshot", "suspend", "stop"] = "snapshot"
    compress: Literal["0", "gzip", "lzo", "zstd"] = "zstd"
    keep: Keep = Keep()
    enabled: bool = True
    comment: Comment = ""

    @property
    @override
    def wants(self) -> Collection[tuple[str, str]]:
        return [("machine", name) for name in self.machines]

    @override
    def objections(self, machines: "Sequence[MachineSpec]", others: "Sequence[ResourceSpec]") -> Iterable[Objection]:
        del others
        if bool(self.machines) == bool(self.pool):
            yield Objection("machines", "name the machines that it backs up, or a pool, and not both")
        known = {machine.name: machine for machine in machines}
        for name in self.machines:
            if name not in known:
                yield Objection("machines", f"there is no machine {name}")
            elif known[name].profile != self.profile:
                yield Objection("machines", f"{name} is on another hypervisor, {known[name].profile}")
