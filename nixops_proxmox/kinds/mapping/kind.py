"""The four functions of a resource mapping. One is ours if its description ends with our mark."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol, TypeAlias

from nixops_proxmox.core.kind import Known, Thing
from nixops_proxmox.core.table import Attempt
from nixops_proxmox.errors import StateError
from nixops_proxmox.kinds.resource import (
    Describable,
    ResourceWorld,
    Setting,
    Stranger,
    described_rows,
    pve_world,
    stranger_at,
)
from nixops_proxmox.pve.api.answers import MappingSeen
from nixops_proxmox.pve.api.versions import Release
from nixops_proxmox.pve.cluster.permissions import Need
from nixops_proxmox.pve.wire.properties import parse_properties
from nixops_proxmox.spec.mapping import MappingSpec
from nixops_proxmox.spec.marks import bears_mark, with_mark

NAME = "mapping"
ABOUT = "devices or folders of nodes by one name"


class MappingStore(Protocol):
    """The mappings of a cluster, by kind (pci, usb, dir) and name."""

    def find(self, kind: str, name: str, /) -> MappingSeen | None:
        """None: there is no such mapping."""
        ...

    def create(self, kind: str, name: str, wanted: MappingSeen, /) -> None: ...
    def change(self, kind: str, name: str, wanted: MappingSeen, /) -> None: ...
    def delete(self, kind: str, name: str, /) -> None: ...


World: TypeAlias = ResourceWorld[MappingSpec, MappingStore]


class MappingKind:
    name = NAME

    def look(self, world: World, thing: Thing, /) -> MappingSeen | None:
        del thing
        found = find(world)
        return found if found is not None and bears_mark(found.comment, world.mark) else None

    def diff(self, world: World, found: MappingSeen, /) -> Sequence[str]:
        """Rows in any order; what the description leaves unset in a row is not compared."""
        return list(_differences(wanted(world), found))

    def apply(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        spec, have, want = world.spec, find(world), wanted(world)
        if have is None:
            # Safe to repeat: PVE refuses a second one of this name, and we have just looked.
            world.api.create(spec.type, spec.mappingid, want)
        elif not bears_mark(have.comment, world.mark):
            raise StateError(
                f"mapping {thing.name}: {spec.profile} has a {spec.type} mapping {spec.mappingid}, and it is not ours",
                hint=f"machines can use it as it is: remove resources.mappings.{thing.name}",
            )
        else:
            # Safe to repeat: the same again changes nothing.
            world.api.change(spec.type, spec.mappingid, want)
        return attempt.facts

    def remove(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        del thing, attempt
        have = find(world)
        if have is not None and bears_mark(have.comment, world.mark):
            # Safe to repeat: one that is gone needs nothing.
            world.api.delete(world.spec.type, world.spec.mappingid)
        return Known()


def find(world: World) -> MappingSeen | None:
    return world.api.find(world.spec.type, world.spec.mappingid)


def wanted(world: World) -> MappingSeen:
    spec = world.spec
    rows = tuple(entry.print() for entry in spec.entries)
    return MappingSeen(rows, with_mark(spec.comment, world.mark), spec.mediated)


def _differences(want: MappingSeen, have: MappingSeen) -> Iterator[str]:
    left = [parse_properties(row) for row in have.rows]
    for row in want.rows:
        said = parse_properties(row)
        same = next((one for one in left if said.items() <= one.items()), None)
        if same is None:
            yield f"entry {row}: missing"
        else:
            left.remove(same)
    for one in left:
        yield f"entry {','.join(f'{key}={value}' for key, value in one.items())}: not described"
    for name, old, new in (("comment", have.comment, want.comment), ("mediated", have.mediated, want.mediated)):
        if old != new:
            yield f"{name}: {old} becomes {new}"


def find_stranger(world: World) -> Stranger | None:
    spec, have = world.spec, find(world)
    if have is None:
        return None
    return stranger_at(
        have.comment,
        world.mark,
        lambda marked: MappingKind().diff(world, replace(have, comment=marked)),
        lambda marked: world.api.change(spec.type, spec.mappingid, replace(have, comment=marked)),
    )


def needs(spec: MappingSpec, release: Release) -> Iterator[Need]:
    if release.major >= 8:
        paths = (f"/mapping/{spec.type}",)
        yield Need(paths, ("Mapping.Modify",), "make, change and delete the mapping")


def make_world(spec: MappingSpec, setting: Setting) -> World:
    return pve_world(spec, setting, lambda hypervisor: hypervisor.mapping_store)


LIFECYCLE = described_rows(MappingKind())
DESCRIBED = Describable(MappingSpec, make_world, needs, stranger=find_stranger)
