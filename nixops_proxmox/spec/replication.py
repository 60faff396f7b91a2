"""A replication job: PVE copies a machine's disks to another node, again and again."""

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from typing_extensions import override

from nixops_proxmox.spec import values as v
from nixops_proxmox.spec.backup_job import Schedule
from nixops_proxmox.spec.resource import Comment, Objection, ResourceSpec

if TYPE_CHECKING:
    from nixops_proxmox.spec.machine import MachineSpec

REPLICATION = "replication"
Rate = Annotated[int, Field(ge=1, le=100_000)]  # MB/s


class ReplicationSpec(ResourceSpec):
    """One of `resources.replications`."""

    kind = REPLICATION
    option = "replications"

    machine: v.DnsName  # of this deployment
    target: v.NodeName
    schedule: Schedule = "*/15"
    rate: Rate | None = None  # None: as fast as it goes
    enabled: bool = True
    comment: Comment = ""

    @property
    @override
    def identity(self) -> tuple[str, ...]:
        """PVE has one job for a VM and a target."""
        return (self.profile, self.machine, self.target)

    @property
    @override
    def wants(self) -> Collection[tuple[str, str]]:
        return [("machine", self.machine)]

    @override
    def comes_after(self, machines: "Sequence[MachineSpec]") -> Collection[tuple[str, str]]:
        del machines
        return [("machine", self.machine)]

    @override
    def objections(self, machines: "Sequence[MachineSpec]", others: "Sequence[ResourceSpec]") -> Iterable[Objection]:
        del others
        machine = next((one for one in machines if one.name == self.machine), None)
        if machine is None:
            yield Objection("machine", f"there is no machine {self.machine}")
        elif machine.profile != self.profile:
            yield Objection("machine", f"{self.machine} is on another hypervisor, {machine.profile}")
