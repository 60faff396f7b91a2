"""What a template needs from outside."""

from collections.abc import Collection, Sequence
from typing import Protocol

from nixops_proxmox.core.ports import NoteTask
from nixops_proxmox.pve.cluster.template_store import Blueprint, TemplateFound
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.spec.template import TemplateSpec


class TemplateKeeper(Protocol):
    """The templates of a cluster."""

    def find(self, spec: TemplateSpec, mark: str, vmids: Collection[int], /) -> Sequence[TemplateFound]:
        """All that bear our mark, and whose UUID shows that no clone has inherited it. `vmids`: where they may be,
        beside those that are called like it."""
        ...

    def find_node(self, machine: MachineSpec, /) -> str:
        """Where the machine, which is not made yet, is going to be; empty: it has no place."""
        ...

    def settle(self, node: str, vmid: int, /) -> None:
        """Wait for the tasks that work on this VM now, whatever comes of them."""
        ...

    def find_task(self, node: str, vmid: int, /) -> str:
        """The UPID of a task that works on this VM now; empty: none does."""
        ...

    def propose(self, spec: TemplateSpec, node: str, /) -> int:
        """A VMID that is free now. StateError if a template of that name on the node is not ours."""
        ...

    def make(self, plan: Blueprint, note: NoteTask, /) -> None:
        """Make the VM of the image, and wait. VmidTaken if somebody else was faster."""
        ...

    def finish(self, found: TemplateFound, note: NoteTask, /) -> None:
        """Wait until the VM is made, and make it a template; fine if it is one."""
        ...

    def rename(self, found: TemplateFound, name: str, /) -> None: ...

    def delete(self, found: TemplateFound, note: NoteTask, /) -> None:
        """With its disk; fine if it is gone."""
        ...


class Sources(Protocol):
    """The images that templates are made of."""

    def digest_of_template(self, spec: TemplateSpec, /) -> str:
        """16 hex digits that follow from the image's content and the template's hardware. ConfigError for an image that
        cannot be used."""
        ...

    def put_for_template(self, spec: TemplateSpec, node: str, /) -> str:
        """The image's volume on the node, uploaded if it is a file here and not there yet."""
        ...
