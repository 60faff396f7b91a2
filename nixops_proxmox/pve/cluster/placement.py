"""Pure: what machines take, what this run has promised them, and which VMID is free."""

import random
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nixops_proxmox.errors import NoPlace, PveRefused, VmidTaken
from nixops_proxmox.pve.api.answers import ClusterResources, StorageSeen
from nixops_proxmox.pve.cluster.groups import Peer
from nixops_proxmox.pve.wire.properties import GIB, MIB
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.spelling import Verb, command

DEFAULT_MEMORY = 512 * MIB  # PVE's, for a VM that says nothing


@dataclass(frozen=True)
class Placed:
    """What this run has put on the nodes and PVE's figures do not show yet."""

    memory: Mapping[str, int] = field(default_factory=dict)  # bytes by node
    machines: Mapping[str, int] = field(default_factory=dict)  # count by node
    space: Mapping[tuple[str, str], int] = field(default_factory=dict)  # bytes by (node, storage)
    cpus: Mapping[str, int] = field(default_factory=dict)  # by node
    peers: tuple[Peer, ...] = ()  # all machines of ours that have a node


def memory_of(spec: MachineSpec) -> int:
    return spec.memory * MIB if spec.memory else DEFAULT_MEMORY


def cpus_of(spec: MachineSpec) -> int:
    return (spec.cpu.sockets or 1) * (spec.cpu.cores or 1)


def space_wanted(spec: MachineSpec) -> dict[str, int]:
    """Bytes by storage."""
    wanted: dict[str, int] = {}
    for disk in spec.disks:
        wanted[disk.storage] = wanted.get(disk.storage, 0) + disk.size
    if spec.container is not None:
        for volume in spec.container.volumes:
            wanted[volume.storage] = wanted.get(volume.storage, 0) + volume.size
    for device in (spec.efi, spec.tpm):
        if device is not None:
            wanted[device.storage] = wanted.get(device.storage, 0) + 4 * MIB
    return wanted


def overcommitted(seen: ClusterResources, placed: Placed) -> list[str]:
    """A line for each thin storage whose free room is less than what this run's new disks may grow to."""
    lines = {}
    for storage in seen.storages:
        key = space_key(storage)
        promised = placed.space.get(key, 0)
        if storage.thin and storage.total and promised > storage.free:
            where = f" on {storage.node}" if key[0] else ""
            lines[key] = (
                f"storage {storage.storage}{where} is thin and overcommitted: the new disks may grow to"
                f" {promised / GIB:.1f} GiB, and {storage.free / GIB:.1f} GiB are free; watch how it fills"
            )
    return list(lines.values())


def find_storage(seen: ClusterResources, node: str, storage: str) -> StorageSeen | None:
    return next((item for item in seen.storages if item.node == node and item.storage == storage), None)


def space_key(storage: StorageSeen) -> tuple[str, str]:
    return (storage.only_node, storage.storage)


def with_room(spec: MachineSpec, node: str, seen: ClusterResources, placed: Placed) -> Placed:
    """The same, with one machine more."""
    space = dict(placed.space)
    for key, size in _rooms(spec, node, seen).items():
        space[key] = space.get(key, 0) + size
    return Placed(
        _plus(placed.memory, node, memory_of(spec)),
        _plus(placed.machines, node, 1),
        space,
        _plus(placed.cpus, node, cpus_of(spec)),
        (*placed.peers, Peer(spec.name, node, spec.placement, memory_of(spec))),
    )


def without_room(spec: MachineSpec, node: str, seen: ClusterResources, placed: Placed) -> Placed:
    """The same, without a machine that is counted."""
    space = dict(placed.space)
    for key, size in _rooms(spec, node, seen).items():
        space[key] = max(0, space.get(key, 0) - size)
    return replace(
        placed,
        memory=_plus(placed.memory, node, -memory_of(spec)),
        machines=_plus(placed.machines, node, -1),
        space=space,
        cpus=_plus(placed.cpus, node, -cpus_of(spec)),
    )


def _plus(amounts: Mapping[str, int], node: str, more: int) -> Mapping[str, int]:
    return {**amounts, node: amounts.get(node, 0) + more}


def _rooms(spec: MachineSpec, node: str, seen: ClusterResources) -> dict[tuple[str, str], int]:
    space: dict[tuple[str, str], int] = {}
    for storage, size in space_wanted(spec).items():
        found = find_storage(seen, node, storage)
        key = space_key(found) if found is not None else (node, storage)
        space[key] = space.get(key, 0) + size
    return space


