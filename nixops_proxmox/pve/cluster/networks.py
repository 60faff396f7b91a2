"""Vnets of PVE's SDN, with their zones and subnets: what is configured, what waits, and what the nodes have of it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from nixops_proxmox.errors import PveRefused
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.api.versions import Release

FIRST = Release(8, 1)
LOCKING = Release(9, 0)
RELOAD = "srvreload"


class NetworkStore:
    """Satisfies `kinds.network.kind.NetworkStore`."""

    def __init__(self, client: PveClient, release: Callable[[], Release]) -> None:
        self._client, self._release = client, release

    def why_not(self) -> str:
        """Why this PVE has no networks of ours; "" if it may have some."""
        release = self._release()
        return "" if release >= FIRST else f"PVE {release} has no SDN by itself: it comes with {FIRST}"

    def waiting(self) -> Mapping[tuple[str, str], str]:
        """What is configured and not applied: kind and name, and new, changed or deleted."""
        return dict(self._waiting())

    def _waiting(self) -> Iterator[tuple[tuple[str, str], str]]:
        for kind in ("zone", "vnet"):
            for section in self._client.list_sdn(f"{kind}s", pending=True):
                if "state" in section:
                    yield (kind, str(section[kind])), str(section["state"])
        for vnet in self._client.list_sdn("vnets"):
            for section in self._client.list_subnets(str(vnet["vnet"]), pending=True):
                if "state" in section:
                    yield ("subnet", str(section["subnet"])), str(section["state"])

    def find(self, kind: str, name: str, /) -> Mapping[str, Any] | None:
        """A zone or a vnet as it is configured."""
        return next((one for one in self._client.list_sdn(f"{kind}s") if one[kind] == name), None)

    def leaving(self, vnet: str, /) -> Mapping[str, Any] | None:
        """A vnet that is deleted, and whose deletion is not applied."""
        sections = self._client.list_sdn("vnets", pending=True)
        return next((one for one in sections if one["vnet"] == vnet and one.get("state") == "deleted"), None)

    def subnets(self, vnet: str, /) -> Mapping[str, Mapping[str, Any]]:
        """By PVE's id."""
        return {str(one["subnet"]): one for one in self._client.list_subnets(vnet)}

    # Writing. `token` is the lock's, "" where this PVE has none.

    def add(self, kind: str, values: Mapping[str, Any], token: str, /) -> None:
        """Safe to repeat: PVE refuses a second one of the name, which is what we ask for."""
        with_lock = {**values, **_token(token)}
        try:
            self._client.add_sdn(kind, with_lock)
        except PveRefused as error:
            if "already defined" not in error.message:
                raise

    def change(self, kind: str, name: str, values: Mapping[str, Any], token: str, /, *, vnet: str = "") -> None:
        self._client.change_sdn(kind, name, {**values, **_token(token)}, vnet=vnet)

    def remove(self, kind: str, name: str, token: str, /, *, vnet: str = "") -> None:
        """Safe to repeat: one that is gone needs nothing."""
        try:
            self._client.remove_sdn(kind, name, _token(token), vnet=vnet)
        except PveRefused as error:
            if "does not exist" not in error.message:
                raise

    def lock(self) -> str:
        """Others can change nothing of SDN from now on. "" where this PVE has no such lock."""
        return self._client.lock_sdn() if self._release() >= LOCKING else ""

    def unlock(self, token: str, /) -> None:
        """Give our lock back. One that is gone, or another's, is left as it is."""
        with suppress(PveRefused):
            self._client.unlock_sdn(token)

    def break_lock(self) -> None:
        if self._release() >= LOCKING:
            self._client.unlock_sdn(None)

    def apply(self, token: str, /) -> str:
        """All that waits, on all nodes; a UPID. The lock is free afterwards."""
        return self._client.apply_sdn(_token(token))

    def behind(self, zone: str, /) -> Mapping[str, str]:
        """The nodes that have not taken over what runs in the zone, and how it stands there."""
        found = {}
        for node in self._client.list_online_nodes():
            status = self._client.list_zone_status(node).get(zone, "available")
            if status != "available":
                found[node] = status
        return found

    def reloading(self) -> Mapping[str, str]:
        """The nodes whose networks are being reloaded now. A zone that is gone is in no node's list any more, so that
        only these tasks tell whether the nodes have done it."""
        nodes = self._client.list_online_nodes()
        busy = (one for one in nodes if any(task.running for task in self._client.list_tasks(one, kind=RELOAD)))
        return dict.fromkeys(busy, "reloading")


def _token(token: str) -> dict[str, str]:
    return {"lock-token": token} if token else {}
