"""Choosing places one after another, so that the machines of a fleet do not all choose the same."""

import threading
from collections.abc import Mapping

from nixops_proxmox.errors import PveRefused
from nixops_proxmox.model import Place
from nixops_proxmox.pve.answers import GuestSeen, NodeSeen, Resources
from nixops_proxmox.pve.client import PveClient
from nixops_proxmox.pve.copies import get_template, medium_of, refuse_larger_image, refuse_template
from nixops_proxmox.pve.placement import Reservations, candidates, is_shared, no_place
from nixops_proxmox.pve.properties import storage_of
from nixops_proxmox.pve.view import VIEW_AGE, ClusterView
from nixops_proxmox.spec import MachineSpec, Source


class Placer:
    """`reserve`: bytes of memory to leave free on each node."""

    def __init__(self, client: PveClient, view: ClusterView, reservations: Reservations, reserve: int) -> None:
        self._client, self._view, self.reservations, self._reserve = client, view, reservations, reserve
        self._placing = threading.Lock()
        self._bridges: dict[str, tuple[str, ...]] = {}
        self._media: dict[tuple[str, str, str], Mapping[str, int]] = {}

    def forget_media(self, node: str, storage: str, content: str) -> None:
        """A file was put there."""
        self._media.pop((node, storage, content), None)

    def get_template(self, spec: MachineSpec) -> GuestSeen:
        """As the cluster's list has it; a list that does not have it is asked for anew."""
        try:
            return get_template(spec, self._view.get(VIEW_AGE))
        except PveRefused:
            return get_template(spec, self._view.get(0.0))

    def choose(self, spec: MachineSpec) -> Place:
        """A node that fits (PveRefused says of each why not) and a VMID that was free a moment ago."""
        with self._placing:
            seen = self._view.get(VIEW_AGE)
            spec = self._near_its_template(spec)
            placed = self.reservations.placed(seen.taken)
            nodes, refused = candidates(spec, seen, placed, reserve=self._reserve)
            must_look = len(nodes) > 1 or spec.install.source is Source.IMAGE
            node = next((node for node in nodes if not must_look or self._fits(spec, node, seen, refused)), None)
            if node is None:
                raise no_place(spec, refused)
            if spec.install.source is Source.IMAGE:
                self._refuse_larger_image(spec, node)
            used: set[int] = set(seen.guests)
            if spec.vmid is not None and not self._client.is_vmid_free(spec.vmid):
                used.add(spec.vmid)  # by a guest that we may not see
            vmid = self.reservations.take_vmid(spec, used)
            self.reservations.take_room(spec, vmid, node.name, seen)
        return Place(node.name, vmid)

    def _near_its_template(self, spec: MachineSpec) -> MachineSpec:
        """A clone is made where its template is, unless the description says where."""
        if spec.install.source is not Source.TEMPLATE:
            return spec
        template = self.get_template(spec)
        refuse_template(spec, self._client.get_config(template.node, template.vmid).values)
        return spec if spec.node else spec.model_copy(update={"node": template.node})

    def _refuse_larger_image(self, spec: MachineSpec, node: NodeSeen) -> None:
        volume, content = medium_of(spec)
        if volume:
            size = self._media_on(node.name, storage_of(volume), content).get(volume)
            refuse_larger_image(spec, [size] if size else [])

    def _fits(self, spec: MachineSpec, node: NodeSeen, seen: Resources, refused: dict[str, str]) -> bool:
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
