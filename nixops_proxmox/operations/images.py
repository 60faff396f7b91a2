"""Images of disks that are files here: built, looked at, put on a storage once, and deleted when nothing needs them."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nixops_proxmox.core.engine import pursue
from nixops_proxmox.core.graph import Ref
from nixops_proxmox.core.kind import Presence, Thing
from nixops_proxmox.core.ports import Clock, OnBytes, Reporter
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.kinds import medium as kind
from nixops_proxmox.kinds.medium import Medium, World
from nixops_proxmox.kinds.medium.image import Image, open_image
from nixops_proxmox.model import Machine
from nixops_proxmox.operations.holding import hold_thing
from nixops_proxmox.operations.recorded import recorded_thing
from nixops_proxmox.operations.uploads import ours
from nixops_proxmox.operations.volumes import MediaCluster, find_places
from nixops_proxmox.options import Silent
from nixops_proxmox.paths import cache_dir, expanded
from nixops_proxmox.pve.vm.copies import refuse_larger_image
from nixops_proxmox.pve.wire.properties import MIB
from nixops_proxmox.spec import InstallSource, MachineSpec, NetworkSpec
from nixops_proxmox.spec.images import is_file_here
from nixops_proxmox.spec.storage import STORAGE
from nixops_proxmox.state.record import DeploymentRecord

CONTENT = "import"
FOR_MACHINES = "machines"  # why a file was put on a storage: a machine is made of it
TENTHS = 10  # so many lines of progress are told of one upload


def has_file(spec: MachineSpec) -> bool:
    return spec.install.source is InstallSource.IMAGE and is_file_here(spec.install.image)


@dataclass(frozen=True)
class Unused:
    """An image that a deploy put on a storage, and that no described machine is made of. `name`: what the record calls
    it."""

    name: str
    profile: str
    medium: Medium

    @property
    def told(self) -> str:
        where = f" on {self.medium.only_node}" if self.medium.only_node else ""
        return f"{self.medium.volume}{where}"


class DiskImages:
    """Satisfies `kinds.machine.ports.Images`, for all machines of a run."""

    def __init__(
        self,
        record: DeploymentRecord,
        network: NetworkSpec | None,
        cluster: Callable[[str], MediaCluster],
        build: Callable[[str], None],
        base: Path,
        clock: Clock,
        reporter: Reporter[Machine],
        lease: Any = None,
    ) -> None:
        """`build`: has Nix build a machine's image, if it does. `base`: what relative paths are relative to."""
        self._record, self._network, self._cluster, self._build = record, network, cluster, build
        self._base, self._clock, self._reporter, self._lease = base, clock, reporter, lease
        self._lock = threading.RLock()  # two machines of one image: the second finds it there
        self._images: dict[str, Image] = {}

    # What the steps of machines ask.

    def check(self, spec: MachineSpec) -> None:
        """Built, whole, and no larger than the disk; and its storage takes images, or is going to."""
        if has_file(spec):
            refuse_larger_image(spec, [self._open(spec).capacity])
            self._refuse_storage(spec)

    def put(self, machine: Machine, spec: MachineSpec) -> MachineSpec:
        if not has_file(spec):
            return spec
        with self._lock:
            medium = self._choose(spec, machine.facts.node)
            self._pursue(medium, machine, spec.profile)
        return spec.model_copy(update={"install": spec.install.model_copy(update={"image": medium.volume})})

    def foresee(self, spec: MachineSpec, node: str) -> Sequence[str]:
        """What is sent before a machine is made on that node, a line."""
        if not has_file(spec) or not node:
            return ()
        medium = self._choose(spec, node)
        there = self._size_of(spec.profile, medium) == medium.size
        where = f"{medium.storage} on {node}" if medium.only_node else medium.storage
        told = f"the image {medium.name} ({-(-medium.size // MIB)} MiB)"
        return (f"{told} is on {where} already" if there else f"upload {told} to {where}",)

    # What nothing needs any more.

    def put_by_us(self) -> list[Unused]:
        """All that deploys put on storages."""
        return [one for stored in self._record.stored(kind.NAME) for one in self._ours(stored.name)]

    def unused(self) -> list[Unused]:
        """Those that nothing described is made of. Empty if a described image cannot be read: it may be one of them."""
        found = self.put_by_us()
        try:
            needed = {self._open(spec).name for spec in self._described()} if found else set()
        except ConfigError:
            return []
        return [one for one in found if one.medium.name not in needed]

    def remove(self, one: Unused) -> None:
        """StateError for one that a VM has inserted."""
        with hold_thing(self._record, Ref(kind.NAME, one.name), self._lease, self._clock) as lease:
            thing = ours(self._recorded(one.name), one.medium)
            pursue(
                kind.LIFECYCLE,
                Presence.ABSENT,
                thing,
                self._world(one.medium, one.profile),
                self._record.journal(lease),
            )
            self._record.forget(one.name, lease, kind=kind.NAME)

    def _described(self) -> Iterator[MachineSpec]:
        yield from (spec for spec in (() if self._network is None else self._network.machines) if has_file(spec))

    def _ours(self, name: str) -> Iterator[Unused]:
        values = self._recorded(name).facts.values
        if values.get("purpose") != FOR_MACHINES:
            return
        volume, profile, only = values["volume"], values["profile"], values["node"]
        storage, file = volume.partition(":")[0], volume.rpartition("/")[2]
        node = only or find_places(self._cluster(profile), CONTENT, storage, "")[0].node
        medium = Medium(Path(file), file, int(values["size"]), CONTENT, storage, node, shared=not only)
        yield Unused(name, profile, medium)

    # How.

    def _recorded(self, name: str) -> Thing:
        stored = next((one for one in self._record.stored(kind.NAME) if one.name == name), None)
        return recorded_thing(self._record.name, kind.NAME, name, stored)

    def _open(self, spec: MachineSpec) -> Image:
        """It reads the whole file: once for each."""
        said = spec.install.image or ""
        with self._lock:
            self._build(spec.name)
            if said not in self._images:
                try:
                    self._images[said] = open_image(self._base / expanded(said), cache_dir() / "images")
                except ConfigError as error:
                    path = f"{spec.name}.deployment.proxmox.install.image"
                    raise ConfigError(f"{path}: {error.message}", hint=error.hint) from error
            return self._images[said]

    def _refuse_storage(self, spec: MachineSpec) -> None:
        """ConfigError if the named storage does not take images, and nothing that is described switches that on."""
        named = spec.install.image_storage
        resources = () if self._network is None else self._network.resources
        if named is None or any(one.kind == STORAGE and one.is_wanted_by(spec) for one in resources):
            return
        seen = [one for one in self._cluster(spec.profile).resources().storages if one.storage == named]
        if seen and not any(CONTENT in one.content for one in seen):
            raise ConfigError(
                f"{spec.name}.deployment.proxmox.install.imageStorage: the storage {named} does not take images",
                hint=f'resources.storages.{named}.content = [ "{CONTENT}" ]; switches that on',
            )

    def _choose(self, spec: MachineSpec, node: str) -> Medium:
        """The place that has it already; else the one where an upload was cut off; else the best."""
        image, hypervisor = self._open(spec), self._cluster(spec.profile)
        places = find_places(hypervisor, CONTENT, spec.install.image_storage or "", node)
        media = [
            Medium(
                image.path, image.name, image.size, CONTENT, place.storage, place.node, place.shared,
                {"purpose": FOR_MACHINES, "profile": spec.profile},
            )
            for place in places
        ]  # fmt: skip
        sizes = [self._size_of(spec.profile, medium) for medium in media]
        rank = [0 if size == image.size else 1 if size is not None else 2 for size in sizes]
        return media[rank.index(min(rank))]

    def _size_of(self, profile: str, medium: Medium) -> int | None:
        sizes = self._cluster(profile).media.sizes(medium.node, medium.storage, CONTENT)
        return sizes.get(medium.volume)

    def _pursue(self, medium: Medium, machine: Machine, profile: str) -> None:
        world, name = self._world(medium, profile, self._progress(machine, medium)), medium.thing_name(profile)
        with hold_thing(self._record, Ref(kind.NAME, name), self._lease, self._clock) as lease:
            thing = self._recorded(name)
            pursue(kind.LIFECYCLE, Presence.PRESENT, thing, world, self._record.journal(lease))

    def _world(self, medium: Medium, profile: str, progress: OnBytes = lambda _done, _total: None) -> World:
        hypervisor = self._cluster(profile)
        return World(medium, hypervisor.media, hypervisor.wait_for_task, self._clock, Silent(), progress)

    def _progress(self, machine: Machine, medium: Medium) -> OnBytes:
        told = -1

        def progress(done: int, total: int) -> None:
            nonlocal told
            if (tenth := done * TENTHS // max(total, 1)) > told:
                told = tenth
                where = f"{medium.storage} on {medium.node}"
                self._reporter.detail(machine, f"uploading {medium.name} to {where}: {done * 100 // max(total, 1)} %")

        return progress
