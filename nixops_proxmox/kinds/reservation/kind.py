"""The four functions of a deployment's reservations on one router. An entry is ours if its owner is one of our NICs.

They follow the machines: an entry is put before its machine's first boot, and dropped after its machine's end.
"""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from nixops_proxmox.core.kind import Known, Thing
from nixops_proxmox.core.table import Attempt
from nixops_proxmox.errors import StateError
from nixops_proxmox.kinds.reservation.wanted import (
    ENTRIES,
    UNSETTLED,
    Told,
    claimed,
    covers,
    differences,
    entries_of,
    machine_of,
    recorded_entries,
    reservation_of,
    router_of,
    with_entries,
)
from nixops_proxmox.kinds.resource import Describable, KnownNic, ResourceWorld, Setting, described_rows
from nixops_proxmox.model import Finding, Level
from nixops_proxmox.routers import Reservation, Router, find_conflict
from nixops_proxmox.spec.marks import mark_of
from nixops_proxmox.spec.reservations import ReservationsSpec

NAME = "reservation"
ABOUT = "what a router is told of the machines"

World: TypeAlias = ResourceWorld[ReservationsSpec, Router]


class ReservationKind:
    name = NAME

    def look(self, world: World, thing: Thing, /) -> Told | None:
        """None: it has no entry of ours, and we have told it nothing."""
        seen = self._see(world, thing, self._read(world, thing))
        return seen if seen.entries or ENTRIES in thing.facts.values else None

    def diff(self, world: World, found: Told, /) -> Sequence[str]:
        del world
        return tuple(differences(found))

    def apply(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """StateError for an entry of somebody else's in the way. All of it is safe to repeat: what is there as it
        should be is left alone, and what was changed is settled again if a run was killed before that."""
        everything = self._read(world, thing)
        seen = self._see(world, thing, everything)
        self._refuse_strangers(world, seen, everything)
        if seen.changed or seen.gone or not seen.settled:
            attempt.note(with_entries(attempt.facts, seen.wanted, settled=False))
            if seen.gone:
                world.api.drop(seen.gone)
            if seen.changed:
                world.api.put(seen.changed)
            world.api.settle()
        return with_entries(attempt.facts, seen.wanted, settled=True)

    def remove(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        entries = self._see(world, thing, self._read(world, thing)).entries
        if entries or UNSETTLED in thing.facts.values:
            attempt.note(with_entries(attempt.facts, recorded_entries(thing.facts.values), settled=False))
            # Safe to repeat: what is gone needs nothing.
            world.api.drop(entries)
            world.api.settle()
        return Known()

    def _read(self, world: World, thing: Thing) -> Sequence[Reservation]:
        there = world.api.read()
        return (
            there
            if world.api.marks
            else claimed(there, [*recorded_entries(thing.facts.values), *_wanted(world, thing)])
        )

    def _see(self, world: World, thing: Thing, everything: Sequence[Reservation]) -> Told:
        wanted = _wanted(world, thing)
        ours = [one for one in everything if one.owner.startswith(f"{thing.deployment}/")]
        if world.setting is not None and (only := world.setting.only):
            wanted = [one for one in wanted if machine_of(one) == only]
            wanted += [one for one in ours if machine_of(one) != only]
        return Told(ours, sorted(wanted), UNSETTLED not in thing.facts.values, world.api.agrees)

    def _refuse_strangers(self, world: World, seen: Told, everything: Sequence[Reservation]) -> None:
        """What is ours and changes or goes now stands in no other entry's way."""
        moving = {one.owner for one in (*seen.gone, *seen.changed)}
        staying = [one for one in everything if not one.owner or one.owner not in moving]
        for one in seen.changed:
            if conflict := find_conflict(one, staying, f"the router {router_of(world.spec)}"):
                raise conflict


def _wanted(world: World, thing: Thing) -> list[Reservation]:
    setting = world.setting
    if setting is None:
        raise StateError(f"the reservations {thing.name} need to know the machines")
    described = () if setting.network is None else [machine.name for machine in setting.network.machines]
    there = {machine.name for machine in setting.machines() if machine.phase.value != "absent"}
    recorded = recorded_entries(thing.facts.values)
    return entries_of(thing.deployment, world.spec, setting.nics(), described, there, recorded)


def foresee(spec: ReservationsSpec, deployment: str, nics: Sequence[KnownNic]) -> Iterator[str]:
    """What a deploy that makes the machine with these NICs tells the router, a line each."""
    for nic in nics:
        if not covers(spec, nic) or not nic.addresses:
            continue
        one = reservation_of(deployment, nic, spec.domain or "")
        what = f"{one.hostname}, {one.mac}" if one is not None else f"{nic.slot}, whose MAC follows from its UUID"
        yield f"reserve {' and '.join(nic.addresses)} for {what} on the router {router_of(spec)}"


def examine(spec: ReservationsSpec, setting: Setting) -> Iterator[Finding]:
    """Does the router answer?"""
    there = setting.router(router_of(spec)).read()
    ours = sum(one.owner.startswith(f"{setting.deployment}/") for one in there)
    yield Finding(Level.OK, f"router {router_of(spec)}", f"it answers: {len(there)} reservations, {ours} of them ours")


def make_world(spec: ReservationsSpec, setting: Setting) -> World:
    def wait(upid: str) -> None:
        """A router has no tasks."""
        del upid

    return ResourceWorld(
        spec,
        mark_of(setting.deployment, spec.name),
        setting.router(router_of(spec)),
        setting.clock,
        setting.reporter,
        wait,
        setting,
    )


LIFECYCLE = described_rows(ReservationKind())
DESCRIBED = Describable(ReservationsSpec, make_world, foresee=foresee, examine=examine)
