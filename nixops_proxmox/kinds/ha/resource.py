"""The four functions of a machine's HA resource. Its comment has our mark.

It is made when its machine is there, because HA starts what it gets, and starts again what powers itself off. It is
removed before its machine is destroyed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nixops_proxmox.core.kind import Known, Thing
from nixops_proxmox.core.table import Attempt
from nixops_proxmox.errors import StateError
from nixops_proxmox.kinds.ha.ports import HaStore
from nixops_proxmox.kinds.resource import (
    Describable,
    ResourceWorld,
    Setting,
    Stranger,
    described_rows,
    pve_world,
    stranger_at,
    vm_facts,
)
from nixops_proxmox.model import Finding, Level
from nixops_proxmox.pve.api.ha import Settings, sid_of_guest
from nixops_proxmox.pve.api.versions import Release
from nixops_proxmox.pve.cluster.permissions import Need
from nixops_proxmox.pve.vm.container import ROOT
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.spec.ha import HA, HaSpec
from nixops_proxmox.spec.marks import bears_mark, with_mark
from nixops_proxmox.spec.resource import ResourceSpec

NAME = HA
ABOUT = "what HA does with a machine"
UNSET = {"state": "started", "max_restart": "1", "max_relocate": "1", "failback": "1"}  # what PVE means without it
VOTES = 3  # of fewer, none may fail

World: TypeAlias = ResourceWorld[HaSpec, HaStore]


@dataclass(frozen=True)
class ServiceSeen:
    sid: str  # vm:100 or ct:100
    settings: Settings


class HaKind:
    name = NAME

    def look(self, world: World, thing: Thing, /) -> ServiceSeen | None:
        del thing
        return find_ours(world)

    def diff(self, world: World, found: ServiceSeen, /) -> Sequence[str]:
        """A `stop` is one: it makes HA keep the machine stopped."""
        return list(_differences(world, found))

    def apply(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        sid, want = sid_of(world.setting, thing.name), wanted(world)
        found = find_ours(world)
        if found is not None and found.sid == sid:
            # Safe to repeat: the same settings again change nothing.
            world.api.change(sid, want)
            return attempt.facts
        if sid in world.api.resources():
            raise StateError(
                f"{thing.name}: HA manages {sid} already, and its comment says that it is not ours",
                hint="remove it from HA's resources in PVE, or remove `ha` of the machine",
            )
        if world.api.count_nodes() < 2:
            raise StateError(
                f"{thing.name}: {world.spec.profile} is one node alone, so HA could start nothing elsewhere",
                hint="remove `ha` of the machine; `onboot = true` starts it when its node starts",
            )
        if found is not None:  # the machine got another VMID
            # Safe to repeat: one that is gone needs nothing.
            world.api.remove(found.sid)
        # Safe to repeat: PVE refuses a second one, and we have just looked.
        world.api.add(sid, want)
        return attempt.facts

    def remove(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """The machine goes on as it is."""
        del thing, attempt
        found = find_ours(world)
        if found is not None:
            # Safe to repeat: one that is gone needs nothing.
            world.api.remove(found.sid)
        return Known()


def find_ours(world: World) -> ServiceSeen | None:
    """By our mark: the VMID may be another now."""
    there = world.api.resources().items()
    return next((ServiceSeen(sid, one) for sid, one in there if bears_mark(one.get("comment", ""), world.mark)), None)


def wanted(world: World) -> Settings:
    spec = world.spec
    settings = {
        "state": spec.state,
        "max_restart": str(spec.max_restart),
        "max_relocate": str(spec.max_relocate),
        "comment": with_mark(spec.comment, world.mark),
    }
    return settings | ({"failback": str(int(spec.failback))} if world.api.has_rules() else {})


def _differences(world: World, found: ServiceSeen) -> Iterator[str]:
    sid = find_sid(world.setting, world.spec.name)
    if sid is not None and sid != found.sid:
        yield f"service: {found.sid} becomes {sid}"
    for key, new in sorted(wanted(world).items()):
        old = found.settings.get(key, UNSET.get(key, ""))
        old = "started" if (key, old) == ("state", "enabled") else old
        if old != new:
            yield f"{key}: {old or 'unset'} becomes {new}"


def find_sid(setting: Setting | None, name: str) -> str | None:
    """The machine's service; None: it has no VM and no container."""
    facts = vm_facts(setting, name)
    return None if facts is None else sid_of_guest(facts.vmid, container=facts.container)


def sid_of(setting: Setting | None, name: str) -> str:
    """StateError for a machine that PVE does not have yet."""
    sid = find_sid(setting, name)
    if sid is None:
        raise StateError(f"HA: the machine {name} is not made yet, so HA cannot manage it")
    return sid


def find_stranger(world: World) -> Stranger | None:
    sid = find_sid(world.setting, world.spec.name)
    have = None if sid is None else world.api.resources().get(sid)
    if sid is None or have is None:
        return None
    return stranger_at(
        have.get("comment", ""),
        world.mark,
        lambda marked: HaKind().diff(world, ServiceSeen(sid, {**have, "comment": marked})),
        lambda marked: world.api.change(sid, {"comment": marked}),
    )


def needs_of_ha(spec: ResourceSpec, release: Release) -> Iterator[Need]:
    del spec, release
    yield Need(("/",), ("Sys.Audit",), "see what HA manages")
    yield Need(("/",), ("Sys.Console",), "tell HA what to manage")


def examine(spec: HaSpec, setting: Setting) -> Iterator[Finding]:
    """Whether HA could do what it is asked: it needs other nodes that vote, and disks that they reach."""
    cluster = setting.cluster(spec.profile)
    seen = cluster.resources()
    if len(seen.nodes) < VOTES:
        text = f"{len(seen.nodes)} nodes: if one fails, HA starts nothing elsewhere, unless something else votes"
        yield Finding(Level.WARNING, "HA", f"{spec.profile} has {text} (a QDevice)", "add a node, or a QDevice")
    shared = {one.storage for one in seen.storages if one.shared}
    machines = () if setting.network is None else setting.network.machines
    machine = next((one for one in machines if one.name == spec.name), None)
    for slot, storage in () if machine is None else _volumes(machine):
        if storage not in shared:
            text = f"{slot} is on {storage}, which no other node has: HA cannot start it elsewhere"
            yield Finding(Level.WARNING, f"HA of {spec.name}", text, "move it to a storage that is shared")


def _volumes(machine: MachineSpec) -> Iterator[tuple[str, str]]:
    """Slots and storages."""
    yield from ((disk.slot, disk.storage) for disk in machine.disks)
    if machine.container is not None:
        yield ROOT, machine.container.root.storage
        yield from ((mount.slot, mount.storage) for mount in machine.container.mounts)


def make_world(spec: HaSpec, setting: Setting) -> World:
    return pve_world(spec, setting, lambda hypervisor: hypervisor.ha_store)


LIFECYCLE = described_rows(HaKind())
DESCRIBED = Describable(HaSpec, make_world, needs_of_ha, examine=examine, stranger=find_stranger)
