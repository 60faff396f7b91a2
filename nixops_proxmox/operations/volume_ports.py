"""What the keeper of volumes needs from outside."""

from collections.abc import Sequence
from typing import Any, Protocol

from nixops_proxmox.core.ports import Journal
from nixops_proxmox.kinds.volume.ports import DiskStore
from nixops_proxmox.model import Facts, Vm
from nixops_proxmox.pve.api.answers import ClusterResources, ConfigSeen
from nixops_proxmox.state import Stored


class VolumeCluster(Protocol):
    """As much of a hypervisor as volumes need."""

    @property
    def volume_store(self) -> DiskStore: ...
    def resources(self) -> ClusterResources: ...
    def find_vm(self, facts: Facts) -> Vm | None: ...
    def config_in_snapshot(self, facts: Facts, name: str) -> ConfigSeen: ...


class Clusters(Protocol):
    """The hypervisor of a profile: for its VMs, or for its containers."""

    def __call__(self, name: str, /, *, container: bool) -> VolumeCluster: ...


class VolumeRecord(Protocol):
    """As much of a deployment's record."""

    @property
    def name(self) -> str: ...
    @property
    def identity(self) -> str:
        """What the serials of its volumes follow from."""
        ...

    def stored(self, kind: str) -> Sequence[Stored]: ...
    def journal(self, lease: Any = None) -> Journal[Any]: ...
    def forget(self, name: str, lease: Any = None, *, kind: str = "machine") -> None: ...
