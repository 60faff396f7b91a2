"""Images of disks and templates of containers that are files here: built, looked at, put on a storage once, and deleted
when nothing needs them."""

import hashlib
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
from nixops_proxmox.kinds.medium.image import Image, open_image, open_template
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
from nixops_proxmox.spec.resource import ResourceSpec, place_of
from nixops_proxmox.spec.storage import StorageSpec
from nixops_proxmox.spec.template import TemplateSpec
from nixops_proxmox.state.record import DeploymentRecord

IMAGES, TEMPLATES = "import", "vztmpl"  # PVE's content types
WORDS = {IMAGES: "image", TEMPLATES: "template"}
FOR_MACHINES = "machines"  # why a file was put on a storage: a machine, or a template, is made of it
TENTHS = 10  # so many lines of progress are told of one upload


@dataclass(frozen=True)
class Source:
    """An image, or a container's template, that is named. `owner`: the machine, or the template's place in the network,
    that is made of it."""

    owner: str
    option: str  # the path of the option that names it
    image: str
    storage: str | None
    storage_option: str
    profile: str
    content: str = IMAGES

    @property
    def is_file(self) -> bool:
        return is_file_here(self.image)

    @property
    def word(self) -> str:
        return WORDS[self.content]


def source_of(spec: MachineSpec) -> Source:
    if spec.container is not None:
        place, inside = f"{spec.name}.deployment.proxmox.container", spec.container
        named, storage = f"{place}.template", f"{place}.storage"
        return Source(spec.name, named, inside.template, inside.storage, storage, spec.profile, TEMPLATES)
    image = spec.install.image if spec.install.source is InstallSource.IMAGE else None
    option = f"{spec.name}.deployment.proxmox.install"
    # A volume has no file: what is no image at all counts as one.
    return _image(spec.name, option, image or "none:none", spec.install.image_storage, spec.profile)


def source_of_template(spec: TemplateSpec) -> Source:
    return _image(place_of(spec), place_of(spec), spec.image, spec.image_storage, spec.profile)


