"""The four functions of a network. A vnet is ours if its alias is our mark; its own zone, if the record says so.

All of SDN shares one configuration, and applying it applies what anybody has changed. So others' changes are never
applied: they are told, and we wait until somebody has applied or dropped them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeAlias

from nixops_proxmox.core.kind import Known, Thing
from nixops_proxmox.core.table import Attempt
from nixops_proxmox.errors import DeployError, StateError
from nixops_proxmox.kinds.network import wanted
from nixops_proxmox.kinds.network.wanted import Section, Seen
from nixops_proxmox.kinds.resource import Describable, ResourceWorld, Setting, described_rows, pve_world
from nixops_proxmox.pve.api.versions import Release
from nixops_proxmox.pve.cluster.permissions import Need
from nixops_proxmox.spec.virtual_network import VirtualNetwork

NAME = "network"
ABOUT = "a bridge with its VLAN, or a vnet of PVE's software-defined networks"
OWN_ZONE = "zone"  # known: the zone that we made for the vnet
NAMED = "named"  # known: a bridge that machines have a name for
LOCK = "lock"  # known: the lock that we hold, or WANTED
WANTED = "wanted"  # of a lock: asked for, and we have seen no answer
NODES_SECONDS = 120.0
POLL_SECONDS = 1.0
Attempting: TypeAlias = Attempt[Thing, Known]


class NetworkStore(Protocol):
    """SDN's configuration on a cluster, and what its nodes have of it."""

    def why_not(self) -> str: ...
    def waiting(self) -> Mapping[tuple[str, str], str]: ...
    def find(self, kind: str, name: str, /) -> Section | None: ...
    def leaving(self, vnet: str, /) -> Section | None: ...
    def subnets(self, vnet: str, /) -> Mapping[str, Section]: ...
    def add(self, kind: str, values: Section, token: str, /) -> None: ...
    def change(self, kind: str, name: str, values: Section, token: str, /, *, vnet: str = "") -> None: ...
    def remove(self, kind: str, name: str, token: str, /, *, vnet: str = "") -> None: ...
    def lock(self) -> str: ...
    def unlock(self, token: str, /) -> None: ...
    def break_lock(self) -> None: ...
    def apply(self, token: str, /) -> str: ...
    def behind(self, zone: str, /) -> Mapping[str, str]: ...
    def reloading(self) -> Mapping[str, str]: ...


World: TypeAlias = ResourceWorld[VirtualNetwork, NetworkStore]


