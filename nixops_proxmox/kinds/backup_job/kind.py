"""The four functions of a backup job. Its ID comes from the names of deployment and job, and its comment has our mark.

PVE knows machines by VMID: a machine that gets another one, as a restored one does, makes the job differ.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias

from nixops_proxmox.core.kind import Known, Thing
from nixops_proxmox.core.table import Attempt
from nixops_proxmox.errors import StateError
from nixops_proxmox.kinds.resource import Describable, ResourceWorld, Setting, described_rows, pve_world, vm_facts
from nixops_proxmox.pve.api.versions import Release
from nixops_proxmox.pve.cluster.permissions import Need
from nixops_proxmox.pve.wire.properties import parse_properties
from nixops_proxmox.spec.backup_job import BackupJobSpec
from nixops_proxmox.spec.marks import bears_mark, with_mark

NAME = "backup-job"
ABOUT = "backups that Proxmox VE makes by itself"
SWITCHES = {"enabled": "1", "mode": "snapshot", "compress": "0"}  # what PVE leaves out of a job, and what it means

JobSettings = Mapping[str, str]  # PVE's keys


class JobStore(Protocol):
    """The backup jobs of a cluster."""

    def find(self, job: str, /) -> JobSettings | None:
        """None: there is no such job."""
        ...

    def create(self, job: str, settings: JobSettings, /) -> None: ...
    def change(self, job: str, settings: JobSettings, gone: Sequence[str], /) -> None: ...
    def delete(self, job: str, /) -> None: ...


World: TypeAlias = ResourceWorld[BackupJobSpec, JobStore]


class BackupJobKind:
    name = NAME

    def look(self, world: World, thing: Thing, /) -> JobSettings | None:
        job = world.api.find(job_id(thing))
        return job if job is not None and is_ours(job, world) else None

    def diff(self, world: World, found: JobSettings, /) -> Sequence[str]:
        """Each setting that the description has, and each of ours that it has no longer."""
        return list(self._differences(wanted(world), found))

    def _differences(self, want: JobSettings, have: JobSettings) -> Iterator[str]:
        for key in sorted({*want, *_gone(want, have)}):
            old, new = have.get(key, SWITCHES.get(key, "")), want.get(key, "")
            if comparable(key, old) != comparable(key, new):
                yield f"{key}: {old or 'unset'} becomes {new or 'unset'}"

    def apply(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        job, want = job_id(thing), wanted(world)
        have = world.api.find(job)
        if have is None:
            # Safe to repeat: PVE refuses a second job with this ID, and we have just looked.
            world.api.create(job, want)
        elif not is_ours(have, world):
            raise StateError(
                f"backup job {thing.name}: the cluster has a job {job}, and its comment says that it is not ours",
                hint=f"give resources.backupJobs.{thing.name} another name",
            )
        else:
            # Safe to repeat: the same settings again change nothing.
            world.api.change(job, want, _gone(want, have))
        return attempt.facts

    def remove(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """The backups that it made stay."""
        del attempt
        have = world.api.find(job_id(thing))
        if have is not None and is_ours(have, world):
            # Safe to repeat: a job that is gone needs nothing.
            world.api.delete(job_id(thing))
        return Known()


def _gone(want: JobSettings, have: JobSettings) -> list[str]:
    """What we have set, and what is described no more."""
    return [key for key in ("vmid", "pool", "prune-backups") if key in have and key not in want]


def job_id(thing: Thing) -> str:
    """PVE takes 50 characters; two deployments on one cluster never have the same."""
    digest = hashlib.sha256(f"{thing.deployment}/{thing.name}".encode()).hexdigest()[:12]
    return f"nixops-{digest}"


def is_ours(job: JobSettings, world: World) -> bool:
    return bears_mark(job.get("comment", ""), world.mark)


def wanted(world: World) -> JobSettings:
    """StateError for a machine that has no VM yet."""
    spec = world.spec
    keep = ",".join(f"{name}={count}" for name, count in spec.keep.counts().items())
    who = {"pool": spec.pool} if spec.pool else {"vmid": ",".join(map(str, sorted(vmids(world))))}
    settings = {
        "schedule": spec.schedule,
        "storage": spec.storage,
        "mode": spec.mode,
        "compress": spec.compress,
        "enabled": str(int(spec.enabled)),
        "comment": with_mark(spec.comment, world.mark),
        **who,
    }
    return settings | ({"prune-backups": keep} if keep else {})


def vmids(world: World) -> Iterator[int]:
    for name in world.spec.machines:
        facts = vm_facts(world.setting, name)
        if facts is None:
            raise StateError(f"backup job {world.spec.name}: the machine {name} has no VM yet, so it has no VMID")
        yield facts.vmid


def comparable(key: str, value: str) -> object:
    match key:
        case "vmid":
            return sorted(value.split(",")) if value else []
        case "prune-backups":
            return {name: count for name, count in parse_properties(value).items() if count != "0"}
        case _:
            return value


def needs(spec: BackupJobSpec, release: Release) -> Iterator[Need]:
    del release
    yield Need(("/",), ("Sys.Audit",), "see backup jobs")
    yield Need(("/",), ("Sys.Modify",), "make and delete backup jobs")
    yield Need((f"/storage/{spec.storage}",), ("Datastore.AllocateSpace",), "have backups made on the storage")


def make_world(spec: BackupJobSpec, setting: Setting) -> World:
    return pve_world(spec, setting, lambda hypervisor: hypervisor.backup_jobs)


LIFECYCLE = described_rows(BackupJobKind())
DESCRIBED = Describable(BackupJobSpec, make_world, needs)