def is_shared(seen: ClusterResources, node: str, storage: str) -> bool:
    found = find_storage(seen, node, storage)
    return found is not None and found.shared


def no_place(spec: MachineSpec, refused: Mapping[str, str], *, crowded: bool = False) -> PveRefused:
    """`crowded`: it would fit if this run placed nothing else."""
    reasons = "; ".join(f"{node}: {why}" for node, why in sorted(refused.items())) or "we may not see any node"
    if crowded:
        return NoPlace(
            f"{spec.name}: no node has room for it together with the other new machines: {reasons}",
            hint="make room for all of them, or select fewer machines",
        )
    return PveRefused(
        f"{spec.name}: no node can take it: {reasons}",
        hint="correct node, placement, disks[].storage, network[].bridge or memory; a token sees only what it has"
        f" rights on: {command(Verb.DOCTOR)} names those that are missing",
    )


def not_made(name: str, without: Sequence[str]) -> NoPlace:
    """The error for a machine that has a place, when others of the same run have none."""
    shown = ", ".join(sorted(without)[:5]) + (f" and {len(without) - 5} more" if len(without) > 5 else "")
    return NoPlace(
        f"{name}: not created: a run places all new machines together, and there is no room for {shown}",
        hint="make room for all of them, or select fewer machines",
    )


@dataclass(frozen=True)
class _Room:
    """What one machine takes. `settled`: when it was started, after which PVE's own figures show it."""

    node: str
    memory: int
    cpus: int
    space: Mapping[tuple[str, str], int]
    settled: float | None = None


LAG = 15.0  # seconds; PVE broadcasts its figures every 10


class Reservations:
    """VMIDs and room that this process has promised, for its own threads. PVE itself reserves nothing."""

    def __init__(self, vmids: tuple[int, int], rng: Callable[[int, int], int] | None = None) -> None:
        self._range, self._rng = vmids, rng or random.SystemRandom().randint
        self._lock = threading.Lock()
        self._vmids: set[int] = set()
        self._rooms: dict[int, _Room] = {}

    def placed(self, taken: float) -> Placed:
        """What figures taken at that moment do not show yet."""
        memory: dict[str, int] = {}
        machines: dict[str, int] = {}
        cpus: dict[str, int] = {}
        space: dict[tuple[str, str], int] = {}
        with self._lock:
            rooms = tuple(self._rooms.values())
        for room in rooms:
            machines[room.node] = machines.get(room.node, 0) + 1
            if room.settled is not None and taken > room.settled + LAG:
                continue
            memory[room.node] = memory.get(room.node, 0) + room.memory
            cpus[room.node] = cpus.get(room.node, 0) + room.cpus
            for key, size in room.space.items():
                space[key] = space.get(key, 0) + size
        return Placed(memory, machines, space, cpus)

    def take_vmid(self, spec: MachineSpec, used: Collection[int]) -> int:
        """The declared VMID, or one chosen at random. Raises VmidTaken if it is in use."""
        with self._lock:
            vmid = spec.vmid if spec.vmid is not None else self._choose(used)
            if vmid in used:
                raise VmidTaken(
                    f"{spec.name}: VMID {vmid} is in use by another guest",
                    hint="choose another vmid, or leave it out to take a free one",
                )
            self._vmids.add(vmid)
            return vmid

    def _choose(self, used: Collection[int]) -> int:
        low, high = self._range
        for _ in range(100):
            vmid = self._rng(low, high)
            if vmid not in used and vmid not in self._vmids:
                return vmid
        for vmid in range(low, high + 1):
            if vmid not in used and vmid not in self._vmids:
                return vmid
        raise VmidTaken(f"no VMID from {low} to {high} is free", hint="widen `vmids` in the profile")

    def take_room(self, spec: MachineSpec, vmid: int, node: str, seen: ClusterResources) -> None:
        with self._lock:
            self._rooms[vmid] = _Room(node, memory_of(spec), cpus_of(spec), _rooms(spec, node, seen))

    def settle(self, vmid: int, now: float) -> None:
        """It was started, so PVE will soon count it itself."""
        with self._lock:
            room = self._rooms.get(vmid)
            if room is not None and room.settled is None:
                self._rooms[vmid] = replace(room, settled=now)

    def give_back(self, vmid: int) -> None:
        """Give its room back. The VMID stays taken for this process, because it was seen to be in use, or was ours."""
        with self._lock:
            self._rooms.pop(vmid, None)
