"""Storages and the volumes on them: names, sizes and who owns what. The bytes are the driver's."""

import asyncio
import hashlib
import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nixops_proxmox.lab.clock import Clock, within
from nixops_proxmox.lab.config import UNITS
from nixops_proxmox.lab.exports import Exports, notes_of
from nixops_proxmox.lab.machines.base import Driver, Volume
from nixops_proxmox.lab.refusals import Refused, die

MIB = 1024**2
FILE_CONTENT = {
    "iso": "template/iso",
    "vztmpl": "template/cache",
    "backup": "dump",
    "snippets": "snippets",
    "import": "import",
}
LARGEST_FILE = 16 * UNITS["T"]  # ext4
GRAIN = 4 * MIB  # LVM's extents


@dataclass
class Storage:
    """`kind` is PVE's plugin type. `path` is what PVE would say; the lab keeps the files in a folder of its own."""

    name: str
    kind: str
    content: tuple[str, ...]
    shared: bool = False
    path: str = ""
    total: int = 200 * UNITS["G"]
    disabled: bool = False
    nodes: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)  # what storage.cfg says beside, kept and shown
    busy: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False, compare=False)

    @property
    def on_files(self) -> bool:
        return bool(self.path)

    @property
    def is_thick(self) -> bool:
        """LVM allots a volume's whole size, and ZFS reserves it unless told `sparse`."""
        return self.kind == "lvm" or (self.kind == "zfspool" and str(self.settings.get("sparse", 0)) != "1")

    def formats(self) -> tuple[str, ...]:
        return ("raw", "qcow2", "vmdk") if self.on_files else ("raw",)


@dataclass
class Stored:
    """A volume on a storage. `node` is "" on shared storages; `shown` is the path that PVE would print."""

    volid: str
    storage: str
    node: str
    path: Path
    shown: str
    size: int
    format: str
    content: str
    vmid: int = 0
    ctime: int = 0
    parent: str = ""
    notes: str = ""
    protected: bool = False
    template: bool = False
    snapshots: tuple[str, ...] = ()
    written: bool = False  # of an archive: it is complete
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def volume(self) -> Volume:
        return Volume(self.volid, self.path, self.size, self.format)


def default_storages() -> list[Storage]:
    return [
        Storage(
            "local",
            "dir",
            ("iso", "vztmpl", "backup", "snippets", "import"),
            path="/var/lib/vz",
            total=100 * UNITS["G"],
        ),
        Storage("local-lvm", "lvmthin", ("images", "rootdir"), total=400 * UNITS["G"]),
        Storage(
            "shared", "nfs", ("images", "iso", "backup"), shared=True, path="/mnt/pve/shared", total=1000 * UNITS["G"]
        ),
    ]


