"""The four functions of a replication job. Its comment has our mark.

PVE names jobs by VMID, and turns them round when their VM moves to the target. A job is removed by the node of the VM,
a minute later or more, so that removing one is a wait.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol, TypeAlias

from nixops_proxmox.core.kind import Known, Thing
from nixops_proxmox.core.table import Attempt
from nixops_proxmox.errors import StateError
from nixops_proxmox.kinds.resource import (
    Describable,
    ResourceWorld,
    Setting,
    Stranger,
    described_rows,
    pve_world,
    stranger_at,
    vm_facts,
)
from nixops_proxmox.model import Finding, Level
from nixops_proxmox.pve.api.replication import ReplicationKeys, ReplicationState
from nixops_proxmox.pve.api.versions import Release
from nixops_proxmox.pve.cluster.permissions import Need
from nixops_proxmox.spec.marks import bears_mark, with_mark
from nixops_proxmox.spec.replication import REPLICATION, ReplicationSpec

NAME = REPLICATION
ABOUT = "copies of a machine's disks on another node"
UNSET = {"schedule": "*/15", "disable": "0"}  # what PVE leaves out of a job, and what it means
REMOVAL_SECONDS, POLL_SECONDS = 600, 5


class ReplicationStore(Protocol):
    """The replication jobs of a cluster."""

    def jobs(self) -> Mapping[str, ReplicationKeys]:
        """By ID, which is VMID-NUMBER."""
        ...

    def node_of(self, vmid: int, /) -> str:
        """Empty: there is no such VM."""
        ...

    def state(self, job: str, node: str, /) -> ReplicationState: ...

    def why_not(self, vmid: int, target: str, /) -> str:
        """Why PVE could not replicate the VM to that node; empty: it can."""
        ...

    def create(self, job: str, settings: ReplicationKeys, /) -> None: ...
    def change(self, job: str, settings: ReplicationKeys, gone: Sequence[str], /) -> None: ...

    def remove(self, job: str, /) -> None:
        """Asks for it: it is gone later."""
        ...


World: TypeAlias = ResourceWorld[ReplicationSpec, ReplicationStore]


@dataclass(frozen=True)
class JobSeen:
    job: str  # 100-0
    settings: ReplicationKeys

    @property
    def vmid(self) -> int:
        return int(self.job.partition("-")[0])

    @property
    def leaves(self) -> bool:
        return "remove_job" in self.settings


class ReplicationKind:
    name = NAME

    def look(self, world: World, thing: Thing, /) -> JobSeen | None:
        del thing
        return find_ours(world)

    def diff(self, world: World, found: JobSeen, /) -> Sequence[str]:
        return list(_differences(world, found))

    def apply(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        vmid, found = vmid_of(world), find_ours(world)
        if found is not None and not found.leaves and not list(_other_place(world, found)):
            # Safe to repeat: the same settings again change nothing.
            world.api.change(found.job, wanted(world), _gone(world, found.settings))
            return attempt.facts
        if found is not None:
            _remove(world, found)
        _refuse_stranger(world, vmid)
        reason = world.api.why_not(vmid, world.spec.target)
        if reason:
            text = f"replication {thing.name}: {world.spec.machine} cannot be copied to {world.spec.target}: {reason}"
            hint = f"put its disks on a ZFS storage that both nodes have, or change resources.replications.{thing.name}"
            raise StateError(text, hint=hint)
        # Safe to repeat: PVE refuses a second job with this ID or this target, and we have just looked.
        world.api.create(_free_id(world, vmid), {**wanted(world), "target": world.spec.target})
        return attempt.facts

    def remove(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """With the copies. The machine goes on as it is."""
        del thing, attempt
        found = find_ours(world)
        if found is not None:
            _remove(world, found)
        return Known()


def _remove(world: World, found: JobSeen) -> None:
    if not found.leaves:
        # Safe to repeat: one that leaves is not asked for again.
        world.api.remove(found.job)
    deadline = world.clock.now() + REMOVAL_SECONDS
    while found.job in world.api.jobs():
        if world.clock.now() > deadline:
            node = world.api.node_of(found.vmid) or "its node"
            raise StateError(
                f"replication {world.spec.name}: {node} has not removed the job {found.job} in {REMOVAL_SECONDS} s",
                hint=f"{node} and {found.settings.get('target', '')} must be up, and pvescheduler must run on {node}; "
                f"`pvesr delete {found.job} --force` there forgets the job, and leaves the copies",
            )
        world.clock.sleep(POLL_SECONDS)


def find_ours(world: World) -> JobSeen | None:
    """By our mark: the VMID may be another now. One that leaves counts only if there is no other."""
    jobs = world.api.jobs().items()
    ours = [JobSeen(name, job) for name, job in jobs if bears_mark(job.get("comment", ""), world.mark)]
    return min(ours, key=lambda one: (one.leaves, one.job), default=None)


def vmid_of(world: World) -> int:
    """StateError for a machine that has no VM yet."""
    facts = vm_facts(world.setting, world.spec.machine)
    if facts is None:
        raise StateError(f"replication {world.spec.name}: the machine {world.spec.machine} has no VM yet")
    return facts.vmid


def _free_id(world: World, vmid: int) -> str:
    taken = world.api.jobs()
    return next(name for name in (f"{vmid}-{number}" for number in count()) if name not in taken)


def wanted(world: World) -> ReplicationKeys:
    spec = world.spec
    settings = {
        "schedule": spec.schedule,
        "disable": str(int(not spec.enabled)),
        "comment": with_mark(spec.comment, world.mark),
    }
    return settings | ({} if spec.rate is None else {"rate": str(spec.rate)})


def _gone(world: World, have: ReplicationKeys) -> list[str]:
    return ["rate"] if "rate" in have and world.spec.rate is None else []


def _other_place(world: World, found: JobSeen) -> Iterator[str]:
    """Why it is not the described job: PVE can change neither."""
    facts = vm_facts(world.setting, world.spec.machine)
    if facts is not None and facts.vmid != found.vmid:
        yield f"VM: {found.vmid} becomes {facts.vmid}"
    target = found.settings.get("target", "")
    if target != world.spec.target and not is_turned(world, found):
        yield f"target: {target} becomes {world.spec.target}"


def is_turned(world: World, found: JobSeen) -> bool:
    """Has the machine moved to the target? PVE has turned the job round, so that it copies back."""
    return found.settings.get("target") != world.spec.target and world.api.node_of(found.vmid) == world.spec.target


def _differences(world: World, found: JobSeen) -> Iterator[str]:
    if found.leaves:
        yield "it is being removed"
    yield from _other_place(world, found)
    want = wanted(world)
    for key in sorted({*want, *_gone(world, found.settings)}):
        old, new = found.settings.get(key, UNSET.get(key, "")), want.get(key, "")
        if _number(old) != _number(new):
            yield f"{key}: {old or 'unset'} becomes {new or 'unset'}"


def _number(text: str) -> object:
    """PVE may print a rate as 10 or 10.0."""
    try:
        return float(text)
    except ValueError:
        return text


def _strange_job(world: World, vmid: int) -> JobSeen | None:
    """Another's job for the same VM and target."""
    for name, job in world.api.jobs().items():
        one = JobSeen(name, job)
        if one.vmid == vmid and job.get("target") == world.spec.target:
            return None if bears_mark(job.get("comment", ""), world.mark) else one
    return None


