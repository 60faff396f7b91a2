"""/cluster/backup and /cluster/backup-info: backup jobs, and what no job covers."""

from typing import Any

from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.refusals import bad_parameter, die
from nixops_proxmox.lab.schema.formats import split_list
from nixops_proxmox.lab.schema.types import boolean, integer, named, one_of, text
from nixops_proxmox.lab.vm import Vm

routes = Routes()
AUDIT, MODIFY = needs("/", "Sys.Audit"), needs("/", "Sys.Modify")
BACKUP_JOB = {
    "schedule": text(128),
    "enabled": boolean(),
    "vmid": named("pve-vmid-list"),
    "all": boolean(),
    "exclude": named("pve-vmid-list"),
    "pool": text(),
    "storage": text(),
    "mode": one_of("snapshot", "suspend", "stop"),
    "node": text(),
    "prune-backups": text(),
    "comment": text(512),
    "compress": one_of("0", "1", "gzip", "lzo", "zstd"),
    "notes-template": text(1024),
    "mailto": text(),
    "mailnotification": one_of("always", "failure"),
    "starttime": text(),
    "dow": text(),
    "bwlimit": integer(0),
    "protected": boolean(),
    "repeat-missed": boolean(),
    "remove": boolean(),
    "zstd": integer(0),
}
INSTEAD = {"all": ("vmid", "pool"), "vmid": ("all", "exclude", "pool"), "pool": ("vmid", "all", "exclude")}
JobEntry = dict[str, Any]


def _given(call: Call) -> JobEntry:
    """As PVE prints a job: switches are 1 and 0, numbers are numbers."""
    return {
        key: int(value) if isinstance(value, bool) else value
        for key, value in call.params.items()
        if key not in ("id", "delete", "starttime", "dow")
    } | _old_schedule(call)


def _old_schedule(call: Call) -> JobEntry:
    """`starttime` and `dow`, of before there were calendar events."""
    start = call.get("starttime")
    return {"schedule": f"{call.get('dow', '')} {start}".strip()} if start else {}


@routes.get("/cluster/backup", permission=AUDIT)
async def backup_jobs(call: Call) -> Any:
    return list(call.cluster.backup_jobs.values())


@routes.post("/cluster/backup", {**BACKUP_JOB, "id": text(50)}, MODIFY)
async def add_backup_job(call: Call) -> Any:
    jobs = call.cluster.backup_jobs
    name = call.get("id") or f"backup-{len(jobs):08x}-{int(call.cluster.clock.time()) & 0xFFFF:04x}"
    if name in jobs:
        raise bad_parameter("id", f"Job '{name}' already exists")
    jobs[name] = {"enabled": 1, "mode": "snapshot", **_given(call), "id": name, "type": "vzdump"}


@routes.get("/cluster/backup/{id}", permission=AUDIT)
async def backup_job(call: Call) -> Any:
    job = call.cluster.backup_jobs.get(call.params["id"])
    if job is None:
        raise bad_parameter("id", f"No such job '{call.params['id']}'")
    return job


@routes.put("/cluster/backup/{id}", {**BACKUP_JOB, "delete": named("pve-configid-list")}, MODIFY)
async def change_backup_job(call: Call) -> Any:
    job = call.cluster.backup_jobs.get(call.params["id"])
    given, gone = _given(call), split_list(call.get("delete", ""))
    if not given and not gone:
        die("no options specified")
    if job is None:
        die("no such vzdump job")
    for key in gone:
        if key not in BACKUP_JOB:
            raise bad_parameter("delete", f"unknown option '{key}'")
        job.pop(key, None)
    job |= given
    for chosen in [key for key in INSTEAD if given.get(key)]:
        for key in INSTEAD[chosen]:
            job.pop(key, None)


@routes.delete("/cluster/backup/{id}", permission=MODIFY)
async def delete_backup_job(call: Call) -> Any:
    if call.cluster.backup_jobs.pop(call.params["id"], None) is None:
        raise bad_parameter("id", f"No such job '{call.params['id']}'")


# What no job covers.


@routes.get("/cluster/backup-info")
async def backup_info(_: Call) -> Any:
    return [{"subdir": "not-backed-up"}]


@routes.get("/cluster/backup-info/not-backed-up", permission=AUDIT)
async def not_backed_up(call: Call) -> Any:
    jobs = call.cluster.backup_jobs.values()
    return [
        {"vmid": vm.vmid, "type": "qemu", **({"name": vm.config["name"]} if "name" in vm.config else {})}
        for vm in call.cluster.vms.values()
        if call.allows(f"/vms/{vm.vmid}", "VM.Audit") and not any(_covers(call, job, vm) for job in jobs)
    ]


def _covers(call: Call, job: JobEntry, vm: Vm) -> bool:
    if not job["enabled"] or job.get("node", vm.node) != vm.node:
        return False
    if job.get("all"):
        return str(vm.vmid) not in split_list(job.get("exclude", ""))
    return str(vm.vmid) in split_list(job.get("vmid", "")) or job.get("pool", "") == call.cluster.pool_of(vm.vmid)