class Stores:
    """All storages of the cluster."""

    def __init__(
        self,
        directory: Path,
        driver: Driver,
        clock: Clock,
        storages: Iterable[Storage],
        nodes: Iterable[str],
        exports: Path | None = None,
    ) -> None:
        """`exports`: what file servers have, which several clusters may use."""
        self._exports = Exports(exports)
        self._directory = directory
        self._driver = driver
        self._clock = clock
        self.lock_wait = 10.0
        self._busy: dict[tuple[str, str], asyncio.Lock] = {}  # of storages that are not shared, by node
        self.nodes = tuple(nodes)
        self.storages = {storage.name: storage for storage in storages}
        self.volumes: dict[tuple[str, str], Stored] = {}

    # Finding.

    def get(self, name: str) -> Storage:
        if name not in self.storages:
            die(f"storage '{name}' does not exist")
        return self.storages[name]

    def get_usable(self, name: str, node: str) -> Storage:
        storage = self.get(name)
        if storage.disabled:
            die(f"storage '{name}' is disabled")
        if not self.is_on(storage, node):
            die(f"storage '{name}' is not available on node '{node}'")
        return storage

    def is_on(self, storage: Storage, node: str) -> bool:
        return not storage.nodes or node in storage.nodes

    def find(self, volid: str, node: str) -> Stored | None:
        storage = self.storages.get(volid.partition(":")[0])
        if storage is not None:
            self._look_at_server(storage)
        return self.volumes.get(("", volid)) or self.volumes.get((node, volid))

    def get_volume(self, volid: str, node: str) -> Stored:
        stored = self.find(volid, node)
        if stored is None:
            die(f"volume '{volid}' does not exist")
        return stored

    def _look_at_server(self, storage: Storage) -> None:
        """Archives that another cluster has put on the same file server, or has deleted there."""
        shown = self._exports.archives(storage)
        if shown is None:
            return
        known = [one for one in self.volumes.values() if one.storage == storage.name and one.content == "backup"]
        for gone in [one for one in known if one.written and one.path.name not in shown]:
            self.forget(gone)
        names = {one.path.name for one in known}
        for name in shown - names:
            told = self._exports.describe(storage, name)
            stored = self.record(
                storage, "", f"backup/{name}", size=told.size, format=told.format, content="backup", vmid=told.vmid
            )
            stored.ctime, stored.notes, stored.written = told.created, told.notes, True

    def on(self, storage: str, node: str) -> list[Stored]:
        self._look_at_server(self.storages[storage])
        mine = [
            stored for (where, _), stored in self.volumes.items() if stored.storage == storage and where in ("", node)
        ]
        return sorted(mine, key=lambda stored: stored.volid)

    def owned_by(self, vmid: int, node: str) -> list[Stored]:
        return [
            stored
            for (where, _), stored in self.volumes.items()
            if stored.vmid == vmid and where in ("", node) and stored.content == "images"
        ]

    def used(self, storage: Storage, node: str) -> int:
        """Bytes taken: of thin volumes those that their file takes, of others the whole size."""
        volumes = self.on(storage.name, node)
        return 4 * MIB + sum(stored.size if storage.is_thick else written(stored) for stored in volumes)

    # Names.

    def split(self, volid: str) -> tuple[str, str]:
        storage, colon, name = volid.partition(":")
        if not colon or not storage or not name:
            die(f"unable to parse volume ID '{volid}'")
        return storage, name

    def check_name(self, storage: Storage, name: str) -> str:
        """The content type that a volume name means; dies as the storage's plugin does."""
        if not storage.on_files:
            if re.fullmatch(r"(vm|base)-\d+-\S+", name):
                return "images"
            die(f"unable to parse lvm volume name '{name}'")
        patterns = (
            (r"(\d+/base-\d+-\S+/)?\d+/[^/\s]+\.(raw|qcow2|vmdk)", "images"),
            (r"iso/[^/]+\.(iso|img)", "iso"),
            (r"vztmpl/[^/]+", "vztmpl"),
            (r"backup/[^/]+", "backup"),
            (r"snippets/[^/]+", "snippets"),
            (r"import/[^/]+", "import"),
        )
        found = next((content for pattern, content in patterns if re.fullmatch(pattern, name, re.IGNORECASE)), None)
        return found or die(f"unable to parse directory volume name '{name}'")

    def free_name(
        self, storage: Storage, node: str, vmid: int, format: str, *, prefix: str = "vm", stem: str = ""
    ) -> str:
        """The lowest free vm-<id>-disk-<n> on that storage, or vm-<id>-<stem>."""
        where = ("", node)
        mine = [one.volid for one in self.volumes.values() if f"-{vmid}-" in one.volid and one.node in where]
        here = [volid for volid in mine if volid.startswith(f"{storage.name}:")]
        taken = {re.sub(r"\.\w+$", "", volid.rpartition("/")[2].rpartition(":")[2]) for volid in here}
        number = next(n for n in range(len(taken) + 1) if not {f"vm-{vmid}-disk-{n}", f"base-{vmid}-disk-{n}"} & taken)
        name = f"{prefix}-{vmid}-{stem or f'disk-{number}'}"
        return f"{vmid}/{name}.{format}" if storage.on_files else name

    def place(self, storage: Storage, node: str, name: str) -> tuple[Path, str]:
        """Where the lab keeps it, and where PVE would."""
        folder = self._directory / "storage" / ("shared" if storage.shared else node) / storage.name
        if not storage.on_files:
            return folder / name, f"/dev/pve/{name}"
        kind, _, file = name.partition("/")
        if kind == "backup" and (server := self._exports.folder(storage)) is not None:
            folder = server
        tail = f"{FILE_CONTENT[kind]}/{file}" if kind in FILE_CONTENT else f"images/{'/'.join(name.split('/')[-2:])}"
        return folder / tail, f"{storage.path}/{tail}"

    # Changing.

    @asynccontextmanager
    async def locked(self, storage: Storage, node: str) -> AsyncIterator[None]:
        """Allocations on one storage go one after the other; on each node for itself, if it is not shared. Who waits
        too long gives up."""
        lock = storage.busy if storage.shared else self._busy.setdefault((storage.name, node), asyncio.Lock())
        try:
            if lock is not storage.busy and storage.busy.locked():
                await within(self._clock, self.lock_wait, storage.busy.acquire())
                storage.busy.release()
            await within(self._clock, self.lock_wait, lock.acquire())
        except TimeoutError:
            die(
                f"cfs-lock 'storage-{storage.name}' error: got lock request timeout"
                if storage.shared
                else f"can't lock file '/var/lock/pve-manager/pve-storage-{storage.name}' - got timeout"
            )
        try:
            yield
        finally:
            lock.release()

    def record(
        self, storage: Storage, node: str, name: str, *, size: int, format: str, content: str, vmid: int = 0
    ) -> Stored:
        """Write a volume down without touching its bytes."""
        where = "" if storage.shared else node
        path, shown = self.place(storage, node, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        volid = f"{storage.name}:{name}"
        stored = Stored(volid, storage.name, where, path, shown, size, format, content, vmid, int(self._clock.time()))
        self.volumes[where, stored.volid] = stored
        return stored

    async def allocate(
        self,
        storage: Storage,
        node: str,
        vmid: int,
        size: int,
        format: str,
        *,
        name: str = "",
        stem: str = "",
        prefix: str = "vm",
        announce: Callable[[Stored], None] = lambda _stored: None,
    ) -> Stored:
        """`announce` is told before the bytes are made, as qemu-img does."""
        async with self.locked(storage, node):
            if not storage.on_files:
                size = -(-size // GRAIN) * GRAIN
            name = name or self.free_name(storage, node, vmid, format, stem=stem, prefix=prefix)
            _, shown = self.place(storage, node, name)
            if self.find(f"{storage.name}:{name}", node):
                die(f"disk image '{shown}' already exists")
            stored = self.record(storage, node, name, size=size, format=format, content="images", vmid=vmid)
            try:
                announce(stored)
                if storage.on_files and size > LARGEST_FILE:
                    wrong = f"The image size is too large for file format '{format}'"
                    die(f"unable to create image: qemu-img: {shown}: {wrong}")
                await self._driver.allocate(stored.volume)
            except BaseException:
                self.forget(stored)
                raise
            return stored

    def forget(self, stored: Stored) -> None:
        self.volumes.pop((stored.node, stored.volid), None)

    async def free(self, stored: Stored) -> None:
        """Drop a volume and its bytes."""
        self.forget(stored)
        if stored.content == "images":
            await self._driver.free(stored.volume)
        else:
            stored.path.unlink(missing_ok=True)
            notes_of(stored.path).unlink(missing_ok=True)
            shutil.rmtree(stored.path.with_name(f"{stored.path.name}.disks"), ignore_errors=True)

    def clones_of(self, stored: Stored) -> list[Stored]:
        return [other for other in self.volumes.values() if other.parent == stored.volid]

    def check_unused_base(self, stored: Stored) -> None:
        if self.clones_of(stored):
            die(f"base volume '{stored.volid}' is still in use by linked cloned")

    async def resize(self, stored: Stored, size: int) -> Stored:
        await self._driver.resize(stored.volume, size)
        return self._replace(stored, size=size)

    def _replace(self, stored: Stored, **changes: Any) -> Stored:
        self.forget(stored)
        new = replace(stored, **changes)
        self.volumes[new.node, new.volid] = new
        return new

    def make_base(self, stored: Stored) -> Stored:
        """A template's volume gets another name."""
        storage = self.storages[stored.storage]
        name = stored.volid.partition(":")[2]
        head, slash, last = name.rpartition("/")
        new_name = f"{head}{slash}{re.sub(r'^vm-', 'base-', last)}"
        path, shown = self.place(storage, stored.node or self.nodes[0], new_name)
        if stored.path.exists():
            stored.path.rename(path)
        return self._replace(stored, volid=f"{stored.storage}:{new_name}", path=path, shown=shown, template=True)

    def rename_owner(self, stored: Stored, node: str, vmid: int, name: str) -> Stored:
        storage = self.storages[stored.storage]
        path, shown = self.place(storage, node, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if stored.path.exists():
            stored.path.rename(path)
        return self._replace(
            stored,
            volid=f"{stored.storage}:{name}",
            path=path,
            shown=shown,
            vmid=vmid,
            node="" if storage.shared else node,
        )

    async def take_snapshot(self, stored: Stored, name: str) -> None:
        await self._driver.snapshot(stored.volume, name)
        stored.snapshots = (*stored.snapshots, name)

    async def rollback(self, stored: Stored, name: str) -> None:
        await self._driver.rollback(stored.volume, name)

    async def drop_snapshot(self, stored: Stored, name: str) -> None:
        await self._driver.drop_snapshot(stored.volume, name)
        stored.snapshots = tuple(other for other in stored.snapshots if other != name)

    def can_snapshot(self, stored: Stored) -> bool:
        return not self.storages[stored.storage].on_files or stored.format == "qcow2"

    def can_link(self, stored: Stored) -> bool:
        return stored.template and self.can_snapshot(stored)


def written(stored: Stored) -> int:
    try:
        return stored.path.stat().st_blocks * 512
    except OSError:
        return 0


def check_file_name(content: str, name: str) -> None:
    """Extensions that PVE takes for a content type."""
    allowed = {"iso": r"\.(iso|img)$", "vztmpl": r"\.tar\.(gz|xz|zst|bz2)$", "import": r"\.(ova|ovf|qcow2|raw|vmdk)$"}[
        content
    ]
    if not re.search(allowed, name, re.IGNORECASE):
        raise Refused(400, "Parameter verification failed.", {"filename": "wrong file extension"})


def normalise_file_name(name: str) -> str:
    """PVE cuts the folder off and replaces what it does not like, byte by byte."""
    base = re.split(r"[/\\]", name)[-1]
    return re.sub(r"[^-a-zA-Z0-9_.]", "_", base)


def config_digest(storages: Iterable[Storage]) -> str:
    text = "\n".join(
        f"{storage.kind}: {storage.name} {','.join(sorted(storage.content))} {storage.nodes} {storage.disabled} "
        f"{sorted(storage.settings.items())}"
        for storage in storages
    )
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
