"""Choosing places one after another, so that the machines of a fleet do not all choose the same."""

import threading

from nixops_proxmox.errors import PveRefused
from nixops_proxmox.model import Place
from nixops_proxmox.pve.answers import NodeSeen, Resources
from nixops_proxmox.pve.client import PveClient
from nixops_proxmox.pve.placement import Reservations, candidates, is_shared, no_place
from nixops_proxmox.pve.properties import storage_of
from nixops_proxmox.pve.view import VIEW_AGE, ClusterView
from nixops_proxmox.spec import MachineSpec


class Placer:
    """`reserve`: bytes of memory to leave free on each node."""

    def __init__(self, client: PveClient, view: ClusterView, reservations: Reservations, reserve: int) -> None:
        self._client, self._view, self.reservations, self._reserve = client, view, reservations, reserve
        self._placing = threading.Lock()
        self._bridges: dict[str, tuple[str, ...]] = {}
        self._isos: dict[tuple[str, str], frozenset[str]] = {}

    def forget_isos(self, node: str, storage: str) -> None:
        """A file was put there."""
        self._isos.pop((node, storage), None)

    def choose(self, spec: MachineSpec) -> Place:
        """A node that fits (PveRefused says of each why not) and a VMID that was free a moment ago."""
        with self._placing:
            seen = self._view.get(VIEW_AGE)
            placed = self.reservations.placed(seen.taken)
            nodes, refused = candidates(spec, seen, placed, reserve=self._reserve)
            node = next((node for node in nodes if len(nodes) == 1 or self._fits(spec, node, seen, refused)), None)
            if node is None:
                raise no_place(spec, refused)
            used: set[int] = set(seen.guests)
            if spec.vmid is not None and not self._client.is_vmid_free(spec.vmid):
                used.add(spec.vmid)  # by a guest that we may not see
            vmid = self.reservations.take_vmid(spec, used)
            self.reservations.take_room(spec, vmid, node.name, seen)
        return Place(node.name, vmid)

    def _fits(self, spec: MachineSpec, node: NodeSeen, seen: Resources, refused: dict[str, str]) -> bool:
        """What the cluster's list does not tell: bridges, and an ISO on a node's own storage. Asked once for a node."""
        bridges = self._bridges_of(node.name)
        missing = sorted({nic.bridge for nic in spec.network} - set(bridges))
        if bridges and missing:
            refused[node.name] = f"bridge {', '.join(missing)} is not there (or we lack SDN.Use on it)"
            return False
        iso = spec.install.iso or ""
        storage = storage_of(iso)
        if storage and not is_shared(seen, node.name, storage) and iso not in self._isos_on(node.name, storage):
            refused[node.name] = f"it does not have {iso}"
            return False
        return True

    def _bridges_of(self, node: str) -> tuple[str, ...]:
        if node not in self._bridges:
            try:
                self._bridges[node] = self._client.list_bridges(node)
            except PveRefused:
                self._bridges[node] = ()  # not listable: PVE will say at the start
        return self._bridges[node]

    def _isos_on(self, node: str, storage: str) -> frozenset[str]:
        if (node, storage) not in self._isos:
            volumes = self._client.list_volumes(node, storage, "iso")
            self._isos[node, storage] = frozenset(volume.volid for volume in volumes)
        return self._isos[node, storage]