def _refuse_stranger(world: World, vmid: int) -> None:
    other = _strange_job(world, vmid)
    if other is not None:
        raise StateError(
            f"replication {world.spec.name}: VM {vmid} has a job to {world.spec.target}, {other.job}, and its comment "
            "says that it is not ours",
            hint=f"remove resources.replications.{world.spec.name}, or take the job over",
        )


def find_stranger(world: World) -> Stranger | None:
    facts = vm_facts(world.setting, world.spec.machine)
    have = None if facts is None else _strange_job(world, facts.vmid)
    if have is None:
        return None
    return stranger_at(
        have.settings.get("comment", ""),
        world.mark,
        lambda marked: ReplicationKind().diff(world, JobSeen(have.job, {**have.settings, "comment": marked})),
        lambda marked: world.api.change(have.job, {"comment": marked}, ()),
    )


def remarks(world: World) -> Iterator[str]:
    found = find_ours(world)
    node = "" if found is None else world.api.node_of(found.vmid)
    if found is None or not node:
        return
    if is_turned(world, found):
        yield f"{world.spec.machine} is on {node}, so its disks are copied to {found.settings.get('target', '')}"
    if found.settings.get("disable") == "1":
        return
    state = world.api.state(found.job, node)
    if state.failures:
        yield f"it failed {state.failures} times since the last copy: {state.error or 'PVE does not say why'}"
    elif not state.last_sync:
        yield "nothing is copied yet"


def outline(world: World) -> Iterator[str]:
    """Why a deploy will not make it, if its machine is there already."""
    facts = vm_facts(world.setting, world.spec.machine)
    reason = "" if facts is None else world.api.why_not(facts.vmid, world.spec.target)
    if reason:
        yield f"{world.spec.machine} cannot be copied to {world.spec.target}: {reason}"


def examine(spec: ReplicationSpec, setting: Setting) -> Iterator[Finding]:
    """Whether copies can be made, and are: the node of the machine knows."""
    world = make_world(spec, setting)
    for text in outline(world) if find_ours(world) is None else ():
        yield Finding(Level.PROBLEM, f"replication {spec.name}", text, "put its disks on ZFS that both nodes have")
    for text in remarks(world):
        yield Finding(Level.WARNING, f"replication {spec.name}", text, "see `pvesr status` on the machine's node")


def needs(spec: ReplicationSpec, release: Release) -> Iterator[Need]:
    del spec
    yield Need(("/vms",), ("VM.Audit",), "see replication jobs")
    if release.major >= 9:
        yield Need(("/vms",), ("VM.Replicate",), "make and remove replication jobs")
    else:
        yield Need(("/storage",), ("Datastore.Allocate",), "make and remove replication jobs")


def make_world(spec: ReplicationSpec, setting: Setting) -> World:
    return pve_world(spec, setting, lambda hypervisor: hypervisor.replication_store)


LIFECYCLE = described_rows(ReplicationKind())
DESCRIBED = Describable(
    ReplicationSpec, make_world, needs, examine=examine, remarks=remarks, outline=outline, stranger=find_stranger
)
