"""Templates of containers that are files here: how they are called, and the one that all volumes are kept with."""

import threading
from collections.abc import Callable
from pathlib import Path

from nixops_proxmox.core.ports import NoteTask
from nixops_proxmox.errors import ConfigError, NotFound, TaskFailed
from nixops_proxmox.pve.api.answers import ClusterResources, StorageSeen
from nixops_proxmox.pve.cluster.media import Media
from nixops_proxmox.pve.vm.copies import is_stored
from nixops_proxmox.pve.wire.upload import sha256_of, stored_name, without_hash

CONTENT = "vztmpl"
ENDINGS = (".tar.xz", ".tar.gz", ".tar.zst")
STEM = 200  # characters of a file's name that are kept


def template_name(path: Path) -> str:
    """`nixos.tar.xz` becomes `nixos-0123456789abcdef.tar.xz`: the same content never travels twice. Reads the file."""
    ending = next((one for one in ENDINGS if path.name.lower().endswith(one)), "")
    if not is_template(path.name):
        raise ConfigError(
            f"{path.name!r} does not end as the name of a container template does",
            hint=f"one of {', '.join(ENDINGS)} is needed",
        )
    digest = sha256_of(path)
    path = Path(f"{without_hash(path.name.lower().removesuffix(ending))}.tar")
    return stored_name(f"{path.stem[:STEM]}-{digest[:16]}{ending}")


def is_template(name: str) -> bool:
    """By its name."""
    return name.lower().endswith(ENDINGS)


class Templates:
    """The templates of one cluster, for all threads: what two machines need is uploaded by one of them."""

    def __init__(self, media: Media, look: Callable[[], ClusterResources], wait: Callable[[str], None]) -> None:
        self._media, self._look, self._wait = media, look, wait
        self._lock = threading.Lock()
        self._busy: dict[tuple[str, str], threading.Lock] = {}
        self._names: dict[str, str] = {}

    def ensure(self, template: str, node: str, storage: str, note: NoteTask) -> str:
        """The volume ID. The name on the storage has the hash of the content, so nothing is sent twice. `storage`:
        empty: a shared one, or the node's own with the most room."""
        if is_stored(template):
            return template
        path = Path(template).expanduser()
        name, place = self._name_of(path), self._place(node, storage)
        volume = f"{place.storage}:{CONTENT}/{name}"
        with self._lock:
            busy = self._busy.setdefault((place.only_node, volume), threading.Lock())
        with busy:
            self._settle(place.node, volume)
            # Safe to repeat: PVE replaces what has this name, and only our content can have it.
            if self._media.sizes(place.node, place.storage, CONTENT).get(volume) != path.stat().st_size:
                self._media.upload(place.node, place.storage, path, note, content=CONTENT, filename=name)
        return volume

    def _name_of(self, path: Path) -> str:
        """It reads the whole file: once for each."""
        if str(path) not in self._names:
            self._names[str(path)] = template_name(path)
        return self._names[str(path)]

    def _place(self, node: str, storage: str) -> StorageSeen:
        def fits(seen: StorageSeen) -> bool:
            wanted = seen.storage == storage if storage else CONTENT in seen.content
            return wanted and seen.available and seen.node == node

        fitting = [seen for seen in self._look().storages if fits(seen)]
        if not fitting:
            raise NotFound(
                f"{node} has no storage{f' {storage}' if storage else ''} for container templates that we may see",
                hint="enable the content type `vztmpl` on one (`pvesm set STORAGE --content vztmpl,…`), and grant"
                " Datastore.AllocateTemplate and Datastore.Audit on it",
            )
        return max(fitting, key=lambda seen: (seen.shared, seen.free))

    def _settle(self, node: str, volume: str) -> None:
        """Another run may be writing it now. What came of that, the look after it tells."""
        for upid in self._media.find_tasks(node, volume):
            try:
                self._wait(upid)
            except (TaskFailed, NotFound):
                continue
