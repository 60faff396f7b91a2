"""PVE's own address book: who has which address on a vnet. Its DHCP server gives a NIC the one that it has there.

An entry has no room for a mark. PVE itself takes a free address when a VM is made, and gives it back at the VM's end.
The entry with the MAC of a machine of ours is ours.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property

from nixops_proxmox.errors import ConfigError, RouterError
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.cluster.hypervisor import open_hypervisor
from nixops_proxmox.pve.wire.calls import HttpMethod
from nixops_proxmox.routers.profile import RouterProfile
from nixops_proxmox.routers.reservation import Reservation


class AddressBook:
    """`vnet`: of which it is. `profile`: the hypervisor's."""

    marks = False

    def __init__(self, profile: RouterProfile, client: PveClient | None = None) -> None:
        self._profile, self._vnet, self._stack = profile, profile.setting("vnet"), ExitStack()
        if not self._vnet:
            raise ConfigError(f"{profile.title}: `vnet` must name the vnet whose addresses they are")
        if client is None:
            client = self._stack.enter_context(open_hypervisor(profile.setting("profile", "default"))).client
        self._client = client

    def close(self) -> None:
        self._stack.close()

    def read(self) -> Sequence[Reservation]:
        """One entry for each MAC. The gateway's has none, and is left out."""
        found: dict[str, Reservation] = {}
        for mac, address in self._entries():
            before = found.get(mac, Reservation("", mac))
            v4, v6 = (before.ipv4, address) if ":" in address else (address, before.ipv6)
            found[mac] = Reservation("", mac, v4, v6)
        return list(found.values())

    def agrees(self, have: Reservation, want: Reservation) -> bool:
        """PVE takes addresses of its own for what is not described."""
        return have.mac == want.mac and want.ipv4 in ("", have.ipv4) and want.ipv6 in ("", have.ipv6)

    def put(self, wanted: Sequence[Reservation]) -> None:
        """Safe to repeat: what is there as it should be is left alone. Machines of ours that change their addresses
        with one another give them back first."""
        there = set(self._entries())
        missing = [
            (one, address)
            for one in wanted
            for address in (one.ipv4, one.ipv6)
            if address and (one.mac, address) not in there
        ]
        holders = {address: mac for mac, address in there}
        macs = {one.mac for one in wanted}
        for _, address in missing:
            if holders.get(address, "") in macs:
                self._change("DELETE", holders[address], address)
                there.discard((holders[address], address))
        for one, address in missing:
            moved = any(mac == one.mac and (":" in other) == (":" in address) for mac, other in there)
            self._change("PUT" if moved else "POST", one.mac, address)

    def drop(self, gone: Sequence[Reservation]) -> None:
        """Safe to repeat: PVE itself may have given them back."""
        macs = {one.mac for one in gone}
        for mac, address in list(self._entries()):
            if mac in macs:
                self._change("DELETE", mac, address)

    def settle(self) -> None:
        """An entry acts at the machine's next start."""

    def _entries(self) -> Iterator[tuple[str, str]]:
        """MAC and address."""
        for one in self._client.list_ips():
            if one.get("vnet") == self._vnet and one.get("mac"):
                yield str(one["mac"]).lower(), str(one["ip"])

    @cached_property
    def _zone(self) -> str:
        zone = self._client.list_vnets().get(self._vnet)
        if zone is None:
            raise RouterError(f"{self._profile.title}: there is no vnet {self._vnet}, or it may not be seen")
        return zone

    def _change(self, method: HttpMethod, mac: str, address: str) -> None:
        self._client.change_ip(method, self._vnet, self._zone, mac, address)
