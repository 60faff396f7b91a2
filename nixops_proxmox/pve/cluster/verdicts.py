"""Pure: for each node, does a machine fit there, why not, and what speaks for it?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from nixops_proxmox.pve.api.answers import ClusterResources, NodeSeen, StorageSeen
from nixops_proxmox.pve.cluster.groups import Conflict, find_conflicts
from nixops_proxmox.pve.cluster.placement import Placed, cpus_of, find_storage, memory_of, space_key, space_wanted
from nixops_proxmox.pve.vm.copies import medium_of
from nixops_proxmox.pve.wire.properties import GIB, storage_of
from nixops_proxmox.spec import InstallSource, MachineSpec
from nixops_proxmox.spec.images import is_file_here

MEMORY, STORAGE, CPU = 4, 2, 1  # how much each counts


@dataclass(frozen=True)
class Weights:
    """What speaks for a node: what is left there with the machine on it, from 0 to 1. None: we may not see it."""

    memory: float | None = None  # of the memory of the largest node
    storage: float | None = None  # of the storage that has least left
    cpu: float | None = None  # of the processors of the largest node, as they are idle

    @property
    def score(self) -> float:
        return MEMORY * (self.memory or 0) + STORAGE * (self.storage or 0) + CPU * (self.cpu or 0)


@dataclass(frozen=True)
class Verdict:
    """One node. `reasons`: why it does not fit, all of them. `notes`: what speaks against it though it fits.
    `memory_free`, `memory`: bytes."""

    node: str
    fits: bool
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    weights: Weights = Weights()
    chosen: bool = False
    memory_free: int | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Explanation:
    """A table for one machine: each node, the best first. `node`: where the machine is, or would be made. Empty:
    nowhere."""

    name: str
    node: str = ""
    nodes: tuple[Verdict, ...] = field(default=())


def candidates(
    spec: MachineSpec, seen: ClusterResources, placed: Placed, *, reserve: int = 0
) -> tuple[tuple[NodeSeen, ...], dict[str, str]]:
    """(nodes that fit, best first; why the others do not). `reserve`: bytes to leave free on each node."""
    judged = judge(spec, seen, placed, reserve=reserve)
    refused = {one.node: " and ".join(one.reasons) for one in judged if not one.fits and is_asked_for(spec, one.node)}
    by_name = {node.name: node for node in seen.nodes}
    for name in missing_nodes(spec, seen):
        known = ", ".join(sorted(by_name)) or "none that we may see"
        refused[name] = f"there is no such node (the cluster has: {known})"
    return tuple(by_name[one.node] for one in judged if one.fits), refused


def is_asked_for(spec: MachineSpec, node: str) -> bool:
    """May the machine be there, by its description?"""
    return node == spec.node if spec.node is not None else not spec.placement.nodes or node in spec.placement.nodes


def missing_nodes(spec: MachineSpec, seen: ClusterResources) -> list[str]:
    """Nodes that the description names and that are not there."""
    named = (spec.node,) if spec.node is not None else spec.placement.nodes
    there = {node.name for node in seen.nodes}
    return [name for name in named if name not in there]


def judge(
    spec: MachineSpec, seen: ClusterResources, placed: Placed, *, reserve: int = 0, at: str = ""
) -> tuple[Verdict, ...]:
    """Every node, those that fit first, the best of them first of all. `at`: where the machine is already, and needs
    no more room."""
    largest = max((node.memory or 0 for node in seen.nodes), default=0)
    cores = max((node.cpus or 0 for node in seen.nodes), default=0)
    found = []
    for node in seen.nodes:
        conflicts = tuple(find_conflicts(spec, node.name, placed.peers))
        reasons = tuple(_reasons(spec, node, seen, placed, reserve, conflicts, is_there=node.name == at))
        notes = tuple(_notes(spec, node, conflicts)) if not reasons else ()
        weights = _weights(spec, node, seen, placed, largest, cores)
        found.append(
            Verdict(node.name, not reasons, reasons, notes, weights, node.name == at, _free(node, placed), node.memory)
        )
    return tuple(sorted(found, key=lambda one: rank(one, placed)))


def rank(verdict: Verdict, placed: Placed) -> tuple[bool, int, float, int, str]:
    """The order: those that fit, those that no wish speaks against, the most room, the fewest of our machines, the
    name."""
    machines = placed.machines.get(verdict.node, 0)
    return not verdict.fits, len(verdict.notes), -round(verdict.weights.score, 6), machines, verdict.node


def _free(node: NodeSeen, placed: Placed) -> int | None:
    """Less what this run put there."""
    return None if node.memory_free is None else node.memory_free - placed.memory.get(node.name, 0)


def _notes(spec: MachineSpec, node: NodeSeen, conflicts: Sequence[Conflict]) -> Iterator[str]:
    yield from (conflict.text for conflict in conflicts)
    if node.maintenance and spec.node == node.name:
        yield "it is in maintenance"


def _reasons(
    spec: MachineSpec,
    node: NodeSeen,
    seen: ClusterResources,
    placed: Placed,
    reserve: int,
    conflicts: Sequence[Conflict],
    *,
    is_there: bool,
) -> Iterator[str]:
    if not is_asked_for(spec, node.name):
        named = spec.node or ", ".join(spec.placement.nodes)
        yield f"the description names {named}"
    if not node.online:
        yield "it is offline"
        return
    if node.maintenance and spec.node is None:
        yield "it is in maintenance"
    yield from (conflict.text for conflict in conflicts if conflict.strict)
    for storage, size in space_wanted(spec).items():
        content = "rootdir" if spec.is_container else "images"
        why = _storage_refusal(storage, content, 0 if is_there else size, _largest(spec, storage), node, seen, placed)
        if why:
            yield why
    for storage, what in _other_storages(spec).items():
        found = find_storage(seen, node.name, storage)
        if found is None or not found.available:
            yield f"storage {storage}, where {what} is, is not available there"
    if why := _upload_refusal(spec, node, seen):
        yield why
    if node.cpus is not None and cpus_of(spec) > node.cpus:
        yield f"it has {node.cpus} CPUs, and PVE starts no VM with more ({cpus_of(spec)})"
    free = _free(node, placed)
    if spec.node is None and free is not None and not is_there and free - reserve < memory_of(spec):
        left = (free - reserve) / GIB
        yield f"it has {left:.1f} GiB of memory free, {memory_of(spec) / GIB:.1f} GiB are needed"


def _other_storages(spec: MachineSpec) -> dict[str, str]:
    """Those of volumes that must be there, and what these are."""
    found = {storage_of(volume): volume for volume in own_volumes(spec)}
    medium, content = medium_of(spec)
    if medium:
        found[storage_of(medium)] = {"iso": "the ISO", "vztmpl": "the template", "backup": "the backup"}.get(
            content, "the image"
        )
    return found


def _upload_refusal(spec: MachineSpec, node: NodeSeen, seen: ClusterResources) -> str:
    """Why an image that is a file of ours can be put on no storage there. A storage that is named may get the content
    type before the file comes."""
    if spec.install.source is not InstallSource.IMAGE or not is_file_here(spec.install.image):
        return ""
    if named := spec.install.image_storage:
        found = find_storage(seen, node.name, named)
        there = found is not None and found.available
        return "" if there else f"storage {named}, where the image is put, is not available there"
    fit = any(one.node == node.name and one.available and "import" in one.content for one in seen.storages)
    return "" if fit else "no storage there takes images (content type `import`)"


def own_volumes(spec: MachineSpec) -> list[str]:
    """Volumes that the description names and that must exist already: CDs and disks in `extra`."""
    named = (str(value).partition(",")[0] for key, value in spec.extra.items() if key[:3] == "ide")
    return [volume for volume in named if storage_of(volume) and not _is_new(volume)]


def _is_new(volume: str) -> bool:
    name = volume.partition(":")[2]
    return name == "cloudinit" or name.replace(".", "", 1).isdigit()


def _largest(spec: MachineSpec, storage: str) -> int:
    volumes = () if spec.container is None else spec.container.volumes
    sizes = [one.size for one in volumes if one.storage == storage]
    return max((*sizes, *(disk.size for disk in spec.disks if disk.storage == storage)), default=0)


def _storage_refusal(
    storage: str, content: str, size: int, largest: int, node: NodeSeen, seen: ClusterResources, placed: Placed
) -> str:
    found = find_storage(seen, node.name, storage)
    if found is None:
        return f"storage {storage} is not there (or we may not see it)"
    if not found.available:
        return f"storage {storage} is not active there"
    if content not in found.content:
        what = "disk images" if content == "images" else "containers"
        return f"storage {storage} does not take {what} (content: {', '.join(sorted(found.content)) or 'none'})"
    if not size:
        return ""
    if found.thin:
        return _thin_refusal(found, largest)
    left = found.free - placed.space.get(space_key(found), 0)
    if found.total and left < size:
        return f"storage {storage} has {left / GIB:.1f} GiB free, {size / GIB:.1f} GiB are needed"
    return ""


def _thin_refusal(storage: StorageSeen, largest: int) -> str:
    """By what is really there: declared sizes do not add up where a new disk takes no room before it is written to."""
    if storage.total and not storage.free:
        return f"storage {storage.storage} is full"
    if storage.total and storage.total < largest:
        have, want = storage.total / GIB, largest / GIB
        return f"storage {storage.storage} has {have:.1f} GiB in all, a single disk of {want:.1f} GiB is wanted"
    return ""


def _weights(
    spec: MachineSpec, node: NodeSeen, seen: ClusterResources, placed: Placed, largest: int, cores: int
) -> Weights:
    free = _free(node, placed)
    memory = None if free is None or not largest else _share(free - memory_of(spec), largest)
    cpu = None
    if node.cpus is not None and node.load is not None and cores:
        cpu = _share(node.cpus * (1 - node.load) - placed.cpus.get(node.name, 0) - cpus_of(spec), cores)
    rooms = [_room(seen, node.name, storage, size, placed) for storage, size in space_wanted(spec).items()]
    known = [room for room in rooms if room is not None]
    return Weights(memory, min(known) if known else None, cpu)


def _room(seen: ClusterResources, node: str, storage: str, size: int, placed: Placed) -> float | None:
    found = find_storage(seen, node, storage)
    if found is None or not found.total:
        return None
    return _share(found.free - placed.space.get(space_key(found), 0) - size, found.total)


def _share(part: float, whole: float) -> float:
    return min(1.0, max(0.0, part / whole))
