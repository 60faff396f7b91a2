"""The four functions of a pool. One is ours if its comment ends with our mark."""

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias

from nixops_proxmox.core.kind import Known, Thing
from nixops_proxmox.core.table import Attempt
from nixops_proxmox.errors import StateError
from nixops_proxmox.kinds.resource import (
    Describable,
    ResourceWorld,
    Setting,
    Stranger,
    comment_changes,
    described_rows,
    pve_world,
    stranger_at,
)
from nixops_proxmox.pve.api.versions import Release
from nixops_proxmox.pve.cluster.permissions import Need
from nixops_proxmox.spec.marks import bears_mark, with_mark
from nixops_proxmox.spec.pool import PoolSpec

NAME = "pool"
ABOUT = "a resource pool of Proxmox VE"


class PoolStore(Protocol):
    """The pools of a cluster."""

    def find_comment(self, pool: str, /) -> str | None:
        """Its comment; None: there is no such pool."""
        ...

    def members(self, pool: str, /) -> Sequence[str]:
        """What is in it: VMs and storages, a few words each."""
        ...

    def create(self, pool: str, comment: str, /) -> None: ...
    def set_comment(self, pool: str, comment: str, /) -> None: ...
    def delete(self, pool: str, /) -> None: ...


World: TypeAlias = ResourceWorld[PoolSpec, PoolStore]


class PoolKind:
    name = NAME

    def look(self, world: World, thing: Thing, /) -> str | None:
        """Its comment."""
        del thing
        comment = world.api.find_comment(world.spec.poolid)
        return comment if comment is not None and bears_mark(comment, world.mark) else None

    def diff(self, world: World, found: str, /) -> Sequence[str]:
        """The comment."""
        return comment_changes(found, world.spec.comment, world.mark)

    def apply(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        spec, comment = world.spec, with_mark(world.spec.comment, world.mark)
        have = world.api.find_comment(spec.poolid)
        if have is None:
            # Safe to repeat: PVE refuses a second pool of this name, and we have just looked.
            world.api.create(spec.poolid, comment)
        elif not bears_mark(have, world.mark):
            raise StateError(
                f"pool {thing.name}: there is a pool {spec.poolid} on {spec.profile}, and it is not ours",
                hint=f"machines can use it as it is: remove resources.pools.{spec.name}",
            )
        elif have != comment:
            # Safe to repeat: the same comment again changes nothing.
            world.api.set_comment(spec.poolid, comment)
        return attempt.facts

    def remove(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """StateError for one that is not empty."""
        del attempt
        comment = world.api.find_comment(world.spec.poolid)
        if comment is None or not bears_mark(comment, world.mark):
            return Known()
        if members := world.api.members(world.spec.poolid):
            raise StateError(
                f"cannot delete the pool {world.spec.poolid} ({thing.name}): it has {', '.join(members)}",
                hint="take them out of it, and try again",
            )
        # Safe to repeat: PVE deletes only an empty pool, and one that is gone needs nothing.
        world.api.delete(world.spec.poolid)
        return Known()


def find_stranger(world: World) -> Stranger | None:
    pool, api = world.spec.poolid, world.api
    return stranger_at(
        api.find_comment(pool),
        world.mark,
        lambda marked: PoolKind().diff(world, marked),
        lambda marked: api.set_comment(pool, marked),
    )


LIFECYCLE = described_rows(PoolKind())


def needs(spec: PoolSpec, release: Release) -> Iterator[Need]:
    del release
    yield Need((f"/pool/{spec.poolid}",), ("Pool.Allocate",), "make and delete the pool")
    yield Need((f"/pool/{spec.poolid}",), ("Pool.Audit",), "see the pool")


def make_world(spec: PoolSpec, setting: Setting) -> World:
    return pve_world(spec, setting, lambda hypervisor: hypervisor.pool_store)


DESCRIBED = Describable(PoolSpec, make_world, needs, stranger=find_stranger)
