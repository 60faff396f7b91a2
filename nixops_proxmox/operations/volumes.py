"""Files put on a hypervisor's storage once: finds where, and takes the medium there through its kind."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nixops_proxmox.core.engine import pursue
from nixops_proxmox.core.kind import Presence, Thing
from nixops_proxmox.core.ports import OnBytes
from nixops_proxmox.errors import NotFound
from nixops_proxmox.guest.agent import RealClock
from nixops_proxmox.kinds import medium as kind
from nixops_proxmox.kinds.medium import Media, Medium, World, content_name, refuse_ending
from nixops_proxmox.operations.recorded import recorded_thing
from nixops_proxmox.options import Silent
from nixops_proxmox.pve.api.answers import ClusterResources, StorageSeen
from nixops_proxmox.pve.cluster.hypervisor import open_hypervisor
from nixops_proxmox.pve.wire.upload import no_progress
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.state import open_state

if TYPE_CHECKING:
    from nixops_proxmox.state import Deployment


@contextmanager
def open_volumes(
    profile: str, profiles: Path | None = None, *, state: str = "", deployment: str = ""
) -> Iterator["Volumes"]:
    """With a deployment, its record keeps the media that are put. `state` is where that is. Without one, nothing is
    recorded, and what the storage has tells all that is needed to go on."""
    with open_state(state) if deployment else nullcontext() as opened:
        record = None if opened is None else opened.deployment(deployment)
        with open_hypervisor(profile, profiles=profiles) as hypervisor:
            yield Volumes(hypervisor, profile, record)


@dataclass(frozen=True)
class Put:
    """A file's volume. `node`: the only one that has it, empty if all have. `uploaded`: it was not there before."""

    volume: str
    node: str
    uploaded: bool


class MediaCluster(Protocol):
    """As much of a cluster as media need."""

    @property
    def media(self) -> Media: ...
    def resources(self) -> ClusterResources: ...
    def wait_for_task(self, upid: str) -> None: ...


class Volumes:
    def __init__(self, hypervisor: MediaCluster, profile: str, record: "Deployment | None" = None) -> None:
        self._hypervisor, self._profile, self._record = hypervisor, profile, record

    def ensure(self, path: Path, storage: str, content: str, *, node: str = "", progress: OnBytes = no_progress) -> str:
        """The volume ID of the file's content on the storage. The file is uploaded if it is not there yet."""
        return self.put(path, content, storage=storage, node=node, progress=progress).volume

    def put(
        self, path: Path, content: str, *, storage: str = "", node: str = "", progress: OnBytes = no_progress
    ) -> "Put":
        """Like `ensure`, and tells more. Without a storage, one is chosen that takes the content (`iso`, `import`)."""
        refuse_ending(path, content)
        name = content_name(path)
        places = find_places(self._hypervisor, content, storage, node)
        return self._put([_medium_at(place, path, content, name) for place in places], progress)

    def put_on_each(
        self, path: Path, content: str, *, storage: str = "", progress: OnBytes = no_progress
    ) -> "list[Put]":
        """The same on each node, as far as nodes do not share the storage: machines name one volume, wherever they are
        made. NotFound if a node that is online lacks the storage."""
        refuse_ending(path, content)
        name = content_name(path)
        places = find_places(self._hypervisor, content, storage, "")
        places = [place for place in places if place.storage == places[0].storage]
        self._refuse_gaps(places)
        in_order = sorted(places, key=lambda one: one.node)
        return [self._put([_medium_at(place, path, content, name)], progress) for place in in_order]

    def _put(self, media: Sequence[Medium], progress: OnBytes) -> "Put":
        """In one of these places."""
        medium, is_there = self._choose(media)
        if not is_there or self._record is not None:  # where nothing is recorded, a second look would tell the same
            self._pursue(Presence.PRESENT, medium, progress)
        return Put(medium.volume, medium.only_node, uploaded=not is_there)

    def _refuse_gaps(self, places: Sequence[StorageSeen]) -> None:
        nodes = {node.name for node in self._hypervisor.resources().nodes if node.online}
        lacking = sorted(nodes - {place.node for place in places})
        if lacking and not any(place.shared for place in places):
            raise NotFound(
                f"{', '.join(lacking)} has no storage {places[0].storage} that is active",
                hint="give --storage one that every node has",
            )

    def _choose(self, media: Sequence[Medium]) -> tuple[Medium, bool]:
        """The place that has the file already, and True. Else the one where an upload was cut off or, last, the best
        place."""
        begun: Medium | None = None
        for medium in media:
            sizes = self._hypervisor.media.sizes(medium.node, medium.storage, medium.content)
            size = sizes.get(medium.volume)
            if size == medium.size:
                return medium, True
            if size is not None and begun is None:
                begun = medium
        return begun or media[0], False

    def _pursue(self, goal: Presence, medium: Medium, progress: OnBytes) -> None:
        world = World(medium, self._hypervisor.media, self._hypervisor.wait_for_task, RealClock(), Silent(), progress)
        name = medium.thing_name(self._profile)
        if self._record is None:
            pursue(kind.LIFECYCLE, goal, Thing(kind.NAME, "", name), world, NoJournal())
            return
        record = self._record.only(name, kind.NAME)
        with record.lease() as lease:
            pursue(kind.LIFECYCLE, goal, recorded(record, name), world, record.journal(lease))


_TAKES = {
    "import": "PVE takes disk images from 8.4 on, where `resources.storages` says that a storage does; ",
    "vztmpl": "a storage takes templates of containers if its content has `vztmpl`, as `resources.storages` can say; ",
}


def find_places(hypervisor: "MediaCluster", content: str, storage: str, node: str) -> list[StorageSeen]:
    """The best first: shared before local, then the most room. A shared storage is looked at from one node."""

    def fits(seen: StorageSeen) -> bool:
        wanted = seen.storage == storage if storage else content in seen.content
        return wanted and seen.available and node in ("", seen.node)

    fitting = [seen for seen in hypervisor.resources().storages if fits(seen)]
    if not fitting:
        what = f"the storage {storage!r}" if storage else f"a storage with content type `{content}`"
        raise NotFound(
            f"{node or 'no node'} has {'not ' * bool(node)}{what} active, or it may not be seen",
            hint=_TAKES.get(content, "")
            + f"{command(Verb.DOCTOR)} lists the storages; the token needs Datastore.Audit on it",
        )
    fitting.sort(key=lambda seen: (seen.shared, seen.free), reverse=True)
    return list({(seen.storage, seen.only_node): seen for seen in reversed(fitting)}.values())[::-1]


def recorded(record: "Deployment", name: str) -> Thing:
    """The medium as the record has it, or absent. Raises StateError for a record that cannot be read."""
    return recorded_thing(record.name, kind.NAME, name, record.find_stored(kind.NAME, name))


class NoJournal:
    """A journal for runs without a state."""

    def __init__(self) -> None:
        self._count = itertools.count()

    def begin(self, thing: Thing, label: str, to: str, /) -> int:
        del thing, label, to
        return next(self._count)

    def note(self, attempt: int, thing: Thing, /) -> None: ...
    def commit(self, attempt: int, thing: Thing, /) -> None: ...
    def fail(self, attempt: int, error: Exception, /) -> None: ...
    def record(self, thing: Thing, label: str, /) -> None: ...


def _medium_at(place: StorageSeen, path: Path, content: str, name: str) -> Medium:
    return Medium.at(path, content=content, storage=place.storage, node=place.node, shared=place.shared, name=name)
