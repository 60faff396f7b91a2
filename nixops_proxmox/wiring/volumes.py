"""Files put on a hypervisor's storage once: their names hold their content's hash."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nixops_proxmox.errors import ConfigError, NotFound
from nixops_proxmox.pve.answers import StorageSeen
from nixops_proxmox.pve.hypervisor import PveHypervisor, open_hypervisor
from nixops_proxmox.pve.upload import Progress, no_progress, stored_name
from nixops_proxmox.spelling import Verb, command

STEM = 200  # characters of a file's name that are kept; PVE takes 255 with all that is added
ENDINGS = {"iso": (".iso", ".img"), "import": (".qcow2", ".raw", ".vmdk", ".ova")}


@contextmanager
def open_volumes(profile: str, profiles: Path | None = None) -> Iterator["Volumes"]:
    with open_hypervisor(profile, profiles=profiles) as hypervisor:
        yield Volumes(hypervisor)


@dataclass(frozen=True)
class Put:
    """A file's volume; `node`: the only one that has it, empty if all have; `uploaded`: it was not there before."""

    volume: str
    node: str
    uploaded: bool


class Volumes:
    def __init__(self, hypervisor: PveHypervisor) -> None:
        self._hypervisor = hypervisor

    def ensure(
        self, path: Path, storage: str, content: str, *, node: str = "", progress: Progress = no_progress
    ) -> str:
        """The volume ID of the file's content on the storage; uploaded if it is not there yet."""
        return self.put(path, content, storage=storage, node=node, progress=progress).volume

    def put(
        self, path: Path, content: str, *, storage: str = "", node: str = "", progress: Progress = no_progress
    ) -> "Put":
        """Like `ensure`, and tells more; without a storage, one is chosen that takes the content (`iso`, `import`)."""
        refuse_ending(path, content)
        name = content_name(path)
        places = self._find_places(content, storage, node)
        for place in places:
            volumes = self._hypervisor.client.list_volumes(place.node, place.storage, content)
            if found := next((v.volid for v in volumes if v.volid.endswith(f"/{name}")), None):
                return Put(found, _only_node(place), uploaded=False)
        best = places[0]
        volume = self._hypervisor.upload(
            best.node, best.storage, path, content=content, filename=name, progress=progress
        )
        return Put(volume, _only_node(best), uploaded=True)

    def _find_places(self, content: str, storage: str, node: str) -> list[StorageSeen]:
        """The best first: shared before local, then the most room; a shared storage is looked at from one node."""

        def fits(seen: StorageSeen) -> bool:
            wanted = seen.storage == storage if storage else content in seen.content
            return wanted and seen.available and node in ("", seen.node)

        fitting = [seen for seen in self._hypervisor.resources().storages if fits(seen)]
        if not fitting:
            what = f"the storage {storage!r}" if storage else f"a storage with content type `{content}`"
            raise NotFound(
                f"{node or 'no node'} has {'not ' * bool(node)}{what} active, or it may not be seen",
                hint=f"{command(Verb.DOCTOR)} lists the storages; the token needs Datastore.Audit on it",
            )
        fitting.sort(key=lambda seen: (seen.shared, seen.free), reverse=True)
        return list({(seen.storage, _only_node(seen)): seen for seen in reversed(fitting)}.values())[::-1]


def _only_node(place: StorageSeen) -> str:
    return "" if place.shared else place.node


def content_name(path: Path) -> str:
    """`nixos.iso` becomes `nixos-0123456789abcdef.iso`: the same content never travels twice."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # no file of this system can have such a name
        raise ConfigError(f"{str(path)!r} cannot be a file's name: {error}") from error
    return stored_name(f"{path.stem[:STEM]}-{digest[:16]}{path.suffix}")


def refuse_ending(path: Path, content: str) -> None:
    """PVE takes files by how their names end, and says so only when all of one has been sent."""
    endings = ENDINGS[content]
    if path.suffix.lower() not in endings:
        raise ConfigError(
            f"{path.name!r} does not end as the name of such a file does", hint=f"one of {', '.join(endings)} is needed"
        )
