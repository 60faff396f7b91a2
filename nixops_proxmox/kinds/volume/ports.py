"""What a volume needs from outside."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from nixops_proxmox.core.ports import Clock, NoteTask, Reporter
from nixops_proxmox.kinds.volume.facts import Volume, VolumeFacts
from nixops_proxmox.model import Spot, VmRef
from nixops_proxmox.spec import VolumeSpec


class DiskStore(Protocol):
    """The disks of a cluster's VMs; of its containers, the mount points. A disk is a volume if it has the volume's
    serial. Each effect tells its task's UPID and waits; PVE refuses it if one of the two configurations changed since
    it was looked at."""

    def find(self, serial: str, near: Collection[int], /) -> Spot | None:
        """The disk with this serial. `near`: VMIDs that are looked at first; then every VM that we may see is.
        StateError where two VMs have such a disk."""
        ...

    def drives(self, vm: VmRef, /) -> Mapping[str, Spot]:
        """The disks that the VM has, by slot, detached ones too; empty if the VM is gone or is another one."""
        ...

    def runs(self, vm: VmRef, /) -> bool:
        """Does the VM run now?"""
        ...

    def keeps_volumes(self, vm: VmRef, /) -> bool:
        """Is it a VM that we made to keep volumes, by what its notes say?"""
        ...

    def propose_parker(self, uuid: str, node: str, /) -> VmRef:
        """A VMID that is free now for a new parker, on the node."""
        ...

    def make_parker(self, parker: VmRef, owner: str, storage: str, note: NoteTask, /) -> VmRef:
        """Make the VM that keeps volumes, unless it is there; where it is now. VmidTaken if another VM has its VMID.
        `storage`: of the root that a container must have."""
        ...

    def find_slot(self, vm: VmRef, besides: Collection[str], /, *, last: bool) -> str:
        """A free slot, the first or the last; empty: it is full. `besides`: slots that are free and not ours."""
        ...

    def allocate(self, parker: VmRef, slot: str, spec: VolumeSpec, serial: str, note: NoteTask, /) -> None:
        """Make an empty disk in the slot."""
        ...

    def move(self, spot: Spot, target: VmRef, slot: str, note: NoteTask, /) -> None:
        """Make the disk the target's, in that slot."""
        ...

    def mark(self, vm: VmRef, slot: str, spec: VolumeSpec, serial: str, note: NoteTask, /) -> None:
        """Give the disk in the slot the volume's serial and options, which it lost when it was detached."""
        ...

    def grow(self, spot: Spot, size: int, note: NoteTask, /) -> None: ...

    def bring(self, parker: VmRef, node: str, note: NoteTask, /) -> VmRef:
        """Move the VM that keeps volumes to the node; it does not run, so only its configuration moves. PveRefused if
        its disks are on a storage of one node."""
        ...

    def delete(self, spot: Spot, note: NoteTask, /) -> None:
        """Delete the disk with its data."""
        ...

    def guard(self, parker: VmRef, /) -> None:
        """Protect what keeps volumes, if a run that was killed has left it unprotected. Does nothing if it is gone."""
        ...

    def drop_parker(self, parker: VmRef, note: NoteTask, /) -> None:
        """Destroy a VM that keeps volumes, and keeps none now. Does nothing if it keeps one, or is gone."""
        ...

    def wait_for_task(self, upid: str, /) -> None: ...

    def find_task(self, vmids: Collection[int], kind: str, /) -> str:
        """The UPID of a task of that type that works on one of these VMs now; empty: none does."""
        ...


@dataclass(frozen=True)
class World:
    """Everything outside, for one volume. `node`: where a new one is made; `parkers`: the VMs that keep volumes of this
    deployment and hypervisor; `roomy`: those of them that keep volumes of the same storage; `target`: the machine's VM
    that it is wanted in; `taken`: slots that the machine's description uses; `mint`: makes a new UUID;
    `disk`: the disk of `target` that becomes the volume."""

    spec: VolumeSpec
    serial: str
    store: DiskStore
    clock: Clock
    reporter: Reporter[Volume]
    mint: Callable[[], str]
    node: str = ""
    parkers: Sequence[VmRef] = ()
    roomy: Sequence[VmRef] = ()
    target: VmRef | None = None
    machine: str = ""
    taken: Collection[str] = ()
    disk: Spot | None = None

    @property
    def word(self) -> str:
        """What has the volume attached."""
        return "container" if self.spec.is_container else "VM"

    @property
    def move_task(self) -> str:
        """PVE's type of the task that makes a disk another VM's."""
        return "move_volume" if self.spec.is_container else "qmmove"

    def wait_for_task(self, upid: str) -> None:
        self.store.wait_for_task(upid)

    def find_task(self, facts: VolumeFacts, kind: str) -> str:
        return self.store.find_task({facts.vmid, facts.parker_vmid} - {0}, kind)
