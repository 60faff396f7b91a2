"""The templates of a cluster in memory, and their bench."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import ClassVar

from nixops_proxmox.core.engine import pursue
from nixops_proxmox.core.kind import Known, Presence, Thing
from nixops_proxmox.core.ports import NoteTask
from nixops_proxmox.errors import NotFound, StateError, VmidTaken
from nixops_proxmox.kinds import template
from nixops_proxmox.kinds.resource import Setting
from nixops_proxmox.kinds.template.kind import Api, template_world
from nixops_proxmox.model import TEMPLATE_OF, Facts, Machine, Phase
from nixops_proxmox.options import Silent
from nixops_proxmox.pve.cluster.template_store import Blueprint, TemplateFound
from nixops_proxmox.spec import InstallSpec, MachineSpec, NetworkSpec
from nixops_proxmox.spec.template import TemplateSpec
from tests.clocks import SteppedClock
from tests.kinds.machine.cluster import SPEC, Fuse
from tests.kinds.record import Record


class Templates:
    """As one process sees and changes them. What a task began goes on without us, and ends when somebody waits."""

    def __init__(self) -> None:
        self.vms: dict[int, TemplateFound] = {}
        self.strangers: set[int] = set()  # VMIDs that others have
        self.tasks: dict[str, Callable[[], object] | None] = {}
        self.fuse, self.made, self.next, self.shared = Fuse(), 0, 9000, False

    def find(self, spec: TemplateSpec, mark: str, vmids: Collection[int], /) -> Sequence[TemplateFound]:
        called = (vm for vm in self.vms.values() if vm.name.startswith(spec.name) or vm.vmid in vmids)
        return sorted(called, key=lambda vm: vm.vmid)

    def find_node(self, machine: MachineSpec, /) -> str:
        return machine.node or ""

    def propose(self, spec: TemplateSpec, node: str, /) -> int:
        if any(vm.name == spec.name and vm.node == node for vm in self.vms.values()):
            raise StateError("there is one of that name")
        self.next += 1
        return self.next

    def make(self, plan: Blueprint, note: NoteTask, /) -> None:
        assert plan.volume == f"local:import/{plan.node}", "its image is not there"
        if plan.vmid in self.strangers:
            raise VmidTaken(f"VM {plan.vmid} already exists")
        found = TemplateFound(plan.vmid, plan.node, plan.spec.name, plan.digest, plan.node, False, self.shared)

        def begin() -> None:
            assert plan.vmid not in self.vms
            self.made += 1

        self._task(begin, lambda: self.vms.update({plan.vmid: found}), note)

    def finish(self, found: TemplateFound, note: NoteTask, /) -> None:
        self._settle()
        vm = self.vms[found.vmid]
        if not vm.finished:
            self._task(lambda: None, lambda: self.vms.update({vm.vmid: replace(vm, finished=True)}), note)

    def rename(self, found: TemplateFound, name: str, /) -> None:
        self.fuse.boundary()
        self.vms[found.vmid] = replace(self.vms[found.vmid], name=name)
        self.fuse.boundary()

    def delete(self, found: TemplateFound, note: NoteTask, /) -> None:
        self._settle()
        if found.vmid in self.vms:
            self._task(lambda: None, lambda: self.vms.pop(found.vmid, None), note)

    def find_task(self, node: str, vmid: int, /) -> str:
        return next((upid for upid, end in self.tasks.items() if end is not None), "")

    def settle(self, node: str, vmid: int, /) -> None:
        self._settle()

    def _settle(self) -> None:
        for upid in [upid for upid, end in self.tasks.items() if end is not None]:
            self.wait(upid)

    def wait(self, upid: str) -> None:
        if upid not in self.tasks:
            raise NotFound(f"no such task: {upid}")
        end, self.tasks[upid] = self.tasks[upid], None
        if end is not None:
            end()

    def _task(self, begin: Callable[[], object], end: Callable[[], object], note: NoteTask) -> None:
        self.fuse.boundary()
        begin()
        upid = f"UPID:pve1:{len(self.tasks)}:"
        self.tasks[upid] = end
        self.fuse.boundary()
        note(upid)
        self.fuse.boundary()
        self.wait(upid)
        self.fuse.boundary()


class Sources:
    """Images: what they are is said by the image's name."""

    def digest_of_template(self, spec: TemplateSpec, /) -> str:
        return f"{spec.image}-{spec.slot}"

    def put_for_template(self, spec: TemplateSpec, node: str, /) -> str:
        return f"local:import/{node}"


class TemplateBench:
    made_again: ClassVar[bool] = True

    def __init__(self) -> None:
        self.templates = Templates()
        self.record = Record(Thing(template.NAME, "demo", "base"), Known.from_json)
        self.machines = {"web": "pve1", "db": "pve2"}  # described ones, and where they are going to be
        self.recorded: list[Machine] = []
        self.nodes: tuple[str, ...] = ()

    def world(self, fuse: Fuse, *, wanted: bool = True, image: str = "one") -> template.World:
        self.record.fuse = self.templates.fuse = fuse
        spec = TemplateSpec(name="base", image=image, storage="local-lvm", nodes=self.nodes)
        install = InstallSpec.model_validate({"from": "template", "template": "base", "described": True})
        machines = [
            SPEC.model_copy(update={"name": name, "node": node, "install": install})
            for name, node in self.machines.items()
        ]
        network = NetworkSpec(name="demo", machines=tuple(machines), resources=(spec,)) if wanted else None
        setting = Setting("demo", network, lambda: self.recorded, lambda _: None, SteppedClock(), Silent())
        api = Api(self.templates, Sources())
        return template_world(spec, setting, api, self.templates.wait)

    def run(self, fuse: Fuse, *, wanted: bool, image: str = "one") -> Thing:
        goal = Presence.PRESENT if wanted else Presence.ABSENT
        world = self.world(fuse, wanted=wanted, image=image)
        return pursue(template.LIFECYCLE, goal, self.record.thing, world, self.record)

    def cloned(self, name: str, vmid: int) -> None:
        facts = Facts(vmid=100, node="pve1", profile="default", extra={TEMPLATE_OF: str(vmid)})
        self.recorded.append(Machine("demo", name, Phase.READY, facts))

    def check(self, *, wanted: bool) -> None:
        have = sorted((vm.node, vm.name, vm.finished) for vm in self.templates.vms.values())
        assert have == ([("pve1", "base", True), ("pve2", "base", True)] if wanted else [])
        assert not any(self.templates.tasks.values()) or not wanted
