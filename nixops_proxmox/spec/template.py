"""A template that we make of an image, on the nodes where machines are cloned from it."""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from typing_extensions import override

from nixops_proxmox.spec import values as v
from nixops_proxmox.spec.resource import Comment, Objection, ResourceSpec

if TYPE_CHECKING:
    from nixops_proxmox.spec.machine import MachineSpec

TEMPLATE = "template"


class TemplateSpec(ResourceSpec):
    """One of `resources.templates`. It is made where a machine needs it, and removed when nothing is cloned from it."""

    kind = TEMPLATE
    option = "templates"

    image: v.Script  # a volume ID, or a file here
    image_storage: v.Storage | None = None  # where a file is put; None: one that takes images
    storage: v.Storage  # of its disk
    slot: v.DiskSlot = "scsi0"
    bios: Literal["seabios", "ovmf"] = "seabios"
    machine: v.MachineType | None = None
    nodes: Annotated[tuple[v.NodeName, ...], v.Unique] = ()  # where it is made before a machine needs it
    comment: Comment = ""

    @property
    def hardware(self) -> str:
        """What makes it another template, beside its image."""
        return json.dumps([self.storage, self.slot, self.bios, self.machine])

    @property
    @override
    def identity(self) -> tuple[str, ...]:
        return (self.profile, self.name)

    @override
    def is_wanted_by(self, machine: "MachineSpec") -> bool:
        return machine.profile == self.profile and machine.install.template == self.name

    @override
    def objections(self, machines: "Sequence[MachineSpec]", others: Sequence[ResourceSpec]) -> Iterator[Objection]:
        """Machines whose first disk cannot become a clone of its disk."""
        del others
        for machine in machines:
            if not self.is_wanted_by(machine) or not machine.disks:
                continue
            first, bios = machine.disks[0], machine.bios or ("ovmf" if machine.efi is not None else "seabios")
            if first.slot != self.slot:
                yield Objection("slot", f"is {self.slot}, and the first disk of {machine.name} is {first.slot}")
            if first.storage != self.storage and not machine.install.full_clone:
                text = f"is {self.storage}, and {machine.name}, a linked clone, has its first disk on {first.storage}"
                yield Objection("storage", text, hint=f"{machine.name}: install.fullClone = true;")
            if bios != self.bios:
                yield Objection("bios", f"is {self.bios}, and {machine.name} boots with {bios}")


def with_template(machine: "MachineSpec", resources: Sequence[ResourceSpec]) -> "MachineSpec":
    """The machine knows whether its template is one that we make: no node may have it yet."""
    ours = any(isinstance(one, TemplateSpec) and one.is_wanted_by(machine) for one in resources)
    if not ours:
        return machine
    return machine.model_copy(update={"install": machine.install.model_copy(update={"described": True})})
