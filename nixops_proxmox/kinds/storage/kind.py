"""The four functions of a storage. It is somebody else's: we only switch on what is described and missing.

Nothing is made, and nothing is switched off: others may use what is there. So there is no mark, and removing one is
forgetting it.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias

from nixops_proxmox.core.kind import Known, Thing
from nixops_proxmox.core.table import Attempt
from nixops_proxmox.errors import StateError
from nixops_proxmox.kinds.resource import Describable, ResourceWorld, Setting, described_rows, pve_world
from nixops_proxmox.model import Finding, Level
from nixops_proxmox.pve.api.versions import Release
from nixops_proxmox.pve.cluster.permissions import Need
from nixops_proxmox.pve.cluster.storages import StorageFound
from nixops_proxmox.spec.storage import STORAGE, StorageSpec

NAME = STORAGE
ABOUT = "what a storage of the cluster takes"


class StorageStore(Protocol):
    """The storages of a cluster."""

    def find(self, storage: str, /) -> StorageFound | None:
        """None: there is no such storage, or we may not see it."""
        ...

    def has_content(self, content: str, /) -> bool:
        """Does this release of PVE know such content?"""
        ...

    def set_content(self, storage: str, content: Sequence[str], digest: str, /) -> None:
        """PveRefused if the storages were changed since that digest."""
        ...


World: TypeAlias = ResourceWorld[StorageSpec, StorageStore]


class StorageKind:
    name = NAME

    def look(self, world: World, thing: Thing, /) -> StorageFound | None:
        del thing
        return world.api.find(world.spec.storage_id)

    def diff(self, world: World, found: StorageFound, /) -> Sequence[str]:
        more = _missing(world.spec, found)
        now = ",".join(found.content) or "none"
        return [f"content: {now} becomes {','.join([*found.content, *more])}"] if more else []

    def apply(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        found = world.api.find(world.spec.storage_id)
        if found is None:
            raise StateError(
                f"storage {thing.name}: {_absent(world)}",
                hint="add it in PVE (Datacenter, Storage), let the token see it (Datastore.Audit on it), "
                f"or remove resources.storages.{thing.name}",
            )
        more = _missing(world.spec, found)
        for content in more:
            if not world.api.has_content(content):
                raise StateError(
                    f"storage {thing.name}: this release of PVE has no content type {content}",
                    hint=f"upgrade PVE, or remove {content} from resources.storages.{thing.name}.content",
                )
        if more:
            # Safe to repeat: what is there stays, and the digest is of what we have just seen.
            world.api.set_content(world.spec.storage_id, [*found.content, *more], found.digest)
        return attempt.facts

    def remove(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """It stays as it is."""
        del world, thing, attempt
        return Known()


def _missing(spec: StorageSpec, found: StorageFound) -> list[str]:
    return [content for content in spec.content if content not in found.content]


def _absent(world: World) -> str:
    return f"{world.spec.profile} has no storage {world.spec.storage_id}, or shows us none"


def outline(world: World) -> Iterator[str]:
    yield f"{_absent(world)}: add it in PVE, because a deploy makes none"


def remarks(world: World) -> Iterator[str]:
    found = world.api.find(world.spec.storage_id)
    if found is None:
        return
    if found.disabled:
        yield f"{world.spec.storage_id} is switched off in PVE, so nothing can use it"
    elif found.silent:
        yield f"{world.spec.storage_id} is not active on {', '.join(found.silent)}"


def examine(spec: StorageSpec, setting: Setting) -> Iterator[Finding]:
    """Whether it is there, is active, and takes what is described."""
    world, where = make_world(spec, setting), f"storage {spec.name}"
    found = world.api.find(spec.storage_id)
    if found is None:
        yield Finding(Level.PROBLEM, where, _absent(world), "add it in PVE, or let the token see it")
        return
    more = _missing(spec, found)
    if more:
        yield Finding(
            Level.WARNING,
            where,
            f"it does not take {', '.join(more)} yet",
            "a deploy switches that on, with Datastore.Allocate on /storage",
        )
    for text in remarks(world):
        yield Finding(Level.WARNING, where, text, "see Datacenter, Storage in PVE")


def needs(spec: StorageSpec, release: Release) -> Iterator[Need]:
    del release
    yield Need((f"/storage/{spec.storage_id}",), ("Datastore.Audit",), "see what the storage takes")
    # A deploy needs it only where something is missing, which `examine` tells.
    yield Need(("/storage",), ("Datastore.Allocate",), "switch on what a storage takes", must=False)


def make_world(spec: StorageSpec, setting: Setting) -> World:
    return pve_world(spec, setting, lambda hypervisor: hypervisor.storage_store)


LIFECYCLE = described_rows(StorageKind())
DESCRIBED = Describable(StorageSpec, make_world, needs, examine=examine, remarks=remarks, outline=outline)
