"""The volumes of a deployment: made, attached to machines, parked, deleted, each through the table of its kind."""

import threading
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nixops_proxmox.core.engine import pursue
from nixops_proxmox.core.graph import Ref
from nixops_proxmox.core.ports import Clock, Reporter
from nixops_proxmox.errors import NeedsPermission, NotFound, SpecError, StateError
from nixops_proxmox.kinds.machine.steps.hardware import brief, volume_key
from nixops_proxmox.kinds.volume.facts import NAME, Volume, VolumeFacts, VolumePhase
from nixops_proxmox.kinds.volume.ports import World
from nixops_proxmox.kinds.volume.steps import described_facts, is_parked
from nixops_proxmox.kinds.volume.table import DISK, LIFECYCLE, NOT_YET, OUT
from nixops_proxmox.model import Change, Machine, Power, Spot, Vm, VmRef
from nixops_proxmox.operations.taking import refuse_to_take
from nixops_proxmox.operations.thing_reports import ThingReports
from nixops_proxmox.operations.volume_ports import Clusters, VolumeCluster, VolumeRecord
from nixops_proxmox.pve.vm.correction import hotplugged
from nixops_proxmox.pve.vm.parking import serials_in, volumes_in
from nixops_proxmox.pve.wire.properties import parse_drive, parse_size, print_size
from nixops_proxmox.spec import Disk, MachineKind, MachineSpec, VolumeSpec
from nixops_proxmox.spec.volume import serial_of
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.state import Stored

ATTACHED = "attached"
UNPROTECTED = "off"  # in the facts' `guard`


@dataclass(frozen=True)
class VolumeShown:
    """A volume as a look shows it now. `spot` None: no VM has it."""

    volume: Volume
    spec: VolumeSpec
    described: bool
    serial: str
    spot: Spot | None
    wanted_by: str = ""
    parked: bool = False

    @property
    def ref(self) -> Ref:
        return Ref(NAME, self.volume.name)

    def describe_world(self) -> Mapping[str, str]:
        """What a plan depends on of it, by name."""
        return {
            "what it is now": str(self.volume.phase),
            "where it is": "no VM" if self.spot is None else f"{self.spot.slot} of VM {self.spot.vm.vmid}",
            "its description": brief(self.spec.model_dump_json()),
        }


def _slots_of(spec: MachineSpec) -> frozenset[str]:
    """What its description has in use."""
    mounts = spec.container.mounts if spec.container is not None else ()
    return frozenset({*(disk.slot for disk in spec.disks), *(mount.slot for mount in mounts)})


def _refuse_other_kind(spec: VolumeSpec, facts: VolumeFacts) -> None:
    """What it is, it stays. SpecError if that is not what is described."""
    is_kind = MachineKind.CONTAINER if facts.in_container else MachineKind.VM
    if spec.kind is not is_kind:
        raise SpecError(
            f"it is there, and is a volume for a {is_kind}, which never becomes one for a {spec.kind}",
            path=f"resources.volumes.{spec.name}.kind",
            hint="set it back, and describe a new volume under another name",
        )


