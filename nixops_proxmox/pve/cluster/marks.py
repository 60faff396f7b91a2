"""Who says on the cluster that it is a machine of ours, though no record knows it."""

import threading
from collections.abc import Callable, Collection, Mapping

from nixops_proxmox.errors import NotFound
from nixops_proxmox.model import Bearer
from nixops_proxmox.pve.api.answers import GuestSeen
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.cluster.guest_kinds import VMS
from nixops_proxmox.pve.cluster.view import VIEW_AGE, ClusterView
from nixops_proxmox.pve.vm.identity import TAG, Mark, find_mark, uuid_of
from nixops_proxmox.pve.vm.requests import dns_name
from nixops_proxmox.pve.wire.refusals import WrongPlace

TRUST = 120.0  # seconds for which a mark that was read is believed: time enough for all machines of a fleet


class Marks:
    """Finds marks, for all threads. The list of guests is read anyway. Of the configurations, it reads only those that
    the list cannot rule out, each once: guests with our tag or the machine's name that no record knows."""

    def __init__(self, client: PveClient, view: ClusterView, clock: Callable[[], float]) -> None:
        self._client, self._view, self._clock = client, view, clock
        self._lock = threading.Lock()  # threads that wait need the same answers
        self._read: dict[int, tuple[float, Mark | None]] = {}

    def find(self, deployment: str, machine: str, besides: Collection[int]) -> list[Bearer]:
        """Those that bear this machine's mark. `besides`: VMIDs of VMs that are known already."""
        found = []
        with self._lock:
            for guest in self._view.get(VIEW_AGE).guests.values():
                if guest.vmid in besides or not _may_be(guest, machine):
                    continue
                mark = self._mark_of(guest)
                if mark is not None and (mark.deployment, mark.machine) == (deployment, machine):
                    found.append(Bearer(guest.vmid, guest.node, mark.uuid.lower()))
        return found

    def _mark_of(self, guest: GuestSeen) -> Mark | None:
        """None for a copy, too, because its notes have another VM's UUID."""
        read, mark = self._read.get(guest.vmid, (float("-inf"), None))
        if self._clock() - read < TRUST:
            return mark
        try:
            config = self._config_of(guest)
        except (NotFound, WrongPlace):
            config = dict[str, str]()  # it no longer exists
        mark = find_mark(config.get("description", ""))
        if mark is not None and guest.kind == VMS.type and uuid_of(config) != mark.uuid.lower():
            mark = None
        self._read[guest.vmid] = (self._clock(), mark)
        return mark

    def _config_of(self, guest: GuestSeen) -> Mapping[str, str]:
        if guest.kind == VMS.type:
            return self._client.get_config(guest.node, guest.vmid).values
        return self._client.get_container_config(guest.node, guest.vmid)


def _may_be(guest: GuestSeen, machine: str) -> bool:
    named = guest.name.lower() == dns_name(machine).lower()
    return not guest.template and (TAG in guest.tags or named)
