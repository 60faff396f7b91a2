"""Choosing places one after another, so that the machines of a fleet do not all choose the same."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nixops_proxmox.errors import DeployError, NoPlace, PveRefused, SpecError
from nixops_proxmox.model import Place
from nixops_proxmox.pve.api.answers import ClusterResources, GuestSeen, NodeSeen, Processor
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.cluster.assignment import assign
from nixops_proxmox.pve.cluster.groups import Peer, find_conflicts
from nixops_proxmox.pve.cluster.margin import find_shortfalls
from nixops_proxmox.pve.cluster.placement import (
    Placed,
    Reservations,
    is_shared,
    memory_of,
    no_place,
    not_made,
    overcommitted,
    space_wanted,
    with_room,
    without_room,
)
from nixops_proxmox.pve.cluster.processors import is_demanding, processor_refusal
from nixops_proxmox.pve.cluster.restrictions import Restrictions, mapped_devices, with_limits
from nixops_proxmox.pve.cluster.thin import depends_on_settings, with_thin
from nixops_proxmox.pve.cluster.verdicts import Explanation, Verdict, candidates, is_asked_for, judge, own_volumes
from nixops_proxmox.pve.cluster.view import VIEW_AGE, ClusterView
from nixops_proxmox.pve.vm.copies import (
    find_templates,
    get_template,
    medium_of,
    refuse_backup,
    refuse_larger_image,
    refuse_template,
    storages_of_clone,
)
from nixops_proxmox.pve.wire.properties import storage_of
from nixops_proxmox.spec import InstallSource, MachineSpec

STORED = (InstallSource.IMAGE, InstallSource.BACKUP)  # what a machine is made of is on a storage


class Placer:
    """`reserve`: bytes of memory to leave free on each node."""

    def __init__(self, client: PveClient, view: ClusterView, reservations: Reservations, reserve: int) -> None:
        self._client, self._view, self.reservations, self._reserve = client, view, reservations, reserve
        self._placing = threading.Lock()
        self.restrictions = Restrictions(client)
        self._bridges: dict[str, tuple[str, ...]] = {}
        self._media: dict[tuple[str, str, str], Mapping[str, int]] = {}
        self._processors: dict[str, Processor] = {}
        self._maintenance: frozenset[str] | None = None  # nodes, once they were asked for
        self._settings: Mapping[str, Mapping[str, Any]] | None = None  # of storages, once they were asked for
        self._chosen: dict[str, tuple[MachineSpec, Place]] = {}  # for the fleet, before anything was made
        self._standing: dict[str, tuple[MachineSpec, Place]] = {}  # machines that have a place

    def forget_media(self, node: str, storage: str, content: str) -> None:
        """A file came or went."""
        self._media.pop((node, storage, content), None)

    def get_template(self, spec: MachineSpec, node: str) -> GuestSeen:
        """The template for a clone on that node, as the cluster's list has it."""
        return get_template(spec, self._look_for_templates(spec), node)

    def _look_for_templates(self, spec: MachineSpec) -> ClusterResources:
        """If the list does not have it, we ask for the list again."""
        seen = self._view.get(VIEW_AGE)
        try:
            find_templates(spec, seen)
        except PveRefused:
            return self._view.get(0.0)
        return seen

    def choose_all(self, specs: Sequence[MachineSpec]) -> tuple[Mapping[str, DeployError], Sequence[str]]:
        """Places for all new machines before the first is made: (errors by name, warnings). If they do not fit
        together, none gets one. One that would not fit even by itself does not hold up the others. `choose`
        hands them out."""
        errors: dict[str, DeployError] = {}
        assigned = self._assign(specs) if len(specs) > 1 else {}
        for spec in sorted(specs, key=_most_demanding_first):
            try:
                self._chosen[spec.name] = (spec, self._choose(spec, assigned.get(spec.name, "")))
            except (PveRefused, SpecError) as error:
                errors[spec.name] = error
            except DeployError:
                break  # PVE does not answer as it should: this one and the rest meet it when they are worked on
        without = [name for name, error in errors.items() if isinstance(error, NoPlace)]
        if not without:
            seen = self._look(specs) if specs else self._view.get(VIEW_AGE)
            placed = self._placed(seen)
            return errors, [*overcommitted(seen, placed), *self._unfulfilled(placed), *find_shortfalls(seen, placed)]
        for name, (_, place) in self._chosen.items():
            self._give_up(name, place)
            errors[name] = not_made(name, without)
        self._chosen.clear()
        return errors, ()

    def _assign(self, specs: Sequence[MachineSpec]) -> Mapping[str, str]:
        """A node for each machine that can have one, by name, chosen for all of them together. Wishes count as
        conditions if that leaves each a place. This promises nothing and refuses nothing: `_choose` says which have no
        place."""
        try:
            known = {spec.name: self._near_its_template(spec) for spec in specs}
            seen = self._look(specs)
        except DeployError:
            return {}
        order = [spec.name for spec in sorted(known.values(), key=_most_demanding_first)]
        placed = self._placed(seen)
        alone = {name: [node.name for node in self._candidates(known[name], seen, placed)] for name in order}
        order = sorted((name for name in order if alone[name]), key=lambda name: len(alone[name]))

        def options(*, strict: bool) -> Callable[[str, Mapping[str, str]], Iterable[str]]:
            def of(name: str, chosen: Mapping[str, str]) -> Iterator[str]:
                now = placed
                for other, node in chosen.items():
                    now = with_room(known[other], node, seen, now)
                for verdict in judge(known[name], seen, now, reserve=self._reserve):
                    if verdict.fits and verdict.node in alone[name] and not (strict and verdict.notes):
                        yield verdict.node

            return of

        return assign(order, options(strict=True)) or assign(order, options(strict=False)) or {}

    def _candidates(self, spec: MachineSpec, seen: ClusterResources, placed: Placed) -> Iterator[NodeSeen]:
        """Nodes that fit. If there is a choice, they are asked for what the list does not tell."""
        nodes, _ = candidates(spec, seen, placed, reserve=self._reserve)
        for node in nodes:
            if len(nodes) == 1 or not any(True for _ in self._beyond(spec, node, seen)):
                yield node

    def _unfulfilled(self, placed: Placed) -> Iterator[str]:
        """A line for each new machine whose node is not what its groups wish for, by those that were there before."""
        before = [peer for peer in placed.peers if peer.name not in self._chosen]
        for name, (spec, place) in self._chosen.items():
            for conflict in find_conflicts(spec, place.node, before):
                yield f"{name}: it is created on {place.node}, although {conflict.text}"
            before.append(Peer(name, place.node, spec.placement))

    def stand(self, machines: Iterable[tuple[MachineSpec, Place]]) -> None:
        """Machines of ours that exist, or have a place: what new ones are to be near, or far from."""
        self._standing |= {spec.name: (spec, place) for spec, place in machines}

    def explain(self, spec: MachineSpec, place: Place | None = None) -> Explanation:
        """Every node: does the machine fit there, why not, and what speaks for it. `place`: the machine's own, if it
        has one. Else that of `choose_all`, else the best."""
        seen = self._look([spec])
        guest = seen.guests.get(place.vmid) if place is not None else None
        at = guest.node if guest is not None else place.node if place is not None else ""
        chosen = self.find_chosen(spec.name) if place is None else None
        placed = self._placed(seen, without=spec.name if chosen is not None else "")
        near = spec if at else self._near_its_template(spec)
        limits = self.restrictions.of_ha(guest, seen)
        judged = [
            with_limits(self._look_beyond(near, one, seen), limits)
            for one in judge(near, seen, placed, reserve=self._reserve, at=at)
        ]
        node = at or (chosen.node if chosen is not None else next((one.node for one in judged if one.fits), ""))
        ordered = sorted(judged, key=lambda one: (not one.fits, bool(limits.wishes.get(one.node))))
        return Explanation(spec.name, node, tuple(replace(one, chosen=one.node == node) for one in ordered))

    def _look_beyond(self, spec: MachineSpec, verdict: Verdict, seen: ClusterResources) -> Verdict:
        node = next(one for one in seen.nodes if one.name == verdict.node)
        if not node.online or not is_asked_for(spec, node.name):
            return verdict
        more = tuple(self._beyond(spec, node, seen))
        return replace(verdict, fits=False, reasons=(*verdict.reasons, *more), notes=()) if more else verdict

    def find_chosen(self, name: str) -> Place | None:
        """What `choose_all` found for the machine, if it was asked."""
        return self._chosen[name][1] if name in self._chosen else None

    def choose(self, spec: MachineSpec) -> Place:
        """A node that fits (NoPlace says of each why not) and a VMID that was free a moment ago."""
        chosen = self._chosen.pop(spec.name, None)
        if chosen is None:
            return self._choose(spec)
        if chosen[0] == spec and self._still_good(chosen[1]):
            return chosen[1]
        self._give_up(spec.name, chosen[1])
        return self._choose(spec)

    def _give_up(self, name: str, place: Place) -> None:
        self.reservations.give_back(place.vmid)
        self._standing.pop(name, None)

    def hold(self, spec: MachineSpec, place: Place) -> None:
        """Keep a place that an earlier run chose: while there is no VM, PVE's figures do not show its room."""
        self.stand([(spec, place)])
        seen = self._look([spec])
        if place.vmid not in seen.guests:
            self.reservations.take_room(spec, place.vmid, place.node, seen)

    def _still_good(self, place: Place) -> bool:
        """Building may have taken long since."""
        seen = self._view.get(VIEW_AGE)
        return place.vmid not in seen.guests and any(node.name == place.node and node.online for node in seen.nodes)

    def _look(self, specs: Iterable[MachineSpec]) -> ClusterResources:
        """The cluster, each storage marked thin or not. Their settings are asked for once, and only if needed."""
        seen = self._view.get(VIEW_AGE)
        names = {name for spec in specs for name in space_wanted(spec)}
        if self._settings is None and depends_on_settings(seen.storages, names):
            self._settings = self._client.get_storage_settings()
        return with_thin(self._with_maintenance(seen), self._settings or {})

    def look_again(self) -> ClusterResources:
        """The cluster now, with all that is known of storages and nodes."""
        seen = self._view.get(0.0)
        if self._settings is None:
            self._settings = self._client.get_storage_settings()
        return with_thin(self._with_maintenance(seen), self._settings)

    def _with_maintenance(self, seen: ClusterResources) -> ClusterResources:
        """From 9.0 on, the list tells it. Before that we ask HA, once. If we may not ask, no node counts as in it."""
        if len(seen.nodes) < 2 or any(node.maintenance for node in seen.nodes):
            return seen
        if self._maintenance is None:
            try:
                self._maintenance = self._client.list_maintenance()
            except PveRefused:
                self._maintenance = frozenset()
        away = self._maintenance
        return replace(seen, nodes=tuple(replace(node, maintenance=node.name in away) for node in seen.nodes))

    def _placed(self, seen: ClusterResources, *, without: str = "") -> Placed:
        """What the figures do not show yet, and where our machines are: those that exist are where the cluster says."""
        placed = self.reservations.placed(seen.taken)
        peers = []
        for name, (spec, place) in self._standing.items():
            guest = seen.guests.get(place.vmid)
            node, runs = (guest.node, guest.status != "stopped") if guest else (place.node, True)
            peers.append(Peer(name, node, spec.placement, memory_of(spec), runs))
        if not without or without not in self._standing:
            return replace(placed, peers=tuple(peers))
        spec, place = self._standing[without]
        return replace(without_room(spec, place.node, seen, placed), peers=tuple(peers))

    def _choose(self, spec: MachineSpec, wanted: str = "") -> Place:
        """`wanted`: the node to take if the machine fits there."""
        with self._placing:
            seen = self._look([spec])
            described, spec = spec, self._near_its_template(spec)
            placed = self._placed(seen)
            nodes, refused = candidates(spec, seen, placed, reserve=self._reserve)
            must_look = len(nodes) > 1 or spec.install.source in STORED or any(mapped_devices(spec.extra))
            ordered = sorted(nodes, key=lambda node: node.name != wanted)
            node = next((node for node in ordered if not must_look or self._fits(spec, node, seen, refused)), None)
            if node is None:
                raise no_place(spec, refused, crowded=self._fits_alone(spec, seen))
            if spec.install.source is InstallSource.IMAGE:
                self._refuse_larger_image(spec, node)
            if spec.install.source is InstallSource.BACKUP:
                refuse_backup(spec, self._client.get_archive_config(node.name, spec.install.backup or ""))
            used: set[int] = set(seen.guests)
            if spec.vmid is not None and not self._client.is_vmid_free(spec.vmid):
                used.add(spec.vmid)  # by a guest that we may not see
            vmid = self.reservations.take_vmid(spec, used)
            self.reservations.take_room(spec, vmid, node.name, seen)
            place = Place(node.name, vmid)
            self.stand([(described, place)])
        return place

    def _fits_alone(self, spec: MachineSpec, seen: ClusterResources) -> bool:
        """Without what this run has placed."""
        nodes, refused = candidates(spec, seen, Placed(), reserve=self._reserve)
        return any(self._fits(spec, node, seen, refused) for node in nodes)

    def _near_its_template(self, spec: MachineSpec) -> MachineSpec:
        """A clone is made where its template is, or one of its templates, unless the description says where. On shared
        storages, it is made anywhere."""
        if spec.install.source is not InstallSource.TEMPLATE or spec.install.described:
            return spec  # what is described is made where the machine is
        seen = self._look_for_templates(spec)
        if spec.node:
            self._refuse_template(spec, get_template(spec, seen, spec.node))
            return spec
        found = find_templates(spec, seen)
        if len(found) == 1:
            storages = storages_of_clone(spec, self._refuse_template(spec, found[0]))
            anywhere = all(is_shared(seen, found[0].node, storage) for storage in storages)
            return spec if anywhere else spec.model_copy(update={"node": found[0].node})
        near = [one for one in found if is_asked_for(spec, one.node)]
        if not near:
            nodes = ", ".join(one.node for one in found)
            raise PveRefused(
                f"{spec.name}: the template {spec.install.template} is on {nodes}, and on none of the nodes in its"
                " placement",
                hint=f"see {spec.name}.deployment.proxmox.placement.nodes",
            )
        for one in near:
            self._refuse_template(spec, one)
        placement = spec.placement.model_copy(update={"nodes": tuple(one.node for one in near)})
        return spec.model_copy(update={"placement": placement})

    def _refuse_template(self, spec: MachineSpec, template: GuestSeen) -> Mapping[str, str]:
        """Its configuration, if a clone of it can become what is described."""
        config = self._client.get_config(template.node, template.vmid).values
        refuse_template(spec, config)
        return config

    def _refuse_larger_image(self, spec: MachineSpec, node: NodeSeen) -> None:
        volume, content = medium_of(spec)
        if volume:
            size = self._media_on(node.name, storage_of(volume), content).get(volume)
            refuse_larger_image(spec, [size] if size else [])

    def _fits(self, spec: MachineSpec, node: NodeSeen, seen: ClusterResources, refused: dict[str, str]) -> bool:
        why = " and ".join(self._beyond(spec, node, seen))
        if why:
            refused[node.name] = why
        return not why

    def _beyond(self, spec: MachineSpec, node: NodeSeen, seen: ClusterResources) -> Iterator[str]:
        """Why it does not fit, by what the cluster's list does not tell: bridges, processors, mapped devices, files on
        a node's own storage. Each node is asked once."""
        bridges = self._bridges_of(node.name)
        missing = sorted({nic.bridge for nic in spec.network} - set(bridges) - self._awaited(spec, seen))
        if bridges and missing:
            yield f"bridge {', '.join(missing)} is not there (or we lack SDN.Use on it)"
        if is_demanding(spec) and (why := processor_refusal(spec, self._processor_of(node.name))):
            yield why
        yield from self.restrictions.of_devices(spec.extra, node.name)
        volume, content = medium_of(spec)
        storage = storage_of(volume)
        everywhere = content == "iso" and is_shared(seen, node.name, storage)
        if volume and not everywhere and volume not in self._media_on(node.name, storage, content):
            yield f"it does not have {volume}"
        for other in own_volumes(spec):
            there = is_shared(seen, node.name, storage_of(other))
            if not there and other not in self._media_on(node.name, storage_of(other), ""):
                yield f"it does not have {other}"

    def _awaited(self, spec: MachineSpec, seen: ClusterResources) -> set[str]:
        """Vnets that are described, and made before the machine is: no node has them yet."""
        vnets = {nic.bridge for nic in spec.network if nic.network is not None}
        nodes = [node for node in seen.nodes if node.online] if vnets else []
        return vnets - {name for node in nodes for name in self._bridges_of(node.name)}

    def _processor_of(self, node: str) -> Processor:
        if node not in self._processors:
            try:
                self._processors[node] = self._client.get_processor(node)
            except PveRefused:
                self._processors[node] = Processor()  # we may not see it: PVE will say at the start
        return self._processors[node]

    def _bridges_of(self, node: str) -> tuple[str, ...]:
        if node not in self._bridges:
            try:
                self._bridges[node] = self._client.list_bridges(node)
            except PveRefused:
                self._bridges[node] = ()  # not listable: PVE will say at the start
        return self._bridges[node]

    def _media_on(self, node: str, storage: str, content: str) -> Mapping[str, int]:
        """Sizes in bytes by volume ID."""
        key = (node, storage, content)
        if key not in self._media:
            volumes = self._client.list_volumes(node, storage, content)
            self._media[key] = {volume.volid: volume.size for volume in volumes}
        return self._media[key]


def _most_demanding_first(spec: MachineSpec) -> tuple[bool, int, int, int, str]:
    """Those that can go to few nodes only, then the largest: small ones fit into what these leave."""
    few = len(spec.placement.nodes) or 1 << 16
    return spec.node is None, few, -memory_of(spec), -sum(space_wanted(spec).values()), spec.name
