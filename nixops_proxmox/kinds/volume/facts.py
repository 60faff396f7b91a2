"""What is known of a volume, and where it is."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, ClassVar, Self

from nixops_proxmox.model import Spot

NAME = "volume"
CONTAINER = "container"  # in the facts' `holder`


class VolumePhase(StrEnum):
    """Where a volume is."""

    ABSENT = "absent"  # it was not made yet, or was deleted
    BEGUN = "begun"  # a run that ended too early chose, or made, the VM that is to keep it
    PARKED = "parked"  # in a VM that never starts and keeps it
    ATTACHED = "attached"  # in a machine's VM
    ELSEWHERE = "elsewhere"  # in another machine's VM than the one that is to have it
    SMALL = "small"  # in its machine's VM, and smaller than described
    PARKED_SMALL = "parked-small"  # parked, and smaller than described
    LOST = "lost"  # our record says it exists, and no VM has it


@dataclass(frozen=True)
class VolumeFacts:
    """Texts and numbers only; never a secret. Empty means not known (yet)."""

    serial: str = ""  # the volume's identity: a disk that has another one is another disk
    profile: str = ""  # the hypervisor it is on
    storage: str = ""
    size: int = 0  # bytes, as last seen
    used: int = 0  # bytes that guests have taken into use, if it was made larger since; 0: it was not
    uuid: str = ""  # the UUID of the VM that has it
    vmid: int = 0
    node: str = ""
    slot: str = ""
    volume: str = ""  # PVE's name of it, which changes with each VM
    machine: str = ""  # the machine that had it attached last
    parker: str = ""  # the UUID of the VM in which it is parked, or will be
    parker_vmid: int = 0
    holder: str = ""  # "container": only containers can have it; empty: VMs
    guard: str = ""  # "off": the description said `protect = false`
    task: str = ""  # the UPID of a PVE task that the current move started and that must be waited for
    errand: Mapping[str, str] = field(default_factory=dict)

    @property
    def in_container(self) -> bool:
        return self.holder == CONTAINER

    def at(self, spot: Spot) -> Self:
        """The facts of a volume that was seen there. If it is larger now, no guest uses more of it yet."""
        vm = spot.vm
        used = self.used or (self.size if self.size < spot.size else 0)
        return replace(
            self,
            uuid=vm.uuid,
            vmid=vm.vmid,
            node=vm.node,
            slot=spot.slot,
            volume=spot.volume,
            size=spot.size,
            used=used,
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object; what is empty is left out."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; TypeError for a name that is not known, or a value of another type."""
        empty = cls()
        for name, value in data.items():
            known = getattr(empty, name, None)
            if not isinstance(value, Mapping if name == "errand" else type(known)) or isinstance(value, bool):
                raise TypeError(f"{name} cannot be {value!r}")
        return cls(**data)


@dataclass(frozen=True)
class Volume:
    """One volume of a deployment: where it stands and what is known of it."""

    kind: ClassVar[str] = NAME

    deployment: str
    name: str
    phase: VolumePhase = VolumePhase.ABSENT
    facts: VolumeFacts = field(default_factory=VolumeFacts)

    def moved(self, phase: VolumePhase, facts: VolumeFacts, /) -> "Volume":
        return replace(self, phase=phase, facts=facts)