class Keeper:
    """Satisfies `kinds.machine.ports.VolumeKeeper`. One volume is worked on at a time: PVE locks the VMs that keep
    them."""

    def __init__(
        self,
        record: VolumeRecord,
        described: Sequence[VolumeSpec],
        cluster: Clusters,
        clock: Clock,
        reporter: Reporter[Any],
        lease: Any = None,
    ) -> None:
        """`lease`: the right to change the deployment; None: only to look."""
        self._record, self._cluster, self._clock, self._reporter = record, cluster, clock, reporter
        self._described = {spec.name: spec for spec in described}
        self._lease, self._lock = lease, threading.RLock()
        self._read: dict[str, Volume] | None = None  # None: as the record has it, which was not read yet

    # What there is.

    def volumes(self) -> list[Volume]:
        """All that are recorded, by name. StateError for a record that cannot be read. It is read once: what changes
        later, we change."""
        with self._lock:
            if self._read is None:
                self._read = {stored.name: self._parse(stored) for stored in self._record.stored(NAME)}
            return [self._read[name] for name in sorted(self._read)]

    def volume(self, name: str) -> Volume:
        return next((one for one in self.volumes() if one.name == name), Volume(self._record.name, name))

    def _learn(self, volume: Volume | None) -> None:
        """Keep what a change led to. None: it did not get to its end, so only the record knows."""
        with self._lock:
            if volume is None or self._read is None:
                self._read = None
            else:
                self._read[volume.name] = volume

    def serial(self, name: str) -> str:
        """The recorded one: the deployment may be called otherwise since."""
        return self.volume(name).facts.serial or serial_of(self._record.identity, name)

    def _parse(self, stored: Stored) -> Volume:
        try:
            facts = VolumeFacts.from_json(stored.facts)
            return Volume(self._record.name, stored.name, VolumePhase(stored.phase), facts)
        except (TypeError, ValueError) as error:
            raise StateError(
                f"the record of the volume {stored.name} cannot be read: {error}",
                hint="upgrade nixops-proxmox, or restore the state from a backup",
            ) from error

    def spec(self, name: str) -> VolumeSpec:
        """The volume's description; without one, what the record tells."""
        if name in self._described:
            return self._described[name]
        facts = self.volume(name).facts
        if not facts.serial:
            raise SpecError(
                f"there is no volume {name!r} in the deployment {self._record.name!r}",
                hint=f"{command(Verb.VOLUME_LIST)} shows those that there are",
            )
        return VolumeSpec(
            name=name,
            profile=facts.profile,
            storage=facts.storage,
            size=max(facts.size, 1 << 20),
            protect=facts.guard != UNPROTECTED,
            kind=MachineKind.CONTAINER if facts.in_container else MachineKind.VM,
        )

    def profiles(self) -> set[str]:
        """The hypervisors that have volumes, or are to have some; nothing is asked of any."""
        return {spec.profile for spec in self._described.values()} | {one.facts.profile for one in self.volumes()}

    def look(self, wanted: Mapping[str, str], only: str = "") -> list[VolumeShown]:
        """All volumes, described or recorded, as they are now. `wanted`: by volume, the machine that describes it;
        `only`: one of them."""
        if only:
            return [self._look(only, wanted.get(only, ""))]
        names = sorted({*self._described, *(one.name for one in self.volumes() if one.phase is not VolumePhase.ABSENT)})
        return [self._look(name, wanted.get(name, "")) for name in names]

    def _look(self, name: str, wanted_by: str) -> VolumeShown:
        volume, spec = self.volume(name), self.spec(name)
        world = self._world(volume, spec)
        seen, shown = LIFECYCLE.look_closely(world, volume)
        spot = None if shown is None else shown.spot
        parked = spot is not None and is_parked(world, volume.facts, spot)
        return VolumeShown(seen, spec, name in self._described, world.serial, spot, wanted_by, parked)

    def find_node(self, names: Sequence[str]) -> str:
        """The only node whose machines can have these volumes; empty: all can."""
        for name in names:
            facts, spec = self.volume(name).facts, self.spec(name)
            if not facts.serial:
                if spec.node is not None:
                    return spec.node
                continue
            places = self._cluster(spec.profile, container=spec.is_container).resources().storages
            if any(one.storage == facts.storage and not one.shared for one in places):
                return facts.node
        return ""

    # For machines.

    def attached(self, machine: Machine) -> Sequence[str]:
        """By the record, and by what its VM has now: a run that was killed may have attached one, and not have
        recorded it, or have left a task that is about to."""
        recorded = [one for one in self.volumes() if one.phase is not VolumePhase.ABSENT]
        there = self._serials_of(machine) if recorded else frozenset()
        return [
            one.name
            for one in recorded
            if one.facts.serial in there
            or (one.facts.machine == machine.name and (one.phase in OUT or one.facts.errand))
        ]

    def _serials_of(self, machine: Machine) -> frozenset[str]:
        vm = self._of(machine).find_vm(machine.facts) if machine.facts.vmid else None
        return frozenset() if vm is None else serials_in(vm)

    def _of(self, machine: Machine) -> VolumeCluster:
        return self._cluster(machine.facts.profile or "default", container=machine.facts.container)

    def changes(self, spec: MachineSpec, vm: Vm) -> Sequence[Change]:
        found = [change for name in spec.volumes if (change := self._change(self.spec(name), vm)) is not None]
        stops = vm.power is Power.RUNNING
        why = f"PVE parks disks of a stopped {'container' if spec.is_container else 'VM'} only"
        return (
            *found,
            *(
                Change(volume_key(name), ATTACHED, "", restart=stops, reason=why if stops else "")
                for name in self.unwanted(spec, vm)
            ),
        )

    def _change(self, spec: VolumeSpec, vm: Vm) -> Change | None:
        serial, key = self.serial(spec.name), volume_key(spec.name)
        slot = next((slot for slot, one in volumes_in(vm.config).items() if one == serial), "")
        if not slot:
            grown = 0 if spec.is_container else self._used(spec)
            plugs = vm.power is not Power.RUNNING or "disk" in hotplugged(vm)
            return Change(
                key, "", ATTACHED, restart=not plugs, reason="" if plugs else "disk hotplug is off", outgrows=grown
            )
        if vm.active and serial not in volumes_in(vm.active).values():
            return Change(key, "", ATTACHED, restart=True, waiting=True, missing=True)
        size = parse_size(parse_drive(vm.config[slot]).get("size", "")) or spec.size
        if size > spec.size:
            return Change(key, print_size(size), print_size(spec.size), forbidden="a volume never shrinks")
        outgrown = 0 if spec.is_container else size  # PVE grows what is on a mount point itself
        return Change(key, print_size(size), print_size(spec.size), outgrows=outgrown) if size < spec.size else None

    def disks(self, spec: MachineSpec) -> Sequence[Disk]:
        if spec.is_container:
            return ()
        volumes = [self.spec(name) for name in spec.volumes]
        return [
            Disk.model_construct(
                slot=volume_key(one.name), storage=one.storage, size=one.size, serial=self.serial(one.name)
            )
            for one in volumes
        ]

    def used(self, spec: MachineSpec) -> Mapping[str, int]:
        if spec.is_container:
            return {}
        return {volume_key(name): used for name in spec.volumes if (used := self._used(self.spec(name)))}

    def _used(self, spec: VolumeSpec) -> int:
        """By the record; 0: as much as is described."""
        facts = self.volume(spec.name).facts
        used = facts.used or facts.size
        return used if used < spec.size else 0

    def note_grown(self, slot: str) -> None:
        with self._lock:
            for volume in self.volumes():
                if volume_key(volume.name) == slot and (self._used(spec := self.spec(volume.name))):
                    self._note(volume, replace(volume.facts, used=0, size=spec.size), "its guest uses all of it")

    def unwanted(self, spec: MachineSpec, vm: Vm) -> Sequence[str]:
        there = serials_in(vm)
        if not there:
            return ()
        return [one.name for one in self.volumes() if one.facts.serial in there and one.name not in spec.volumes]

    def settle(self, machine: Machine, spec: MachineSpec) -> None:
        have = self.attached(machine)
        if not spec.volumes and not have:
            return
        vm = self._get_vm(machine, spec)
        if vm.power is Power.STOPPED:
            for name in self.unwanted(spec, vm):
                self._pursue(name, VolumePhase.PARKED, machine)
        for name in spec.volumes:
            self._attach(name, machine, spec, vm)

    def park_all(self, machine: Machine) -> None:
        there = self.attached(machine)
        for volume in self.volumes():
            here = volume.phase is not VolumePhase.ABSENT and volume.facts.machine == machine.name
            if here or volume.name in there:
                self._pursue(volume.name, VolumePhase.PARKED, machine)

    def refuse_rollback(self, machine: Machine, snapshot: str) -> None:
        if not self.attached(machine):
            return
        cluster = self._of(machine)
        vm = cluster.find_vm(machine.facts)
        now = set() if vm is None else set(volumes_in(vm.config).values())
        then = set(volumes_in(cluster.config_in_snapshot(machine.facts, snapshot).values).values())
        if now - then:
            raise NeedsPermission(
                f"{machine.name}: it has volumes that the snapshot {snapshot} does not know ({', '.join(now - then)}),"
                " and a rollback would detach them",
                hint=f"stop it, then {command(Verb.VOLUME_DETACH, 'NAME')} parks one",
            )

    # For verbs.

    def ensure(self, name: str, node: str, machine: str) -> None:
        """Make the volume, if it was not made yet, and grow one that no machine is to have. `node`: of the machine that
        is to have it; empty: any."""
        if self.volume(name).phase in NOT_YET:
            self._pursue(name, VolumePhase.PARKED, Machine(self._record.name, machine or name), node=node)
        elif not machine:
            self.grow(name)
        self._remember_protection(name)

    def grow(self, name: str) -> None:
        """Grow it to the described size, where it is: one that is attached stays so."""
        (found,) = self.look({}, only=name)
        out = found.volume.phase in OUT
        machine = Machine(self._record.name, found.volume.facts.machine or name)
        self._pursue(name, VolumePhase.ATTACHED if out else VolumePhase.PARKED, machine)

    def _remember_protection(self, name: str) -> None:
        """What the description says of it, for when it is described no more."""
        volume, said = self.volume(name), "" if self.spec(name).protect else UNPROTECTED
        if name in self._described and volume.facts.guard != said:
            self._note(volume, replace(volume.facts, guard=said), "the description changed")

    def _note(self, volume: Volume, facts: VolumeFacts, why: str) -> None:
        told = volume.moved(volume.phase, facts)
        self._record.journal(self._lease).record(told, why)
        self._learn(told)

    def size(self, name: str) -> int:
        """In bytes, as it is now. NotFound if no VM has it."""
        (found,) = self.look({}, only=name)
        if found.spot is None:
            raise NotFound(f"volume {name}: no VM that we may see has a disk with the serial {found.serial}")
        return found.spot.size

    def attach(self, name: str, machine: Machine, spec: MachineSpec) -> None:
        """Attach it to the machine, whose other volumes stay as they are."""
        self._attach(name, machine, spec, self._get_vm(machine, spec))

    def _get_vm(self, machine: Machine, spec: MachineSpec) -> Vm:
        there = self._cluster(spec.profile, container=machine.facts.container)
        vm = there.find_vm(machine.facts) if machine.facts.vmid else None
        if vm is None:
            raise NotFound(
                f"{machine.name}: it has no VM to attach a volume to", hint=f"{command(Verb.DEPLOY)} makes it"
            )
        return vm

    def _attach(self, name: str, machine: Machine, spec: MachineSpec, vm: Vm) -> None:
        target, taken = VmRef(vm.uuid, vm.vmid, vm.node), {*_slots_of(spec), *spec.extra}
        self._pursue(name, VolumePhase.ATTACHED, machine, node=vm.node, target=target, taken=taken)

    def park(self, name: str) -> None:
        self._pursue(name, VolumePhase.PARKED, Machine(self._record.name, self.volume(name).facts.machine or name))

    def delete(self, name: str) -> None:
        """Delete the volume with its data. NeedsPermission if it is protected, or attached."""
        self.spec(name)
        self._pursue(name, VolumePhase.ABSENT, Machine(self._record.name, name))
        self._record.forget(name, self._lease, kind=NAME)
        self._learn(None)

    def adopt(self, name: str) -> None:
        """Record a volume that is on the cluster, and not in the record: its record was lost."""
        spec, volume = self.spec(name), self.volume(name)
        if volume.phase is not VolumePhase.ABSENT:
            raise StateError(f"volume {name} is recorded already, as {volume.phase}")
        world = self._world(volume, spec)
        spot = world.store.find(world.serial, ())
        if spot is None:
            raise NotFound(f"volume {name}: no VM that we may see has a disk with the serial {world.serial}")
        facts = described_facts(world, VolumeFacts()).at(spot)
        parked = world.store.keeps_volumes(spot.vm)
        if parked:
            facts = replace(facts, parker=spot.vm.uuid, parker_vmid=spot.vm.vmid)
        found = volume.moved(VolumePhase.PARKED if parked else VolumePhase.ATTACHED, facts)
        self._record.journal(self._lease).record(found, f"adopted from VM {spot.vm.vmid}")
        self._learn(found)

    def take(self, name: str, slot: str, machine: Machine, spec: MachineSpec) -> None:
        """Make the disk in the slot of a stopped machine's VM the volume: it stays where it is, with its data."""
        vm, volume = self._get_vm(machine, spec), self.spec(name)
        target = VmRef(vm.uuid, vm.vmid, vm.node)
        store = self._cluster(spec.profile, container=machine.facts.container).volume_store
        disk = store.drives(target).get(slot)
        if self.volume(name).phase is not VolumePhase.ABSENT:
            raise StateError(f"volume {name} is recorded already, as {self.volume(name).phase}")
        refuse_to_take(volume, slot, disk, machine, spec)
        if vm.power is not Power.STOPPED:
            raise NeedsPermission(
                f"{machine.name}: it runs, and its guest would know the disk by its old serial until the next start",
                hint=f"{command(Verb.STOP, machine.name)} first",
            )
        self._pursue(name, VolumePhase.ATTACHED, machine, target=target, disk=disk, way=DISK)

    # How.

    def _pursue(
        self,
        name: str,
        goal: VolumePhase,
        machine: Machine,
        *,
        node: str = "",
        target: VmRef | None = None,
        taken: Collection[str] = (),
        disk: Spot | None = None,
        way: str = "",
    ) -> None:
        with self._lock:
            volume, spec = self.volume(name), self.spec(name)
            world = self._world(volume, spec, machine, node=node, target=target, taken=taken)
            world = replace(world, disk=disk)
            ended: Volume | None = None
            try:
                ended = pursue(LIFECYCLE, goal, volume, world, self._record.journal(self._lease), way=way)
            finally:
                self._learn(ended)
            if ended.facts.parker_vmid:
                world.store.guard(VmRef(ended.facts.parker, ended.facts.parker_vmid, ended.facts.node))

    def _world(
        self,
        volume: Volume,
        spec: VolumeSpec,
        machine: Machine | None = None,
        *,
        node: str = "",
        target: VmRef | None = None,
        taken: Collection[str] = (),
    ) -> World:
        if volume.facts.serial:
            _refuse_other_kind(spec, volume.facts)
        cluster, kind = self._cluster(spec.profile, container=spec.is_container), spec.is_container
        same = [one for one in self.volumes() if one.facts.profile == spec.profile and one.facts.in_container is kind]
        return World(
            spec=spec,
            serial=self.serial(spec.name),
            store=cluster.volume_store,
            clock=self._clock,
            reporter=ThingReports(
                self._reporter, lambda thing: None if machine is None else (machine, f"volume {thing.name}: ")
            ),
            mint=lambda: str(uuid.uuid4()),
            node=spec.node or node or self._choose_node(cluster, spec) if volume.phase in NOT_YET else node,
            parkers=self._parkers(cluster, same),
            roomy=self._parkers(cluster, [one for one in same if one.facts.storage == spec.storage]),
            target=target,
            machine="" if machine is None else machine.name,
            taken=taken,
        )

    def _parkers(self, cluster: VolumeCluster, volumes: Sequence[Volume]) -> list[VmRef]:
        """The VMs that keep these volumes, where they are now."""
        known = {one.facts.parker: one.facts.parker_vmid for one in volumes if one.facts.parker_vmid}
        guests = cluster.resources().guests if known else {}
        return [
            VmRef(parker, vmid, guests[vmid].node if vmid in guests else "") for parker, vmid in sorted(known.items())
        ]

    def _choose_node(self, cluster: VolumeCluster, spec: VolumeSpec) -> str:
        """The node with the most room on the storage."""
        places = [one for one in cluster.resources().storages if one.storage == spec.storage and one.available]
        if not places:
            raise SpecError(
                f"no node has the storage {spec.storage!r}, or it may not be seen",
                path=f"resources.volumes.{spec.name}.storage",
                hint=f"{command(Verb.DOCTOR)} lists the storages",
            )
        return max(places, key=lambda place: place.free).node
