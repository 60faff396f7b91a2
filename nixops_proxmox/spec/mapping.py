"""A resource mapping: devices, or folders, of nodes by one name of the cluster's."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StringConstraints
from typing_extensions import override

from nixops_proxmox.spec import values as v
from nixops_proxmox.spec.frozen import Frozen
from nixops_proxmox.spec.resource import Comment, Objection, ResourceSpec

if TYPE_CHECKING:
    from nixops_proxmox.spec.machine import MachineSpec

_ADDRESS = r"[a-f0-9]{4,}:[a-f0-9]{2}:[a-f0-9]{2}(\.[a-f0-9])?"
DeviceId = Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}$")]
PLACES: Mapping[str, str] = {  # what `path` looks like
    "pci": rf"^({_ADDRESS};)*{_ADDRESS}$",
    "usb": r"^(\d+)-(\d+(\.\d+)*)$",
    "dir": r"^/[^,=\s]*$",
}
KEYS: Mapping[str, str] = {"pci": "hostpci", "usb": "usb", "dir": "virtiofs"}  # PVE's keys that name a mapping


class MappingEntry(Frozen):
    """What one node has. `id`: vendor and device, as PVE compares them before it lends the device."""

    node: v.NodeName
    path: Annotated[str, StringConstraints(pattern=r"^[^,=\s]+$")] | None = None
    id: DeviceId | None = None
    subsystem_id: DeviceId | None = None
    iommu_group: Annotated[int, Field(ge=0)] | None = None

    def print(self) -> str:
        """As PVE has it; what is unset is left out."""
        told = {
            "node": self.node,
            "path": self.path,
            "id": self.id,
            "subsystem-id": self.subsystem_id,
            "iommugroup": self.iommu_group,
        }
        return ",".join(f"{key}={value}" for key, value in told.items() if value is not None)


class MappingSpec(ResourceSpec):
    """One of `resources.mappings`."""

    kind = "mapping"
    option = "mappings"

    type: Literal["pci", "usb", "dir"]
    entries: Annotated[tuple[MappingEntry, ...], v.OneOrMore]
    mapping: v.ConfigId | None = None  # PVE's name of it; None: the name here
    mediated: bool = False  # pci: are its devices shared out in parts (mdev)?
    comment: Comment = ""

    @property
    def mappingid(self) -> str:
        return self.mapping or self.name

    @property
    @override
    def given_name(self) -> str:
        return self.mappingid

    @property
    @override
    def identity(self) -> tuple[str, ...]:
        return (self.profile, self.type, self.mappingid)

    @override
    def is_wanted_by(self, machine: "MachineSpec") -> bool:
        """One whose `extra` names it."""
        word = "dirid" if self.type == "dir" else "mapping"
        named = (
            f"{word}={self.mappingid}" in str(value).split(",")
            or (word == "dirid" and str(value).split(",")[0] == self.mappingid)
            for key, value in machine.extra.items()
            if key.rstrip("0123456789") == KEYS[self.type]
        )
        return machine.profile == self.profile and any(named)

    @override
    def objections(self, machines: "Sequence[MachineSpec]", others: "Sequence[ResourceSpec]") -> Iterable[Objection]:
        del machines, others
        if self.mediated and self.type != "pci":
            yield Objection("mediated", "has a meaning with pci only")
        for place, entry in enumerate(self.entries):
            where = f"entries[{place}]"
            if entry.path is None and self.type != "usb":
                yield Objection(f"{where}.path", "must be set")
            if entry.path is not None and not re.fullmatch(PLACES[self.type], entry.path):
                yield Objection(f"{where}.path", f"PVE takes no such path of {self.type}")
            if (entry.id is None) == (self.type != "dir"):
                yield Objection(f"{where}.id", "has no meaning with dir" if entry.id else "must be set: vendor:device")
            for field in ("subsystem_id", "iommu_group"):
                if getattr(entry, field) is not None and self.type != "pci":
                    yield Objection(f"{where}.{field}", "has a meaning with pci only")
