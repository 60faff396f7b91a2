"""A storage that the cluster has: which kinds of content it must take."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from typing_extensions import override

from nixops_proxmox.spec import values as v
from nixops_proxmox.spec.images import is_file_here
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
        """Is its installer, image or template there, or will it be?"""
        install, inside = machine.install, machine.container
        volumes = (install.iso, install.image, None if inside is None else inside.template)
        if machine.profile != self.profile:
            return False
        if inside is not None and is_file_here(inside.template) and inside.storage in (None, self.storage_id):
            return "vztmpl" in self.content
        if is_file_here(install.image) and install.image_storage in (None, self.storage_id):
            return "import" in self.content
        return any(one is not None and one.partition(":")[0] == self.storage_id for one in volumes)


def with_image_storage(machine: "MachineSpec", resources: Sequence[ResourceSpec]) -> "MachineSpec":
    """An image that is a file of ours goes to the first storage that is described to take images: PVE may not know yet
    that it does."""
    install = machine.install
    if not is_file_here(install.image) or install.image_storage is not None:
        return machine
    fit = [one.storage_id for one in resources if isinstance(one, StorageSpec) and one.is_wanted_by(machine)]
    if not fit:
        return machine
    return machine.model_copy(update={"install": install.model_copy(update={"image_storage": fit[0]})})
