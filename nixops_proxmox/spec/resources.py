"""Things beside machines, as a network describes them under `resources`: what all of them have in common."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import AfterValidator
from typing_extensions import override

from nixops_proxmox.spec import values as v
from nixops_proxmox.spec.frozen import Frozen

if TYPE_CHECKING:
    from nixops_proxmox.spec.machine import MachineSpec


@dataclass(frozen=True)
class Objection:
    """A mistake in one field of a resource; `field` empty: in all of it."""

    field: str
    text: str
    hint: str = ""


class ResourceSpec(Frozen):
    """One of `resources.<option>`; the field names are the option names, in snake case. No field is ever a secret: the
    record keeps the whole description, to remove the thing when it is no longer described."""

    kind: ClassVar[str]  # the name of its kind in the registry
    option: ClassVar[str]  # where it is described: resources.<option>.<name>

    name: v.DnsName
    profile: v.ProfileName = "default"  # the hypervisor's profile

    @property
    def identity(self) -> tuple[str, ...]:
        """What cannot change: a thing that is described with another one is removed, and made as a new one."""
        return (self.profile, self.name)

    @property
    def wants(self) -> Collection[tuple[str, str]]:
        """What must be there before it is made, each as kind and name: another resource, or a machine."""
        return ()

    @classmethod
    def references(cls, machine: "MachineSpec") -> Mapping[str, str]:
        """The names of such resources that the machine refers to, by the option of the machine that says so."""
        del machine
        return {}

    def is_wanted_by(self, machine: "MachineSpec") -> bool:
        """Must it be there before the machine is made?"""
        return self.name in self.references(machine).values()

    def objections(self, machines: "Sequence[MachineSpec]", others: "Sequence[ResourceSpec]") -> Iterable[Objection]:
        """What does not fit together with the rest of the network."""
        del machines, others
        return ()


def _shown(text: str) -> str:
    if len(text) > 200 or not text.isprintable():
        raise ValueError("expected one line of at most 200 characters")
    return text


class PoolSpec(ResourceSpec):
    """A resource pool of PVE, for rights and for an overview. It is removed only when nothing is left in it."""

    kind = "pool"
    option = "pools"

    pool: v.Pool | None = None  # PVE's name of it; None: the name here
    comment: Annotated[str, AfterValidator(_shown)] = ""

    @property
    def poolid(self) -> str:
        return self.pool or self.name

    @property
    @override
    def identity(self) -> tuple[str, ...]:
        return (self.profile, self.poolid)

    @override
    def is_wanted_by(self, machine: "MachineSpec") -> bool:
        return machine.profile == self.profile and machine.pool == self.poolid


Models = Mapping[str, type[ResourceSpec]]  # by option

OURS: Models = {model.option: model for model in (PoolSpec,)}


def place_of(spec: ResourceSpec) -> str:
    """The path of its description."""
    return f"resources.{spec.option}.{spec.name}"
