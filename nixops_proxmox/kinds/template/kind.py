"""The four functions of a template. It is one VM for each node that needs it, made when a machine does.

Which one is ours, its notes and its UUID show together: a clone has the same notes, and another UUID.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from nixops_proxmox.core.engine import TASK
from nixops_proxmox.core.kind import Known, Thing
from nixops_proxmox.core.table import Attempt
from nixops_proxmox.errors import StateError, VmidTaken
from nixops_proxmox.kinds.resource import Describable, ResourceWorld, Setting, described_rows
from nixops_proxmox.kinds.template.ports import Sources, TemplateKeeper
from nixops_proxmox.model import TEMPLATE_OF, Machine, Phase
from nixops_proxmox.pve.api.versions import Release
from nixops_proxmox.pve.cluster.permissions import Need
from nixops_proxmox.pve.cluster.template_store import Blueprint, TemplateFound
from nixops_proxmox.pve.wire.properties import storage_of
from nixops_proxmox.spec.images import is_file_here
from nixops_proxmox.spec.marks import mark_of
from nixops_proxmox.spec.template import TEMPLATE, TemplateSpec

NAME = TEMPLATE
ABOUT = "a template that we make of an image"
TRIES = 5  # VMIDs that others may take at the same moment
DELETION = "qmdestroy"  # PVE's type of the task that deletes a VM
OF_NODE = "VMID on "  # before a node's name, in the record


@dataclass(frozen=True)
class Api:
    """What a template is made with."""

    templates: TemplateKeeper
    sources: Sources


World: TypeAlias = ResourceWorld[TemplateSpec, Api]


@dataclass(frozen=True)
class Overview:
    """What there is, and the nodes that need it."""

    found: tuple[TemplateFound, ...]
    needed: tuple[str, ...]
    digest: str


class TemplateKind:
    name = NAME

    def look(self, world: World, thing: Thing, /) -> Overview | None:
        """Where no machine needs it, and it is described, there is nothing to make."""
        found, needed = find(world, thing), needed_nodes(world)
        if not found and (needed or not _is_described(world)):
            return None
        return Overview(
            tuple(found), needed, world.api.sources.digest_of_template(world.spec) if _is_described(world) else ""
        )

    def diff(self, world: World, seen: Overview, /) -> Sequence[str]:
        lines = [f"it is made on {node}" for node in _lacking(seen)]
        lines += [f"VM {one.vmid} on {one.node} is finished" for one in seen.found if _is_half(seen, one)]
        lines += [f"VM {one.vmid} on {one.node} is called {one.name}" for one in _misnamed(world, seen)]
        old = _outdated(seen)
        return [*lines, *(f"VM {one.vmid} on {one.node}, of before, is deleted" for one in _unused(world, old))]

    def apply(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        settle(world, thing)
        seen = Overview(
            tuple(find(world, thing)), needed_nodes(world), world.api.sources.digest_of_template(world.spec)
        )
        for one in seen.found:
            if _is_half(seen, one):
                world.api.templates.finish(one, attempt.note_task)
        for one in _outdated(seen):
            if one.name == world.spec.name:  # machines are cloned of the one that is called so
                world.api.templates.rename(one, f"{one.name}-{one.digest[:8]}")
        for one in _misnamed(world, seen):
            world.api.templates.rename(one, world.spec.name)
        for node in _lacking(seen):
            self._make(world, node, seen.digest, attempt)
        for one in _unused(world, _outdated(seen)):
            _delete(world, one, attempt)
        return attempt.facts

    def _make(self, world: World, node: str, digest: str, attempt: Attempt[Thing, Known]) -> None:
        """Safe to repeat: the VMID is recorded first, so that the next run finds what this one has made."""
        volume = world.api.sources.put_for_template(world.spec, node)
        plan = Blueprint(world.spec, world.mark, node, digest, volume)
        for left in reversed(range(TRIES)):
            plan = replace(plan, vmid=world.api.templates.propose(world.spec, node))
            attempt.note(_with_vmid(attempt.facts, plan))
            try:
                world.api.templates.make(plan, attempt.note_task)
                break
            except VmidTaken:
                if not left:
                    raise
        found = TemplateFound(plan.vmid, node, world.spec.name, digest, node, finished=False)
        world.api.templates.finish(found, attempt.note_task)

    def remove(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """StateError while a machine of ours is a linked clone of one."""
        settle(world, thing)
        found = find(world, thing)
        used = {one.vmid: _clones(world, one) for one in found}
        if any(used.values()):
            told = "; ".join(f"{', '.join(names)}: VM {vmid}" for vmid, names in used.items() if names)
            raise StateError(
                f"cannot delete the template {thing.name}: linked clones of it exist ({told})",
                hint="destroy these machines first, or describe the template again",
            )
        for one in found:
            _delete(world, one, attempt)
        return Known()


def _delete(world: World, one: TemplateFound, attempt: Attempt[Thing, Known]) -> None:
    """Safe to repeat: one that is gone needs nothing, and the next run waits for a deletion that goes on."""
    errand = {TASK: DELETION, "node": one.node, "vmid": str(one.vmid)}
    attempt.note(replace(attempt.facts, errand=errand))
    world.api.templates.delete(one, attempt.note_task)


def find(world: World, thing: Thing) -> Sequence[TemplateFound]:
    return world.api.templates.find(world.spec, world.mark, list(_recorded(thing).values()))


def settle(world: World, thing: Thing) -> None:
    """A run may have been killed before it recorded the task that makes a VM. Until its end, nothing in that VM says
    that it is ours."""
    for node, vmid in _recorded(thing).items():
        world.api.templates.settle(node, vmid)


def _recorded(thing: Thing) -> dict[str, int]:
    """The VMIDs that were chosen last, by node."""
    found = {key.removeprefix(OF_NODE): value for key, value in thing.facts.values.items() if key.startswith(OF_NODE)}
    return {node: int(value) for node, value in found.items() if value.isdecimal()}


def _with_vmid(facts: Known, plan: Blueprint) -> Known:
    return replace(facts, values={**facts.values, f"{OF_NODE}{plan.node}": str(plan.vmid)})


def needed_nodes(world: World) -> tuple[str, ...]:
    """Those that are described, and where machines are that are going to be cloned from it."""
    setting = world.setting
    network = None if setting is None else setting.network
    if setting is None or network is None or not _is_described(world):
        return ()
    recorded, nodes = {one.name: one for one in setting.machines()}, {*world.spec.nodes}
    for machine in network.machines:
        if world.spec.is_wanted_by(machine):
            known = recorded.get(machine.name)
            if known is None or known.phase is Phase.ABSENT:
                nodes.add(world.api.templates.find_node(machine))
            elif known.phase is Phase.RESERVED:
                nodes.add(known.facts.node)
    return tuple(sorted(nodes - {""}))


def _is_described(world: World) -> bool:
    network = None if world.setting is None else world.setting.network
    return network is not None and any(one.kind == NAME and one.name == world.spec.name for one in network.resources)


def _is_half(seen: Overview, one: TemplateFound) -> bool:
    return not one.finished and one.digest == seen.digest


def _misnamed(world: World, seen: Overview) -> list[TemplateFound]:
    return [one for one in seen.found if one.digest == seen.digest and one.name != world.spec.name]


def _lacking(seen: Overview) -> list[str]:
    current = [one for one in seen.found if one.digest == seen.digest]
    return [node for node in seen.needed if not any(one.serves(node) for one in current)]


def _outdated(seen: Overview) -> list[TemplateFound]:
    return [one for one in seen.found if one.digest != seen.digest]


def _unused(world: World, found: Sequence[TemplateFound]) -> list[TemplateFound]:
    return [one for one in found if not _clones(world, one)]


def _clones(world: World, one: TemplateFound) -> list[str]:
    """The machines of ours that are linked clones of it."""
    machines: Sequence[Machine] = () if world.setting is None else world.setting.machines()
    return [
        machine.name
        for machine in machines
        if machine.phase is not Phase.ABSENT
        and machine.facts.extra.get(TEMPLATE_OF) == str(one.vmid)
        and machine.facts.profile == world.spec.profile
    ]


def outline(world: World) -> Iterator[str]:
    nodes = needed_nodes(world)
    yield f"it is made on {', '.join(nodes)}" if nodes else "no machine needs it, so it is not made"


LIFECYCLE = described_rows(TemplateKind())


def needs(spec: TemplateSpec, release: Release) -> Iterator[Need]:
    del release
    yield Need(("/vms",), ("VM.Allocate",), "make and delete templates")
    yield Need(("/vms",), ("VM.Clone",), "clone templates")
    for name in ("CPU", "Disk", "HWType", "Memory", "Options"):
        yield Need(("/vms",), (f"VM.Config.{name}",), "set templates up")
    yield Need((f"/storage/{spec.storage}",), ("Datastore.AllocateSpace",), "make the disk of the template")
    if not is_file_here(spec.image):
        yield Need((f"/storage/{storage_of(spec.image)}",), ("Datastore.Audit",), "import the image")
        return
    path = f"/storage/{spec.image_storage}" if spec.image_storage else "/storage"
    yield Need((path,), ("Datastore.AllocateTemplate",), "upload the image")
    yield Need((path,), ("Datastore.Audit",), "see which images are there")


def make_world(spec: TemplateSpec, setting: Setting) -> World:
    hypervisor = setting.cluster(spec.profile)
    return template_world(spec, setting, Api(hypervisor.template_store, setting.sources), hypervisor.wait_for_task)


def template_world(spec: TemplateSpec, setting: Setting, api: Api, wait: Callable[[str], None]) -> World:
    """A deletion is found by what its errand says: until its end, the VM looks as if it stayed."""

    def running(facts: Known) -> str:
        node, vmid = facts.errand.get("node", ""), facts.errand.get("vmid", "")
        return api.templates.find_task(node, int(vmid)) if node and vmid.isdecimal() else ""

    mark = mark_of(setting.deployment, spec.name)
    return ResourceWorld(spec, mark, api, setting.clock, setting.reporter, wait, setting, running)


DESCRIBED = Describable(TemplateSpec, make_world, needs, outline=outline)
