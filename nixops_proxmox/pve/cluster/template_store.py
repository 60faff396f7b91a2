"""Templates that we make: VMs with our mark in their notes, and a UUID that follows from it."""

import re
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from nixops_proxmox.core.ports import NoteTask
from nixops_proxmox.errors import DeployError, NotFound, StateError, VmidTaken
from nixops_proxmox.pve.api.answers import ConfigSeen, GuestSeen
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.cluster.placement import is_shared
from nixops_proxmox.pve.cluster.placer import Placer
from nixops_proxmox.pve.cluster.view import ClusterView
from nixops_proxmox.pve.cluster.work import Work
from nixops_proxmox.pve.vm.identity import uuid_of
from nixops_proxmox.pve.wire.calls import Value
from nixops_proxmox.pve.wire.refusals import WrongPlace
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.spec.marks import bears_mark, with_mark
from nixops_proxmox.spec.template import TemplateSpec

SPACE = uuid.UUID("6f1d3f0e-8a0c-4c0b-9a53-0b0f4f7f2a11")  # of the UUIDs that follow from marks
TOLD = re.compile(r"(?m)^Template for (\S+), of ([0-9a-f]{16})\.")


@dataclass(frozen=True)
class TemplateFound:
    """A VM of ours that is the template, or is going to be. `digest`: of what it was made of. `place`: the node that it
    was made for. `finished`: PVE calls it a template. `shared`: its disk is on a storage of all nodes."""

    vmid: int
    node: str
    name: str
    digest: str
    place: str
    finished: bool
    shared: bool = False

    def serves(self, node: str) -> bool:
        return self.shared or self.node == node


@dataclass(frozen=True)
class Blueprint:
    """A template that is to be made. `digest`: of its image and its hardware. `volume`: of the image."""

    spec: TemplateSpec
    mark: str
    node: str
    digest: str
    volume: str
    vmid: int = 0


def template_uuid(mark: str, node: str, digest: str) -> str:
    """No clone has it: PVE gives each a UUID of its own."""
    return str(uuid.uuid5(SPACE, f"{mark} {node} {digest}"))


def template_params(plan: Blueprint) -> dict[str, Value]:
    """POST /nodes/{node}/qemu: a VM that never runs. What is cloned of it gets the hardware that is described."""
    spec, slot = plan.spec, plan.spec.slot
    notes = f"Template for {plan.node}, of {plan.digest}.\n\n{with_mark(spec.comment, plan.mark)}"
    params: dict[str, Value] = {
        "vmid": plan.vmid,
        "name": spec.name,
        "description": notes,
        "smbios1": f"uuid={template_uuid(plan.mark, plan.node, plan.digest)}",
        "ostype": "l26",
        "scsihw": "virtio-scsi-single",
        "bios": spec.bios,
        "machine": spec.machine,
        "serial0": "socket",
        "agent": "1",
        "boot": f"order={slot}",
        slot: f"{spec.storage}:0,import-from={plan.volume}",
    }
    if spec.bios == "ovmf":
        params["efidisk0"] = f"{spec.storage}:1,efitype=4m,pre-enrolled-keys=0"
    return {key: value for key, value in params.items() if value is not None}


class TemplateStore:
    """Satisfies `kinds.template.ports.TemplateKeeper`."""

    def __init__(self, client: PveClient, view: ClusterView, work: Work, placer: Placer) -> None:
        self._client, self._view, self._work, self._placer = client, view, work, placer

    def find(self, spec: TemplateSpec, mark: str, vmids: Collection[int], /) -> Sequence[TemplateFound]:
        seen = self._view.get(0.0)
        called = re.compile(rf"{re.escape(spec.name)}(-[0-9a-f]{{8}})?")
        guests = [one for one in seen.guests.values() if one.kind == "qemu"]
        maybe = [one for one in guests if one.vmid in vmids or called.fullmatch(one.name)]
        found: list[TemplateFound] = []
        for guest in sorted(maybe, key=lambda one: one.vmid):
            with suppress(NotFound, WrongPlace):  # destroyed or moved a moment ago
                config = self._client.get_config(guest.node, guest.vmid)
                found += _ours(guest, config, mark, lambda storage, node: is_shared(seen, node, storage), spec)
        return found

    def find_node(self, machine: MachineSpec, /) -> str:
        """By what the run has chosen, or would choose now; empty: it has no place."""
        place = self._placer.find_chosen(machine.name)
        if place is not None:
            return place.node
        with suppress(DeployError):
            return self._placer.explain(machine).node
        return ""

    def settle(self, node: str, vmid: int, /) -> None:
        while upid := self.find_task(node, vmid):
            self._work.failure(upid)

    def find_task(self, node: str, vmid: int, /) -> str:
        return next((task.upid for task in self._client.list_tasks(node, vmid=vmid) if task.running), "")

    def propose(self, spec: TemplateSpec, node: str, /) -> int:
        seen = self._view.get(0.0)
        for guest in seen.guests.values():
            if guest.kind == "qemu" and guest.node == node and guest.name == spec.name and guest.template:
                raise StateError(
                    f"template {spec.name}: VM {guest.vmid} on {node} is a template of that name, and it is not ours",
                    hint=f"machines can use it as it is: describe no resources.templates.{spec.name}",
                )
        return self._placer.reservations.take_vmid(MachineSpec(name=spec.name), seen.guests)

    def make(self, plan: Blueprint, note: NoteTask, /) -> None:
        post = partial(self._client.create_vm, plan.node, template_params(plan))
        try:
            upid = self._work.submit("qmcreate", plan.node, plan.vmid, post)
        except VmidTaken:
            self._placer.reservations.give_back(plan.vmid)
            raise
        note(upid)
        self._work.finish(upid, f"template {plan.spec.name}: creating VM {plan.vmid} on {plan.node}")

    def finish(self, found: TemplateFound, note: NoteTask, /) -> None:
        """Safe to repeat: PVE's flag is looked at first."""
        self.settle(found.node, found.vmid)
        if self._client.get_config(found.node, found.vmid).values.get("template") == "1":
            return
        post = partial(self._client.make_template, found.node, found.vmid)
        doing = f"template {found.name}: VM {found.vmid} on {found.node} becomes a template"
        self._work.run("qmtemplate", found.node, found.vmid, lambda: post() or "", note, doing)
        self._view.get(0.0)  # machines look for it next

    def rename(self, found: TemplateFound, name: str, /) -> None:
        self._client.set_config(found.node, found.vmid, {"name": name})

    def delete(self, found: TemplateFound, note: NoteTask, /) -> None:
        self.settle(found.node, found.vmid)
        try:
            upid = self._work.submit(
                "qmdestroy", found.node, found.vmid, partial(self._client.delete_vm, found.node, found.vmid)
            )
        except (NotFound, WrongPlace):
            return
        note(upid)
        self._work.finish(upid, f"template {found.name}: deleting VM {found.vmid} on {found.node}")


def _ours(
    guest: GuestSeen, config: ConfigSeen, mark: str, shared: Callable[[str, str], bool], spec: TemplateSpec
) -> Iterator[TemplateFound]:
    notes = config.values.get("description", "").strip()
    told = TOLD.search(notes)
    if told is None or not bears_mark(notes.rpartition("\n")[2], mark):
        return
    node, digest = told[1], told[2]
    if uuid_of(config.values) == template_uuid(mark, node, digest):
        finished = config.values.get("template") == "1"
        storage = config.values.get(spec.slot, "").partition(":")[0] or spec.storage
        yield TemplateFound(
            guest.vmid, guest.node, config.values.get("name", ""), digest, node, finished, shared(storage, guest.node)
        )
