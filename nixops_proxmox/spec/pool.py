"""A resource pool."""

from typing import TYPE_CHECKING

from typing_extensions import override

from nixops_proxmox.spec import values as v
from nixops_proxmox.spec.resource import Comment, ResourceSpec

if TYPE_CHECKING:
    from nixops_proxmox.spec.machine import MachineSpec


class PoolSpec(ResourceSpec):
    """A resource pool of PVE, for rights and for an overview. It is removed only when nothing is left in it."""

    kind = "pool"
    option = "pools"

    pool: v.Pool | None = None  # PVE's name of it; None: the name here
    comment: Comment = ""

    @property
    def poolid(self) -> str:
        return self.pool or self.name

    @property
    @override
    def given_name(self) -> str:
        return self.poolid

    @property
    @override
    def identity(self) -> tuple[str, ...]:
        return (self.profile, self.poolid)

    @override
    def is_wanted_by(self, machine: "MachineSpec") -> bool:
        return machine.profile == self.profile and machine.pool == self.poolid
