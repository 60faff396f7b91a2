"""Choosing places one after another, so that the machines of a fleet do not all choose the same."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nixops_proxmox.errors import DeployError, NoPlace, PveRefused, SpecError
from nixops_proxmox.model import Place
from nixops_proxmox.pve.api.answers import ClusterResources, GuestSeen, NodeSeen
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.cluster.placement import (
    Placed,
    Reservations,
    candidates,
    is_shared,
    memory_of,
    no_place,
    not_made,
    overcommitted,
    space_wanted,
)
from nixops_proxmox.pve.cluster.thin import depends_on_settings, with_thin
from nixops_proxmox.pve.cluster.view import VIEW_AGE, ClusterView
from nixops_proxmox.pve.vm.copies import get_template, medium_of, refuse_larger_image, refuse_template
from nixops_proxmox.pve.wire.properties import storage_of
from nixops_proxmox.spec import InstallSource, MachineSpec


class Placer:
    """`reserve`: bytes of memory to leave free on each node."""

    def __init__(self, client: PveClient, view: ClusterView, reservations: Reservations, reserve: int) -> None:
        self._client, self._view, self.reservations, self._reserve = client, view, reservations, reserve
        self._placing = threading.Lock()
        self._bridges: dict[str, tuple[str, ...]] = {}
        self._media: dict[tuple[str, str, str], Mapping[str, int]] = {}
        self._settings: Mapping[str, Mapping[str, Any]] | None = None  # of storages, once they were asked for
        self._chosen: dict[str, tuple[MachineSpec, Place]] = {}  # for the fleet, before anything was made

    def forget_media(self, node: str, storage: str, content: str) -> None:
        """A file came or went."""
        self._media.pop((node, storage, content), None)

    def get_template(self, spec: MachineSpec) -> GuestSeen:
        """The template as the cluster's list has it. If the list does not have it, we ask for the list again."""
        try:
            return get_template(spec, self._view.get(VIEW_AGE))
        except PveRefused:
            return get_template(spec, self._view.get(0.0))

    def choose_all(self, specs: Sequence[MachineSpec]) -> tuple[Mapping[str, DeployError], Sequence[str]]:
        """Places for all new machines before the first is made: (errors by name, warnings). If they do not fit
        together, none gets one; one that would not fit even by itself does not hold up the others. `choose`
        hands them out."""
        errors: dict[str, DeployError] = {}
        for spec in sorted(specs, key=_most_demanding_first):
            try:
                self._chosen[spec.name] = (spec, self._choose(spec))
            except (PveRefused, SpecError) as error:
                errors[spec.name] = error
            except DeployError:
                break  # PVE does not answer as it should: this one and the rest meet it when they are worked on
        without = [name for name, error in errors.items() if isinstance(error, NoPlace)]
        if not without:
            seen = self._look(specs)
            return errors, overcommitted(seen, self.reservations.placed(seen.taken))
        for name, (_, place) in self._chosen.items():
            self.reservations.give_back(place.vmid)
            errors[name] = not_made(name, without)
        self._chosen.clear()
        return errors, ()

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
        self.reservations.give_back(chosen[1].vmid)
        return self._choose(spec)

    def hold(self, spec: MachineSpec, place: Place) -> None:
        """Keep a place that an earlier run chose: while there is no VM, PVE's figures do not show its room."""
        seen = self._look([spec])
        if place.vmid not in seen.guests:
            self.reservations.take_room(spec, place.vmid, place.node, seen)

    def _still_good(self, place: Place) -> bool:
        """Building may have taken long since."""
        seen = self._view.get(VIEW_AGE)
        return place.vmid not in seen.guests and any(node.name == place.node and node.online for node in seen.nodes)

    def _look(self, specs: Iterable[MachineSpec]) -> ClusterResources:
        """The cluster, each storage marked thin or not; their settings are asked for once, and only if needed."""
        seen = self._view.get(VIEW_AGE)
        names = {name for spec in specs for name in space_wanted(spec)}
        if self._settings is None and depends_on_settings(seen.storages, names):
            self._settings = self._client.get_storage_settings()
        return with_thin(seen, self._settings or {})

    def _choose(self, spec: MachineSpec) -> Place:
        with self._placing:
            seen = self._look([spec])
            spec = self._near_its_template(spec)
            placed = self.reservations.placed(seen.taken)
            nodes, refused = candidates(spec, seen, placed, reserve=self._reserve)
            must_look = len(nodes) > 1 or spec.install.source is InstallSource.IMAGE
            node = next((node for node in nodes if not must_look or self._fits(spec, node, seen, refused)), None)
            if node is None:
                raise no_place(spec, refused, crowded=self._fits_alone(spec, seen))
            if spec.install.source is InstallSource.IMAGE:
                self._refuse_larger_image(spec, node)
            used: set[int] = set(seen.guests)
            if spec.vmid is not None and not self._client.is_vmid_free(spec.vmid):
                used.add(spec.vmid)  # by a guest that we may not see
            vmid = self.reservations.take_vmid(spec, used)
            self.reservations.take_room(spec, vmid, node.name, seen)
        return Place(node.name, vmid)

    def _fits_alone(self, spec: MachineSpec, seen: ClusterResources) -> bool:
        """Without what this run has placed."""
        nodes, refused = candidates(spec, seen, Placed(), reserve=self._reserve)
        return any(self._fits(spec, node, seen, refused) for node in nodes)

    def _near_its_template(self, spec: MachineSpec) -> MachineSpec:
        """A clone is made where its template is, unless the description says where."""
        if spec.install.source is not InstallSource.TEMPLATE:
            return spec
        template = self.get_template(spec)
        refuse_template(spec, self._client.get_config(template.node, template.vmid).values)
        return spec if spec.node else spec.model_copy(update={"node": template.node})

    def _refuse_larger_image(self, spec: MachineSpec, node: NodeSeen) -> None:
        volume, content = medium_of(spec)
        if volume:
            size = self._media_on(node.name, storage_of(volume), content).get(volume)
            refuse_larger_image(spec, [size] if size else [])

    def _fits(self, spec: MachineSpec, node: NodeSeen, seen: ClusterResources, refused: dict[str, str]) -> bool:
        """What the cluster's list does not tell: bridges, media on a node's own storage. Asked once for a node."""
        bridges = self._bridges_of(node.name)
        missing = sorted({nic.bridge for nic in spec.network} - set(bridges))
        if bridges and missing:
            refused[node.name] = f"bridge {', '.join(missing)} is not there (or we lack SDN.Use on it)"
            return False
        volume, content = medium_of(spec)
        storage = storage_of(volume)
        if not volume or (content == "iso" and is_shared(seen, node.name, storage)):
            return True
        if volume not in self._media_on(node.name, storage, content):
            refused[node.name] = f"it does not have {volume}"
            return False
        return True

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


def _most_demanding_first(spec: MachineSpec) -> tuple[bool, int, int, str]:
    """Those that can go to one node only, then the largest: small ones fit into what these leave."""
    return spec.node is None, -memory_of(spec), -sum(space_wanted(spec).values()), spec.name
