"""What a deployment has beside machines and volumes, described under `resources`: looked at, made, removed."""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeGuard

from nixops_proxmox.core.engine import pursue
from nixops_proxmox.core.graph import Ref, reverse, waves
from nixops_proxmox.core.kind import Presence, Thing
from nixops_proxmox.core.ports import Clock, Reporter
from nixops_proxmox.errors import ConfigError, DeployError, SpecError, StateError
from nixops_proxmox.kinds.machine.steps.hardware import brief
from nixops_proxmox.kinds.names import MACHINE
from nixops_proxmox.kinds.registry import Entry
from nixops_proxmox.kinds.resource import KnownNic, Setting, Stranger, no_router, recorded_spec, with_said, with_spec
from nixops_proxmox.model import Finding, Machine, Phase
from nixops_proxmox.operations.asking import AskingJournal, Refuse, refuse_nothing
from nixops_proxmox.operations.holding import hold_thing
from nixops_proxmox.operations.recorded import recorded_thing
from nixops_proxmox.operations.thing_reports import ThingReports
from nixops_proxmox.pve.api.versions import Release
from nixops_proxmox.pve.cluster.permissions import Need
from nixops_proxmox.spec import MachineSpec, NetworkSpec
from nixops_proxmox.spec.resource import ResourceSpec, place_of
from nixops_proxmox.state.record import DeploymentRecord


@dataclass(frozen=True)
class ResourceShown:
    """A thing as a look shows it now. `differences`: a line each. `replaced`: a deploy removes what is there first,
    because the description is one of another thing now. `error`: why we could not look at it."""

    ref: Ref
    phase: Presence
    described: bool
    differences: tuple[str, ...] = ()
    replaced: bool = False
    error: DeployError | None = None
    remarks: tuple[str, ...] = ()  # why it has no effect, or not all of it, a line each
    description: str = ""  # what tells how it is described; empty: it is not
    profile: str = ""  # the hypervisor that is to have it; empty: none

    def describe_world(self) -> Mapping[str, str]:
        """What a plan depends on of it, by name. Raises why it cannot be told."""
        if self.error is not None:
            raise self.error
        world = {"what it is now": str(self.phase), "how it differs": "; ".join(self.differences)}
        return world | {"its description": self.description}


@dataclass(frozen=True)
class Outside:
    """What resources are made with. `cluster`, `router` of a profile. `nics`: of the described machines. `refuse`: what
    may not be changed now."""

    cluster: Callable[[str], Any]
    clock: Clock
    reporter: Reporter[Any]
    nics: Callable[[], Sequence[KnownNic]] = tuple
    router: Callable[[str], Any] = no_router
    refuse: Refuse = refuse_nothing
    sources: Any = None  # the images of templates


