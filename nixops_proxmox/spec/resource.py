"""Things beside machines, as a network describes them under `resources`: what all of them have in common."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import AfterValidator

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
    follows: ClassVar[bool] = False  # is it made again before a machine's first boot, and after a machine's end?
    leads: ClassVar[bool] = False  # is it made before the others that follow a machine?

    name: v.DnsName
    profile: v.ProfileName = "default"  # the hypervisor's profile; empty: no hypervisor has it

    @property
    def identity(self) -> tuple[str, ...]:
        """What cannot change: a thing that is described with another one is removed, and made as a new one."""
        return (self.profile, self.name)

    @property
    def given_name(self) -> str:
        """What the cluster, or the router, calls it."""
        return self.name

    def moved_to(self, profile: str) -> Self:
        """The same on another hypervisor; what is on none stays as it is."""
        return self.model_copy(update={"profile": profile}) if self.profile else self

    @property
    def wants(self) -> Collection[tuple[str, str]]:
        """What must be there before it is made, each as kind and name: another resource, or a machine."""
        return ()

    def comes_after(self, machines: "Sequence[MachineSpec]") -> Collection[tuple[str, str]]:
        """What it is worked on after, if both are worked on: it is made even if that fails."""
        del machines
        return ()

    @property
    def needs_description(self) -> bool:
        """Does it take more than the record of machines to tell what it becomes?"""
        return False

    @classmethod
    def references(cls, machine: "MachineSpec") -> Mapping[str, str]:
        """The names of such resources that the machine refers to, by the option of the machine that says so."""
        del machine
        return {}

    def covers(self, machine: str) -> bool:
        """Is it made again when this machine comes and goes?"""
        del machine
        return self.follows

    def is_wanted_by(self, machine: "MachineSpec") -> bool:
        """Must it be there before the machine is made?"""
        return self.name in self.references(machine).values()

    def objections(self, machines: "Sequence[MachineSpec]", others: "Sequence[ResourceSpec]") -> Iterable[Objection]:
        """What does not fit together with the rest of the network."""
        del machines, others
        return ()


def _one_line(text: str) -> str:
    if len(text) > 200 or not text.isprintable():
        raise ValueError("expected one line of at most 200 characters")
    return text


Comment = Annotated[str, AfterValidator(_one_line)]  # what people read; our mark follows it


def place_of(spec: ResourceSpec) -> str:
    """The path of its description."""
    return f"resources.{spec.option}.{spec.name}"
