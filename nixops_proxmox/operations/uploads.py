"""Delete a file that was uploaded: find it, and what shows that it is ours. Its kind removes it.

Two things show it: the record of a deployment, or the file itself, whose content the name on the storage tells.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nixops_proxmox.core.engine import pursue
from nixops_proxmox.core.kind import Presence, Thing
from nixops_proxmox.errors import ConfigError, NotFound
from nixops_proxmox.guest.agent import RealClock
from nixops_proxmox.kinds import medium as kind
from nixops_proxmox.kinds.medium import Medium, World, content_name
from nixops_proxmox.operations.volumes import MediaCluster, NoJournal, find_places, recorded
from nixops_proxmox.options import Silent
from nixops_proxmox.pve.cluster.hypervisor import open_hypervisor
from nixops_proxmox.state import open_state

if TYPE_CHECKING:
    from nixops_proxmox.state import Deployment


@contextmanager
def open_uploads(
    profile: str, profiles: Path | None = None, *, state: str = "", deployment: str = ""
) -> Iterator["Uploads"]:
    """`deployment`: look only in its record. Empty: in those of all deployments."""
    with open_state(state) as opened, open_hypervisor(profile, profiles=profiles) as hypervisor:
        names = [deployment] if deployment else opened.deployments()
        yield Uploads(hypervisor, profile, [opened.deployment(name) for name in names])


@dataclass(frozen=True)
class Uploaded:
    """A file of ours. `name`: what a record calls it. `size`: what the storage has of it, in bytes. None: it is gone.
    Without `record`, the file at hand shows that it is ours."""

    medium: Medium
    name: str
    size: int | None
    record: "Deployment | None" = None


class Uploads:
    def __init__(self, hypervisor: MediaCluster, profile: str, records: "Sequence[Deployment]") -> None:
        self._hypervisor, self._profile, self._records = hypervisor, profile, records

    def find(self, what: str, content: str, node: str = "") -> Uploaded:
        """By its volume ID, or by the file here that was uploaded. ConfigError if several may be meant, NotFound if
        nothing shows that one is ours."""
        by_file = Path(what).is_file()
        found = self._by_file(Path(what), content, node) if by_file else self._by_volume(what, node)
        if not found:
            raise NotFound(
                f"{what}: no storage has this file" if by_file else f"{what}: no record says that we uploaded it",
                hint="`iso upload` of the same file prints where it is"
                if by_file
                else "name the file that was uploaded instead: its content shows whether the volume is ours",
            )
        if len(found) > 1:
            places = ", ".join(sorted(f"{one.medium.volume} on {one.medium.node}" for one in found))
            raise ConfigError(f"{what} is in several places: {places}", hint="name the volume, and its --node")
        return found[0]

    def remove(self, upload: Uploaded) -> None:
        """Raises StateError if a VM has it inserted, which is looked at right before."""
        medium, record, name = upload.medium, upload.record, upload.name
        world = World(medium, self._hypervisor.media, self._hypervisor.wait_for_task, RealClock(), Silent())
        if record is None:
            pursue(kind.LIFECYCLE, Presence.ABSENT, ours(Thing(kind.NAME, "", name), medium), world, NoJournal())
            return
        with record.only(name, kind.NAME).lease() as lease:
            thing = ours(recorded(record, name), medium)
            pursue(kind.LIFECYCLE, Presence.ABSENT, thing, world, record.journal(lease))
            record.forget(name, lease, kind=kind.NAME)

    def _by_file(self, path: Path, content: str, node: str) -> list[Uploaded]:
        """Only our content can have its name and its size."""
        name = content_name(path)
        places = find_places(self._hypervisor, content, "", node)
        media = [
            Medium.at(path, content=content, storage=one.storage, node=one.node, shared=one.shared, name=name)
            for one in places
        ]
        found = [self._upload(medium, medium.thing_name(self._profile)) for medium in media]
        return [one for one in found if one.size == one.medium.size]

    def _by_volume(self, volume: str, node: str) -> list[Uploaded]:
        storage, _, rest = volume.partition(":")
        content, _, name = rest.partition("/")
        if not (storage and content and name):
            raise ConfigError(
                f"{volume!r} is neither a file here nor a volume ID",
                hint="a volume ID is like local:iso/nixos-0123456789abcdef.iso, as `iso upload` prints it",
            )
        found = []
        for record in self._records:
            for stored in record.stored(kind.NAME):
                thing = recorded(record, stored.name)
                values = thing.facts.values
                if values.get("volume") != volume or node not in ("", values.get("node", "")):
                    continue
                medium = self._recorded_medium(values, storage, content, name)
                if _place(medium.thing_name(self._profile)) == _place(stored.name):
                    found.append(self._upload(medium, stored.name, record))
        return found

    def _recorded_medium(self, values: Mapping[str, str], storage: str, content: str, name: str) -> Medium:
        """A shared storage is asked through any node that has it."""
        only = values.get("node", "")
        node = only or find_places(self._hypervisor, content, storage, "")[0].node
        size = int(values.get("size", "0"))
        return Medium(Path(name), name, size, content, storage, node, shared=not only)

    def _upload(self, medium: Medium, name: str, record: "Deployment | None" = None) -> Uploaded:
        size = self._hypervisor.media.sizes(medium.node, medium.storage, medium.content).get(medium.volume)
        owner = record or next((one for one in self._records if one.find_stored(kind.NAME, name)), None)
        return Uploaded(medium, name, size, owner)


def ours(thing: Thing, medium: Medium) -> Thing:
    """The thing with what shows that it is ours. A record lacks that if the file was there before it was first
    recorded."""
    return thing.moved(thing.phase, replace(thing.facts, values=medium.values))


def _place(name: str) -> str:
    """The part of a recorded name that tells profile, node and volume."""
    return name.rpartition("-")[2]