class ResourceKeeper:
    """All resources of one deployment. It works on one thing of a kind at a time."""

    def __init__(
        self,
        record: DeploymentRecord,
        network: NetworkSpec | None,
        outside: Outside,
        kinds: Mapping[str, Entry],
        lease: Any = None,
    ) -> None:
        """`kinds`: of described things, by name. `lease`: the right to change the deployment; None: only to look."""
        self._record, self._lease, self._kinds, self._outside = record, lease, kinds, outside
        self._specs = {Ref(spec.kind, spec.name): spec for spec in (() if network is None else network.resources)}
        reports = ThingReports(outside.reporter, lambda thing: (Machine(record.name, f"{thing.kind} {thing.name}"), ""))
        self._setting = Setting(
            record.identity,
            network,
            record.machines,
            outside.cluster,
            outside.clock,
            reports,
            outside.nics,
            outside.router,
            made=self._all_made,
            sources=outside.sources,
        )
        self._locks = {kind: threading.RLock() for kind in self._kinds}

    # What there is.

    def described(self) -> list[Ref]:
        return sorted(self._specs)

    def recorded(self) -> list[Ref]:
        """Those that exist, by the record, and those that a run had begun to make: it may have been killed after it
        made them, and before it recorded that."""
        kinds = sorted(set(self._kinds).intersection(self._record.recorded_kinds()))
        stored = (one for kind in kinds for one in self._record.stored(kind))
        return [Ref(one.kind, one.name) for one in stored if one.phase != Presence.ABSENT or one.facts.get("values")]

    def find_described(self, words: Sequence[str]) -> list[Ref]:
        """Described things by the paths of their descriptions, such as resources.pools.front."""
        by_place = {place_of(spec): ref for ref, spec in self._specs.items()}
        for word in words:
            if word not in by_place:
                known = ", ".join(sorted(by_place)) or "none"
                raise ConfigError(f"nothing is described at {word}", hint=f"described: {known}")
        return [by_place[word] for word in words]

    def forgotten(self) -> list[Ref]:
        """Those that are recorded, and no longer described."""
        return [ref for ref in self.recorded() if ref not in self._specs]

    def wanted_by(self, machine: MachineSpec) -> list[Ref]:
        """What must be there before the machine is made."""
        return [ref for ref, spec in self._specs.items() if spec.is_wanted_by(machine)]

    def wants(self, ref: Ref) -> list[Ref]:
        """What must be there before it is made."""
        return [Ref(kind, name) for kind, name in self._specs[ref].wants]

    def comes_after(self, ref: Ref) -> list[Ref]:
        """What it is worked on after, where both are worked on."""
        return [Ref(kind, name) for kind, name in self._specs[ref].comes_after(self._described_machines())]

    def following(self, things: Collection[Ref]) -> list[Ref]:
        """The described things that follow one of these, and whose own machines exist, or are among these."""
        followers = {ref: self._others(ref, things) for ref in self._specs if {*things} & {*self.comes_after(ref)}}
        there: set[str] = set()
        if any(followers.values()):
            there = {one.name for one in self._record.machines() if one.phase is not Phase.ABSENT}
        return [ref for ref, others in followers.items() if others <= there]

    def _others(self, ref: Ref, things: Collection[Ref]) -> set[str]:
        """The machines that it wants beside these."""
        return {one.name for one in self.wants(ref) if one.kind == MACHINE and one not in things}

    def _described_machines(self) -> Sequence[MachineSpec]:
        network = self._setting.network
        return () if network is None else network.machines

    def followers(self, machine: str) -> list[Ref]:
        """The recorded things of others that follow a machine, and can be put right with what is known here."""
        made = {ref: self.made_as(ref) for ref in self.recorded()}
        return [ref for ref, spec in made.items() if spec is not None and self._outlives(spec, machine)]

    def _outlives(self, spec: ResourceSpec, machine: str) -> bool:
        known = self._setting.network is not None or not spec.needs_description
        one = (MACHINE, machine)
        return known and one not in spec.wants and one in spec.comes_after(self._described_machines())

    def wants_as_recorded(self, ref: Ref) -> list[Ref]:
        """What had to be there before it was made."""
        spec = self.made_as(ref)
        return [] if spec is None else [Ref(kind, name) for kind, name in spec.wants]

    def dependents(self, ref: Ref) -> list[Ref]:
        """The recorded things that want this one."""
        return [other for other in self.recorded() if ref in self.wants_as_recorded(other)]

    def in_order_of_removal(self, refs: Sequence[Ref]) -> list[Ref]:
        """What wants others goes before them."""
        wanted = {ref: self.wants_as_recorded(ref) for ref in refs}
        known = {ref: {other for other in others if other in wanted} for ref, others in wanted.items()}
        return [ref for wave in waves(reverse(known)) for ref in wave]

    def identity_changes(self, ref: Ref) -> list[str]:
        """Why what is described now is another thing than what was made, a line each. Nothing: it is the same one, or
        none was made."""
        before, now = self.made_as(ref), self._specs[ref]
        return list(_changes(before, now)) if is_replaced(before, now) else []

    def described_profiles(self) -> set[str]:
        """The hypervisors that are to have such things; not even the record is asked."""
        return {spec.profile for spec in self._specs.values()} - {""}

    def waiting_on(self, profiles: Collection[str]) -> list[ResourceShown]:
        """The described things of these hypervisors that a deploy would make or change."""
        shown = [self.look_at(ref) for ref, spec in sorted(self._specs.items()) if spec.profile in profiles]
        return [one for one in shown if one.error is None and (one.phase is not Presence.PRESENT or one.replaced)]

    def profiles(self) -> set[str]:
        """The hypervisors that have such things, or are to have some; nothing is asked of any."""
        return self.described_profiles() | {spec.profile for spec in self._all_made()} - {""}

    def rights(self) -> Iterator[tuple[str, Callable[[Release], Iterable[Need]]]]:
        """What each described thing needs, with the hypervisor that it is on."""
        for ref, spec in self._specs.items():
            described = self._kinds[ref.kind].described
            if described is not None and spec.profile:
                yield spec.profile, partial(described.needs, spec)

    def examinations(self) -> Iterator[tuple[str, Callable[[], Iterable[Finding]]]]:
        """What a doctor looks at beside the hypervisors, by name."""
        for ref, spec in sorted(self._specs.items()):
            described = self._kinds[ref.kind].described
            if described is not None:
                yield str(ref), partial(described.examine, spec, self._setting)

    def foresee(self, machine: str) -> list[str]:
        """What is done for a machine that is made now, a line each. Nothing is asked."""
        nics = [nic for nic in self._setting.nics() if nic.machine == machine]
        found: list[str] = []
        for ref, spec in sorted(self._specs.items()):
            described = self._kinds[ref.kind].described
            if described is not None and spec.covers(machine):
                found += described.foresee(spec, self._record.identity, nics)
        return found

    def look(self) -> list[ResourceShown]:
        """All that is described or recorded, as it is now."""
        return [self.look_at(ref) for ref in sorted({*self._specs, *self.recorded()})]

    def look_at(self, ref: Ref) -> ResourceShown:
        described = ref in self._specs
        description = brief(self._specs[ref].model_dump_json()) if described else ""
        try:
            thing = self.thing(ref)
            before = self._made_as(thing)
            spec = self._specs.get(ref) or before
            if spec is None:
                raise StateError(f"the record of the {ref} does not say how it was made, and nothing describes it")
            if is_replaced(before, spec):
                changes = tuple(_changes(before, spec))
                found = ResourceShown(ref, Presence.DIFFERS, described, changes, description=description)
                return replace(found, replaced=True, profile=spec.profile)
            entry, world = self._kinds[ref.kind], self._world(ref, spec)
            seen, shown = entry.lifecycle.look_closely(world, thing)
            differences = tuple(shown.differences) if shown is not None else ()
            remarks = tuple(entry.described.remarks(world)) if entry.described is not None and described else ()
            if seen.phase is Presence.ABSENT and entry.described is not None and described:
                differences = tuple(entry.described.outline(world))
            return ResourceShown(
                ref, seen.phase, described, differences, remarks=remarks, description=description, profile=spec.profile
            )
        except DeployError as error:
            return ResourceShown(ref, Presence.ABSENT, described, error=error)

    def thing(self, ref: Ref) -> Thing:
        """The thing as it is recorded, or absent. StateError for a record that cannot be read."""
        stored = next((one for one in self._record.stored(ref.kind) if one.name == ref.name), None)
        return recorded_thing(self._record.identity, ref.kind, ref.name, stored)

    def _all_made(self) -> list[ResourceSpec]:
        return [spec for spec in map(self.made_as, self.recorded()) if spec is not None]

    def made_as(self, ref: Ref) -> ResourceSpec | None:
        """The description with which it was made, by the record."""
        return self._made_as(self.thing(ref))

    def _made_as(self, thing: Thing) -> ResourceSpec | None:
        """The description with which it was made, or was to be made, by the record."""
        described = self._kinds[thing.kind].described
        return None if described is None else recorded_spec(described.spec, thing)

    # What is done.

    def ensure(self, ref: Ref, said: str = "") -> None:
        """Make it as described. One that is described with another identity is removed first. `said`: what a door wants
        recorded with it."""
        with self._held(ref) as lease:
            thing, spec = self.thing(ref), self._specs[ref]
            before = self._made_as(thing)
            if is_replaced(before, spec):
                thing = self._pursue(thing, Presence.ABSENT, before, lease)
            thing = thing.moved(thing.phase, with_said(thing.facts, said))
            thing = self._pursue(thing, Presence.PRESENT, spec, lease)
            facts = with_said(with_spec(thing.facts, spec), said)
            if facts != self.thing(ref).facts:  # there was nothing to do, and the record has the description of before
                self._record.journal(lease).record(thing.moved(thing.phase, facts), "the description changed")

    def follow(self, machine: str) -> None:
        """The machine is about to boot for the first time, or is gone: things that follow machines are made again. One
        that was made before, and is now described in another way, is left to its own turn."""
        for ref in sorted({*self._specs, *self.recorded()}, key=self._turn):
            spec = self._specs.get(ref) or self.made_as(ref)
            if spec is None or not spec.covers(machine):
                continue
            with self._held(ref) as lease:
                thing = self.thing(ref)
                if not is_replaced(self._made_as(thing), spec):
                    self._pursue(thing, Presence.PRESENT, spec, lease, only=machine, asked=False)

    def _turn(self, ref: Ref) -> tuple[bool, Ref]:
        """What others need is made first."""
        described = self._kinds[ref.kind].described
        return described is None or not described.spec.leads, ref

    def get_stranger(self, ref: Ref) -> Stranger:
        """What stands where this thing is described, and is not ours. Raises why it cannot be taken over."""
        spec, described = self._specs[ref], self._kinds[ref.kind].described
        where = place_of(spec)
        find = None if described is None else described.stranger
        if find is None:
            raise ConfigError(
                f"{where}: things of the kind {ref.kind} cannot be taken over",
                hint="use it as it is, without a description; or describe another one, which a deploy makes",
            )
        found: Stranger | None = find(self._world(ref, spec))
        if found is None:
            ours = self.look_at(ref).phase is not Presence.ABSENT
            text = "it is ours already" if ours else "there is none: a deploy makes it"
            raise ConfigError(f"{where}: nothing is taken over: {text}")
        if found.owner:
            raise ConfigError(
                f"{where}: it has a mark: it belongs to {found.owner}",
                hint="remove the mark from its comment in PVE, if nothing manages it any more",
            )
        return found

    def take_over(self, ref: Ref) -> None:
        """Record it, and mark what stands there as ours, which is the last that is written. After a kill before that, a
        deploy says that it is not ours, and taking it over again goes on."""
        with self._held(ref) as lease:
            thing, stranger, spec = self.thing(ref), self.get_stranger(ref), self._specs[ref]
            if spec.profile:
                self._outside.refuse(f"{ref.kind} {ref.name}", spec.profile)
            made = thing.moved(Presence.PRESENT, with_spec(thing.facts, spec))
            self._record.journal(lease).record(made, "taken over: somebody else made it")
            stranger.claim()

    def refresh(self, ref: Ref) -> None:
        """Put it right as it was described when it was made: something that it follows is gone."""
        with self._held(ref) as lease:
            thing = self.thing(ref)
            before = self._made_as(thing)
            if before is not None and thing.phase is not Presence.ABSENT:
                self._pursue(thing, Presence.PRESENT, before, lease, asked=False)

    def remove(self, ref: Ref) -> None:
        """Remove it, and forget it. StateError if something still needs it."""
        with self._held(ref) as lease:
            thing = self.thing(ref)
            before = self._made_as(thing)
            if before is not None:
                self._pursue(thing, Presence.ABSENT, before, lease)
            self._record.forget(ref.name, lease, kind=ref.kind)

    @contextmanager
    def _held(self, ref: Ref) -> Iterator[Any]:
        """The right to change it. A run that is about another thing waits for one that is about this: a run that makes
        a machine works on what follows it, and what is made beside the machine may be just that."""
        with self._locks[ref.kind], hold_thing(self._record, ref, self._lease, self._setting.clock) as lease:
            yield lease

    def _pursue(
        self, thing: Thing, goal: Presence, spec: ResourceSpec, lease: Any, *, only: str = "", asked: bool = True
    ) -> Thing:
        """`asked`: its hypervisor may forbid it now. A machine that is being changed is finished, with what follows."""
        ref, journal = Ref(thing.kind, thing.name), self._record.journal(lease)
        if asked and spec.profile:
            journal = AskingJournal(journal, lambda: self._outside.refuse(f"{ref.kind} {ref.name}", spec.profile))
        world = self._world(ref, spec, only=only)
        ended: Thing = pursue(self._kinds[ref.kind].lifecycle, goal, thing, world, journal)
        return ended

    def _world(self, ref: Ref, spec: ResourceSpec, *, only: str = "") -> Any:
        described = self._kinds[ref.kind].described
        if described is None:
            raise SpecError(f"{place_of(spec)}: nothing makes things of the kind {ref.kind}")
        return described.world(spec, replace(self._setting, only=only))


def is_replaced(before: ResourceSpec | None, now: ResourceSpec) -> TypeGuard[ResourceSpec]:
    """Was it made as another thing than is described now?"""
    return before is not None and before.identity != now.identity


def _changes(before: ResourceSpec, now: ResourceSpec) -> Iterator[str]:
    old, new = before.model_dump(), now.model_dump()
    for field in sorted({*old, *new}):
        if old.get(field) != new.get(field):
            yield f"{field.replace('_', ' ')}: {old.get(field)!r} becomes {new.get(field)!r}"