class NetworkKind:
    name = NAME

    def look(self, world: World, thing: Thing, /) -> Seen | None:
        spec, api = world.spec, world.api
        if spec.vnet is None:
            return Seen(named=True) if NAMED in thing.facts.values else None
        self._refuse_old(world, thing)
        vnet, own, locked = api.find("vnet", spec.vnet), OWN_ZONE in thing.facts.values, LOCK in thing.facts.values
        if vnet is None and (leaving := api.leaving(spec.vnet)) and is_ours(leaving, world):
            return Seen(gone=True, locked=locked)
        if vnet is not None and not is_ours(vnet, world):
            return None
        zone = api.find("zone", spec.zone_id) if spec.zone is None else None
        if vnet is None and not (own and zone):
            return self._left(world, own=own, locked=locked)
        mine, waiting = self._names(world), api.waiting()
        return Seen(
            zone,
            vnet,
            api.subnets(spec.vnet) if vnet is not None else {},
            locked=locked,
            waiting=tuple(f"{kind} {name}" for kind, name in waiting if (kind, name) in mine),
            behind={} if waiting else api.behind(spec.zone_id),
        )

    def _left(self, world: World, *, own: bool, locked: bool) -> Seen | None:
        """Nothing is configured: does the deletion of a zone of ours wait, or is a lock left?"""
        waits = own and world.api.waiting().get(("zone", world.spec.zone_id)) == "deleted"
        return Seen(gone=True, locked=locked) if waits or locked else None

    def diff(self, world: World, found: Seen, /) -> Sequence[str]:
        return tuple(wanted.differences(world.spec, found, world.mark))

    def apply(self, world: World, thing: Thing, attempt: Attempting, /) -> Known:
        """StateError for what is not ours, for changes of others that wait, and for a PVE without SDN."""
        spec = world.spec
        if spec.vnet is None:
            return _knowing(attempt.facts, **{NAMED: "yes"})
        self._refuse_old(world, thing)
        self._refuse_strangers(world, thing)
        token = self._lock(world, attempt)
        try:
            self._write(world, attempt, token)
            self._finish(world, attempt, token)
        except DeployError:
            self._let_go(world, attempt, token)
            raise
        self._wait_for_nodes(world, thing, lambda: world.api.behind(spec.zone_id))
        return attempt.facts

    def remove(self, world: World, thing: Thing, attempt: Attempting, /) -> Known:
        spec = world.spec
        seen = self.look(world, thing)
        if spec.vnet is None or seen is None:
            return Known()
        token = self._lock(world, attempt)
        try:
            self._take_down(world, attempt, token)
            self._finish(world, attempt, token)
        except DeployError:
            self._let_go(world, attempt, token)
            raise
        self._wait_for_nodes(world, thing, world.api.reloading)
        return Known()

    # Whose it is.

    def _refuse_old(self, world: World, thing: Thing) -> None:
        if reason := world.api.why_not():
            raise StateError(
                f"cannot make the network {thing.name}: {reason}",
                hint="upgrade PVE, or describe a bridge with a VLAN: leave vnet out",
            )

    def _names(self, world: World) -> set[tuple[str, str]]:
        """What is ours of SDN's configuration, by kind and name."""
        spec = world.spec
        own = {("zone", spec.zone_id)} if spec.zone is None else set()
        return {*own, ("vnet", spec.vnet or ""), ("subnet", wanted.subnet_id(spec))}

    def _refuse_strangers(self, world: World, thing: Thing) -> None:
        spec, api = world.spec, world.api
        vnet, zone = api.find("vnet", spec.vnet or ""), api.find("zone", spec.zone_id)
        if vnet is not None and not is_ours(vnet, world):
            raise StateError(
                f"network {thing.name}: there is a vnet {spec.vnet} on {spec.profile}, and it is not ours",
                hint=f'use it as it is: resources.networks.{spec.name} = {{ bridge = "{spec.vnet}"; }};',
            )
        if spec.zone is not None and zone is None:
            raise StateError(
                f"network {thing.name}: there is no zone {spec.zone} on {spec.profile}",
                hint="make it in PVE, or leave zone out: the network then gets a zone of its own",
            )
        if spec.zone is None and zone is not None and OWN_ZONE not in thing.facts.values and vnet is None:
            raise StateError(
                f"network {thing.name}: there is a zone {spec.zone_id} on {spec.profile}, and it is not ours",
                hint=f'put the network into it (zone = "{spec.zone_id}"), or choose another vnet',
            )

    def _refuse_others_changes(self, world: World) -> None:
        mine = self._names(world)
        others = [f"{kind} {name} ({state})" for (kind, name), state in world.api.waiting().items()
                  if (kind, name) not in mine]  # fmt: skip
        if others:
            raise StateError(
                f"cannot apply the network {world.spec.name}: changes of others wait to be applied with it:"
                f" {', '.join(sorted(others))}",
                hint="apply or revert them in PVE (Datacenter, SDN), and try again",
            )

    # The lock: PVE has it from 9 on.

    def _lock(self, world: World, attempt: Attempting) -> str:
        """Take the lock, once no changes of others wait. A run that was cut off may have left one of ours."""
        api, known = world.api, attempt.facts.values.get(LOCK)
        if known == WANTED:
            api.break_lock()
        elif known:
            api.unlock(known)
        self._refuse_others_changes(world)
        attempt.note(_knowing(attempt.facts, **{LOCK: WANTED}))
        token = api.lock()
        attempt.note(_knowing(attempt.facts, **{LOCK: token}))
        return token

    def _let_go(self, world: World, attempt: Attempting, token: str) -> None:
        if token:
            world.api.unlock(token)
        attempt.note(_knowing(attempt.facts, **{LOCK: ""}))

    def _finish(self, world: World, attempt: Attempting, token: str) -> None:
        """Apply what waits, if something does."""
        self._refuse_others_changes(world)
        if world.api.waiting():
            # Safe to repeat: what is applied already does not wait any more.
            world.wait(world.api.apply(token))
            attempt.note(_knowing(attempt.facts, **{LOCK: ""}))
        else:
            self._let_go(world, attempt, token)

    # Writing.

    def _write(self, world: World, attempt: Attempting, token: str) -> None:
        spec, api = world.spec, world.api
        if spec.zone is None:
            attempt.note(_knowing(attempt.facts, **{OWN_ZONE: spec.zone_id}))
            self._ensure(world, "zone", spec.zone_id, wanted.zone_of(spec), api.find("zone", spec.zone_id), token)
        vnet = wanted.vnet_of(spec, world.mark)
        self._ensure(world, "vnet", spec.vnet or "", vnet, api.find("vnet", spec.vnet or ""), token)
        if spec.subnet is not None:
            name = wanted.subnet_id(spec)
            self._ensure(world, "subnet", name, wanted.subnet_of(spec), api.subnets(spec.vnet or "").get(name), token)

    def _ensure(self, world: World, kind: str, name: str, section: Section, have: Section | None, token: str) -> None:
        spec, vnet = world.spec, world.spec.vnet or ""
        if have is None:
            fixed = {"subnet": spec.subnet, "type": "subnet", "vnet": vnet} if kind == "subnet" else {kind: name}
            world.api.add(kind, {**fixed, **section}, token)
            return
        changes = wanted.unlike(section, have)
        if changes:
            values = {key: section[key] for key in changes if key in section and key not in ("type", "bridge")}
            gone = [key for key in changes if key not in section]
            world.api.change(kind, name, {**values, **({"delete": ",".join(gone)} if gone else {})}, token, vnet=vnet)

    def _take_down(self, world: World, attempt: Attempting, token: str) -> None:
        spec, api = world.spec, world.api
        if api.find("vnet", spec.vnet or "") is not None:
            for name in api.subnets(spec.vnet or ""):
                api.remove("subnet", name, token, vnet=spec.vnet or "")
            api.remove("vnet", spec.vnet or "", token)
        if OWN_ZONE in attempt.facts.values and api.find("zone", spec.zone_id) is not None:
            api.remove("zone", spec.zone_id, token)

    def _wait_for_nodes(self, world: World, thing: Thing, find: Callable[[], Mapping[str, str]]) -> None:
        """The task of an apply ends before the nodes have reloaded, whatever becomes of that. `find`: the nodes that
        have not, and how they stand."""
        deadline = world.clock.now() + NODES_SECONDS
        while behind := find():
            if world.clock.now() > deadline:
                told = ", ".join(f"{node} ({status})" for node, status in sorted(behind.items()))
                raise StateError(
                    f"network {thing.name}: not all nodes have taken it over in {NODES_SECONDS:g} s: {told}",
                    hint="see the node's task 'SRV networking - Reload' in PVE, and try again",
                )
            world.clock.sleep(POLL_SECONDS)


def is_ours(vnet: Section, world: World) -> bool:
    return vnet.get("alias") == world.mark


def _knowing(facts: Known, **values: str) -> Known:
    """With these values; one that is empty is forgotten."""
    return replace(facts, values={key: value for key, value in {**facts.values, **values}.items() if value})


LIFECYCLE = described_rows(NetworkKind())


def needs(spec: VirtualNetwork, release: Release) -> Iterator[Need]:
    if spec.vnet is None:
        return
    del release
    yield Need(("/sdn",), ("SDN.Allocate",), "apply software-defined networks")
    zones = f"/sdn/zones/{spec.zone}" if spec.zone else "/sdn/zones"
    yield Need((zones,), ("SDN.Allocate",), "make and delete vnets")
    yield Need((zones,), ("SDN.Audit",), "see vnets on the nodes")


def make_world(spec: VirtualNetwork, setting: Setting) -> World:
    return pve_world(spec, setting, lambda hypervisor: hypervisor.network_store)


DESCRIBED = Describable(VirtualNetwork, make_world, needs)
