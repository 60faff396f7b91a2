"""A storage that the cluster has: which kinds of content it must take."""

from typing import TYPE_CHECKING, Annotated, Literal

from typing_extensions import override

from nixops_proxmox.spec import values as v
from nixops_proxmox.spec.resource import ResourceSpec

if TYPE_CHECKING:
    from nixops_proxmox.spec.machine import MachineSpec

STORAGE = "storage"
Content = Literal["images", "rootdir", "iso", "vztmpl", "import", "snippets", "backup"]


class StorageSpec(ResourceSpec):
    """One of `resources.storages`. It is never made, and nothing is switched off."""

    kind = STORAGE
    option = "storages"

    storage: v.Storage | None = None  # PVE's name of it; None: the name here
    content: Annotated[tuple[Content, ...], v.OneOrMore]

    @property
    def storage_id(self) -> str:
        return self.storage or self.name

    @property
    @override
    def given_name(self) -> str:
        return self.storage_id

    @property
    @override
    def identity(self) -> tuple[str, ...]:
        return (self.profile, self.storage_id)

    @override
    def is_wanted_by(self, machine: "MachineSpec") -> bool:
        """Is its installer or image there?"""
        volumes = (machine.install.iso, machine.install.image)
        here = machine.profile == self.profile
        return here and any(one is not None and one.partition(":")[0] == self.storage_id for one in volumes)
