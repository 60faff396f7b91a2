"""What a container has beside what all machines have: its template, its root, mount points, and what it may do."""

from typing import Annotated

from pydantic import Field

from nixops_proxmox.spec import values as v
from nixops_proxmox.spec.frozen import Frozen

Size = Annotated[int, Field(ge=1 << 20, le=1 << 50)]  # bytes


class RootSpec(Frozen):
    storage: v.Storage
    size: Size


class MountSpec(Frozen):
    """A volume of the container's own, and where it is in it."""

    slot: v.MountSlot  # mp0, mp1, …
    path: v.MountPath
    storage: v.Storage
    size: Size
    backup: bool | None = None
    read_only: bool | None = None
    keep: bool = False  # nothing but `destroy` takes it away


class ContainerSpec(Frozen):
    """`template`: a volume ID, or a file here that is uploaded once. `storage`: where it is put then."""

    template: v.Script
    storage: v.Storage | None = None
    root: RootSpec
    mounts: tuple[MountSpec, ...] = ()
    swap: Annotated[int, Field(ge=0, le=1 << 24)] | None = None  # MiB
    nesting: bool = True  # systemd and Nix's sandbox need user namespaces

    @property
    def volumes(self) -> "tuple[RootSpec | MountSpec, ...]":
        return (self.root, *self.mounts)
