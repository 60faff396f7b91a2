"""The four functions of what a router has of a deployment. A change is one commit, on trial until we have looked who
still answers."""

import json
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from nixops_proxmox.core.kind import Known, Thing
from nixops_proxmox.core.table import Attempt
from nixops_proxmox.errors import ConfigError, StateError
from nixops_proxmox.kinds.firewall.words import Neighbourhood
from nixops_proxmox.kinds.resource import Describable, ResourceWorld, Setting, Stranger, described_rows
from nixops_proxmox.kinds.routing.trying import Bed, Listener, finish_earlier, try_change
from nixops_proxmox.kinds.routing.wanted import foresee, idle, parts_of
from nixops_proxmox.model import Finding, Level, Phase
from nixops_proxmox.routers.parts import RouterParts
from nixops_proxmox.routers.routing import Comparison, Owner, Routing
from nixops_proxmox.spec.marks import mark_of
from nixops_proxmox.spec.routing import ROUTING, RoutingSpec

NAME = ROUTING
ABOUT = "what a router has for the machines: networks, routes, names, forwarded ports, rules"
TOLD = "told"  # known: what we have told the router, as its driver wrote it down
UNSETTLED = "unsettled"  # known: it may not be confirmed yet, or not outlast a restart
KNOCK = 3.0  # seconds for a machine to answer


def knock(spot: Listener) -> bool:
    """Does somebody accept a connection there?"""
    try:
        socket.create_connection(spot, KNOCK).close()
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class RoutingWorld(ResourceWorld[RoutingSpec, Routing]):
    probe: Callable[[Listener], bool] = knock


World: TypeAlias = ResourceWorld[RoutingSpec, Routing]


@dataclass(frozen=True)
class RoutingSeen:
    comparison: Comparison
    settled: bool


class RoutingKind:
    name = NAME

    def look(self, world: World, thing: Thing, /) -> RoutingSeen | None:
        """None: it has nothing of ours, and we have told it nothing."""
        found = RoutingSeen(_compare(world, thing.facts, _wanted(world)), UNSETTLED not in thing.facts.values)
        return found if found.comparison.ours or TOLD in thing.facts.values else None

    def diff(self, world: World, found: RoutingSeen, /) -> Sequence[str]:
        del world
        unsettled = () if found.settled else ("what was changed may not be confirmed yet, or not saved",)
        return (*found.comparison.lines, *unsettled)

    def apply(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """Safe to repeat: it looks first, and what was changed and not kept is kept by the next run."""
        with world.api.exclusive():
            return _make(world, thing, attempt, _wanted(world))

    def remove(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        with world.api.exclusive():
            _make(world, thing, attempt, _nothing(world.spec))
        return Known()


def _make(world: World, thing: Thing, attempt: Attempt[Thing, Known], wanted: RouterParts) -> Known:
    bed, facts = _bed(world, thing), attempt.facts
    if UNSETTLED in facts.values:
        finish_earlier(bed)
    change = _compare(world, facts, wanted)
    if change.strangers:
        raise StateError(
            f"{bed.title}: {'; '.join(change.strangers)}",
            hint="remove it there, or describe something else; `numbers` says which numbers of rules are ours",
        )
    if change.lines:
        attempt.note(_knowing(facts, change.known, settled=False))
        try_change(bed, change, lambda: _compare(world, attempt.facts, wanted))
    elif UNSETTLED in facts.values:
        world.api.keep()
    return _knowing(facts, change.then, settled=True)


def _wanted(world: World) -> RouterParts:
    setting = world.setting
    whole = setting is None or not setting.only
    return parts_of(world.spec, Neighbourhood.of(setting), whole=whole)


def _nothing(spec: RoutingSpec) -> RouterParts:
    return RouterParts(spec.numbers.first, spec.numbers.last)


def _compare(world: World, facts: Known, wanted: RouterParts) -> Comparison:
    return world.api.compare(wanted, Owner(world.mark, _told(facts.values)))


def _told(values: Mapping[str, str]) -> list[str]:
    """StateError for a record that cannot be read."""
    try:
        return [str(one) for one in json.loads(values.get(TOLD, "[]"))]
    except (TypeError, ValueError) as error:
        raise StateError(
            f"the record of a router cannot be read: {error}",
            hint="upgrade nixops-proxmox, or restore the state from a backup",
        ) from error


def _knowing(facts: Known, told: Sequence[str], *, settled: bool) -> Known:
    values = {name: value for name, value in facts.values.items() if name != UNSETTLED}
    return replace(facts, values={**values, TOLD: json.dumps(list(told)), **({} if settled else {UNSETTLED: "yes"})})


def _bed(world: World, thing: Thing) -> Bed:
    assert isinstance(world, RoutingWorld)
    spec = world.spec
    return Bed(
        world.api,
        world.clock,
        _spots(world),
        world.probe,
        lambda text: world.reporter.detail(thing, text),
        spec.confirm,
        f"the router {spec.router_name}",
    )


def _spots(world: World) -> dict[str, Listener]:
    """Where machines answer that we reach without a jump host. `verify` leaves the others out."""
    machines = () if world.setting is None else world.setting.machines()
    found = {
        one.name: (one.facts.endpoint.host, one.facts.endpoint.port)
        for one in machines
        if one.phase is Phase.READY and one.facts.endpoint is not None and not one.facts.endpoint.jump
    }
    return {name: spot for name, spot in found.items() if not world.spec.verify or name in world.spec.verify}


def remarks(world: World) -> Iterator[str]:
    yield from idle(world.spec, Neighbourhood.of(world.setting))


def outline(world: World) -> Iterator[str]:
    """What a new one will be."""
    yield from world.api.outline(_wanted(world))


def find_stranger(world: World) -> Stranger | None:
    """What others made on the router as it is described here. What has another deployment's mark is not counted."""
    found = world.api.find_unclaimed(_wanted(world), world.mark)
    if not found.parts:
        return None
    return Stranger("", found.lines, lambda: world.api.claim(found), found.parts)


def examine(spec: RoutingSpec, setting: Setting) -> Iterator[Finding]:
    """Does the router answer, and what is it?"""
    api = _routing_of(spec, setting)
    ours = api.compare(_nothing(spec), Owner(mark_of(setting.deployment, spec.name)))
    what = f"it answers: {api.describe()}, {len(ours.lines)} parts of its configuration are ours"
    yield Finding(Level.OK, f"router {spec.router_name}", what)


def _routing_of(spec: RoutingSpec, setting: Setting) -> Routing:
    found: Routing | None = getattr(setting.router(spec.router_name), "routing", None)
    if found is None:
        raise ConfigError(
            f"resources.routing.{spec.name}: the router {spec.router_name} is of a type that has no routing",
            hint="use one of the type vyos or opnsense in routers.toml",
        )
    return found


def make_world(spec: RoutingSpec, setting: Setting) -> RoutingWorld:
    def wait(upid: str) -> None:
        """A router has no tasks."""
        del upid

    mark = mark_of(setting.deployment, spec.name)
    return RoutingWorld(spec, mark, _routing_of(spec, setting), setting.clock, setting.reporter, wait, setting)


LIFECYCLE = described_rows(RoutingKind())
DESCRIBED = Describable(
    RoutingSpec,
    make_world,
    foresee=foresee,
    examine=examine,
    remarks=remarks,
    outline=outline,
    stranger=find_stranger,
)
