"""What a node sees of a container from outside. It stands where a VM has its agent: only for addresses."""

from collections.abc import Sequence
from typing import Protocol

from nixops_proxmox.core.ports import Clock
from nixops_proxmox.errors import PveBusy, PveOutcomeUnknown, PveUnreachable
from nixops_proxmox.guest.agent import Growth, RealClock
from nixops_proxmox.pve.api.answers import AgentInterface

NOT_NOW = (PveBusy, PveUnreachable, PveOutcomeUnknown)
PAUSE = 1.0


class HostApi(Protocol):
    """The one call that it needs. `pve.api.containers.ContainerClient` has it."""

    def get_interfaces(self, node: str, vmid: int) -> tuple[AgentInterface, ...]: ...


class HostView:
    """The network of one container, as its node sees it: it can be believed, because no guest tells it."""

    def __init__(self, api: HostApi, node: str, vmid: int, *, sees: bool, clock: Clock | None = None) -> None:
        """`sees`: can this release look into containers at all? (8.0)"""
        self._api, self._at, self._sees, self._clock = api, (node, vmid), sees, clock or RealClock()

    def wait_for_interfaces(self, timeout: float, growth: Growth | None = None) -> Sequence[AgentInterface]:
        """Wait until there is an address that others can reach; then, or when the time is over, what there is."""
        del growth
        deadline = self._clock.now() + timeout
        while True:  # safe to repeat: it only looks
            found = self.interfaces()
            if not self._sees or any(has_address(one) for one in found) or self._clock.now() >= deadline:
                return found
            self._clock.sleep(PAUSE)

    def interfaces(self, *, again: bool = False) -> Sequence[AgentInterface]:
        """Nothing where the release cannot tell; then the addresses of the description are all that there is."""
        del again
        if not self._sees:
            return ()
        try:
            return self._api.get_interfaces(*self._at)
        except NOT_NOW:
            return ()

    def is_booting(self) -> bool:
        """The node cannot tell: a container that runs may still be starting its services."""
        return False


def has_address(interface: AgentInterface) -> bool:
    return interface.name != "lo" and any(not ip.is_link_local for ip, _ in interface.addresses)
