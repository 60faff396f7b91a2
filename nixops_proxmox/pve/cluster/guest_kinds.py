"""What differs between PVE's two kinds of guests, for the code that serves both."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nixops_proxmox.pve.vm.held import HeldVolume, held_by_container, held_by_vm
from nixops_proxmox.pve.vm.identity import is_ours, marked_by, marked_uuid, uuid_of


@dataclass(frozen=True)
class GuestKind:
    """`type`: PVE's word in its lists. `word`: ours. `prefix`: before the types of its tasks. `uuid_of` and `is_ours`
    read a configuration, and `holds` which volumes it has. `content`: what storages must take for these. `makers`: the
    types of tasks that make one."""

    type: str
    word: str
    prefix: str
    uuid_of: Callable[[Mapping[str, str]], str]
    is_ours: Callable[[Mapping[str, str], str], bool]
    makers: tuple[str, ...]
    others_archives: str  # in the names of archives of the other kind, which may be of the same VMID
    content: str
    holds: Callable[[Mapping[str, str]], Sequence[HeldVolume]]

    @property
    def starters(self) -> frozenset[str]:
        """The types of tasks that start one."""
        return frozenset({f"{self.prefix}start", f"{self.prefix}reboot", "hastart"})

    def task(self, of_vms: str) -> str:
        """What PVE calls a task of this kind that does what this one does to VMs."""
        if self.prefix == "qm" or not of_vms.startswith("qm"):
            return of_vms
        return "vzmigrate" if of_vms == "qmigrate" else self.prefix + of_vms.removeprefix("qm")


VMS = GuestKind(
    "qemu", "VM", "qm", uuid_of, is_ours, ("qmcreate", "qmrestore", "qmclone"), r"backup/(vzdump-lxc-|ct/)",
    "images", held_by_vm,
)  # fmt: skip
# A container has no SMBIOS: the mark in its notes says whose it is.
CONTAINERS = GuestKind(
    "lxc", "container", "vz", marked_uuid, marked_by, ("vzcreate", "vzrestore", "vzclone"),
    r"backup/(vzdump-qemu-|vm/)", "rootdir", held_by_container,
)  # fmt: skip
