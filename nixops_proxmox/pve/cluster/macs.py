"""Which MACs the cluster's VMs and containers have."""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from nixops_proxmox.errors import NotFound
from nixops_proxmox.pve.api.answers import GuestSeen
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.cluster.guest_kinds import CONTAINERS, VMS
from nixops_proxmox.pve.wire.properties import macs_of
from nixops_proxmox.pve.wire.refusals import WrongPlace

SIDE_BY_SIDE = 8  # configurations that are read at once


def find_macs(client: PveClient, guests: Collection[GuestSeen], ours: Collection[str]) -> dict[str, str]:
    """By MAC, upper case: `VM 104 (gitea) on pve1`. Every configuration is read, because no list has them. VMs with one
    of these UUIDs are left out."""

    def read(guest: GuestSeen) -> dict[str, str]:
        try:
            if guest.kind == CONTAINERS.type:
                kind, config = CONTAINERS, client.get_container_config(guest.node, guest.vmid)
            else:
                kind, config = VMS, client.get_config(guest.node, guest.vmid).values
        except (NotFound, WrongPlace):
            return {}  # it no longer exists, or has moved, with the MACs of before
        if kind.uuid_of(config) in ours:
            return {}
        title = f"{kind.word} {guest.vmid} ({guest.name or 'no name'}) on {guest.node}"
        return {mac.upper(): title for mac in macs_of(config) if mac}

    with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="macs") as threads:
        found = list(threads.map(read, guests))
    return {mac: title for one in found for mac, title in one.items()}