def _image(owner: str, place: str, image: str, storage: str | None, profile: str) -> Source:
    return Source(owner, f"{place}.image", image, storage, f"{place}.imageStorage", profile)


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
    """Satisfies `kinds.machine.ports.Images` and `kinds.template.ports.Sources`, for all of a run."""

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
        template_on: Callable[[MachineSpec, str], int] | None = None,
    ) -> None:
        """`build`: has Nix build an image, if it does. `base`: what relative paths are relative to. `template_on`: the
        VMID of a machine's described template on a node, where it is made if it is not there."""
        self._record, self._network, self._cluster, self._build = record, network, cluster, build
        self._base, self._clock, self._reporter, self._lease = base, clock, reporter, lease
        self._template_on = template_on
        self._lock = threading.RLock()  # two machines of one image: the second finds it there
        self._images: dict[str, Image] = {}

    # What the steps of machines ask.

    def check(self, spec: MachineSpec) -> None:
        """Built, whole, and no larger than the disk; and its storage takes images, or is going to."""
        template = self._template_of(spec)
        source = source_of(spec) if template is None else source_of_template(template)
        if source.is_file:
            capacity = self._open(source).capacity
            if source.content == IMAGES:
                refuse_larger_image(spec, [capacity])
            self._refuse_storage(source)

    def put(self, machine: Machine, spec: MachineSpec) -> MachineSpec:
        if spec.container is not None:
            if not source_of(spec).is_file:
                return spec
            volume = self._put(source_of(spec), machine.facts.node, machine)
            return spec.model_copy(update={"container": spec.container.model_copy(update={"template": volume})})
        if spec.install.described and self._template_on is not None:
            vmid = self._template_on(spec, machine.facts.node)
            changed = {"template": str(vmid), "described": False}
        elif source_of(spec).is_file:
            changed = {"image": self._put(source_of(spec), machine.facts.node, machine)}
        else:
            return spec
        return spec.model_copy(update={"install": spec.install.model_copy(update=changed)})

    def foresee(self, spec: MachineSpec, node: str) -> Sequence[str]:
        """What is sent before a machine is made on that node, a line."""
        source = source_of(spec)
        if not source.is_file or not node:
            return ()
        medium = self._choose(source, node)
        there = self._size_of(spec.profile, medium) == medium.size
        where = f"{medium.storage} on {node}" if medium.only_node else medium.storage
        told = f"the {source.word} {medium.name} ({-(-medium.size // MIB)} MiB)"
        return (f"{told} is on {where} already" if there else f"upload {told} to {where}",)

    # What templates ask.

    def digest_of_template(self, spec: TemplateSpec) -> str:
        """16 hex digits that follow from the image's content, or from a volume's name, and from the hardware."""
        source = source_of_template(spec)
        content = self._open(source).name if source.is_file else spec.image
        return hashlib.sha256(f"{content} {spec.hardware}".encode()).hexdigest()[:16]

    def put_for_template(self, spec: TemplateSpec, node: str) -> str:
        source = source_of_template(spec)
        return self._put(source, node, Machine(self._record.name, source.owner)) if source.is_file else spec.image

    def _template_of(self, spec: MachineSpec) -> TemplateSpec | None:
        templates = (one for one in self._resources() if isinstance(one, TemplateSpec))
        return next((one for one in templates if spec.install.described and one.is_wanted_by(spec)), None)

    def _resources(self) -> Sequence[ResourceSpec]:
        return () if self._network is None else self._network.resources

    # What nothing needs any more.

    def put_by_us(self) -> list[Unused]:
        """All that deploys put on storages."""
        return [one for stored in self._record.stored(kind.NAME) for one in self._ours(stored.name)]

    def unused(self) -> list[Unused]:
        """Those that nothing described is made of. Empty if a described image cannot be read: it may be one of them."""
        found = self.put_by_us()
        try:
            needed = {self._open(source).name for source in self._described()} if found else set()
        except ConfigError:
            return []
        return [one for one in found if one.medium.name not in needed]

    def remove(self, one: Unused) -> None:
        """StateError for one that a VM has inserted."""
        with hold_thing(self._record, Ref(kind.NAME, one.name), self._lease, self._clock) as lease:
            thing, world = ours(self._recorded(one.name), one.medium), self._world(one.medium, one.profile)
            pursue(kind.LIFECYCLE, Presence.ABSENT, thing, world, self._record.journal(lease))
            self._record.forget(one.name, lease, kind=kind.NAME)

    def _described(self) -> Iterator[Source]:
        machines = () if self._network is None else self._network.machines
        sources = [source_of(spec) for spec in machines]
        sources += [source_of_template(one) for one in self._resources() if isinstance(one, TemplateSpec)]
        yield from (one for one in sources if one.is_file)

    def _ours(self, name: str) -> Iterator[Unused]:
        values = self._recorded(name).facts.values
        if values.get("purpose") != FOR_MACHINES:
            return
        volume, profile, only = values["volume"], values["profile"], values["node"]
        storage, _, path = volume.partition(":")
        content, _, file = path.partition("/")
        node = only or find_places(self._cluster(profile), content, storage, "")[0].node
        medium = Medium(Path(file), file, int(values["size"]), content, storage, node, shared=not only)
        yield Unused(name, profile, medium)

    # How.

    def _recorded(self, name: str) -> Thing:
        stored = next((one for one in self._record.stored(kind.NAME) if one.name == name), None)
        return recorded_thing(self._record.name, kind.NAME, name, stored)

    def _open(self, source: Source) -> Image:
        """It reads the whole file: once for each."""
        with self._lock:
            self._build(source.owner)
            if source.image not in self._images:
                try:
                    opened = self._look_at(source)
                except ConfigError as error:
                    raise ConfigError(f"{source.option}: {error.message}", hint=error.hint) from error
                self._images[source.image] = opened
            return self._images[source.image]

    def _look_at(self, source: Source) -> Image:
        place = self._base / expanded(source.image)
        return open_template(place) if source.content == TEMPLATES else open_image(place, cache_dir() / "images")

    def _refuse_storage(self, source: Source) -> None:
        """ConfigError if the named storage does not take such files, and nothing that is described switches that on."""
        named, profile, content = source.storage, source.profile, source.content
        described = (one for one in self._resources() if isinstance(one, StorageSpec) and content in one.content)
        if named is None or any((one.storage_id, one.profile) == (named, profile) for one in described):
            return
        seen = [one for one in self._cluster(profile).resources().storages if one.storage == named]
        if seen and not any(content in one.content for one in seen):
            raise ConfigError(
                f"{source.storage_option}: the storage {named} does not take {source.word}s",
                hint=f'resources.storages.{named}.content = [ "{content}" ]; switches that on',
            )

    def _put(self, source: Source, node: str, machine: Machine) -> str:
        """The volume of the image on the node, where it is once."""
        with self._lock:
            medium = self._choose(source, node)
            self._pursue(medium, machine, source.profile)
        return medium.volume

    def _choose(self, source: Source, node: str) -> Medium:
        """The place that has it already; else the one where an upload was cut off; else the best."""
        image, hypervisor = self._open(source), self._cluster(source.profile)
        places = find_places(hypervisor, source.content, source.storage or "", node)
        about = {"purpose": FOR_MACHINES, "profile": source.profile}
        media = [
            Medium(image.path, image.name, image.size, source.content, place.storage, place.node, place.shared, about)
            for place in places
        ]
        sizes = [self._size_of(source.profile, medium) for medium in media]
        rank = [0 if size == image.size else 1 if size is not None else 2 for size in sizes]
        return media[rank.index(min(rank))]

    def _size_of(self, profile: str, medium: Medium) -> int | None:
        sizes = self._cluster(profile).media.sizes(medium.node, medium.storage, medium.content)
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
