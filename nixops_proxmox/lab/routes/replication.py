"""/cluster/replication and /nodes/…/replication: storage replication jobs, and their states."""

from typing import Any

from nixops_proxmox.lab.call import Call, Routes
from nixops_proxmox.lab.ha import check_digest, digest
from nixops_proxmox.lab.refusals import bad_parameter, die
from nixops_proxmox.lab.replication import next_sync, replicated_volumes, run_due, shown
from nixops_proxmox.lab.replications import ReplicationJob
from nixops_proxmox.lab.schema.formats import split_list
from nixops_proxmox.lab.schema.types import boolean, integer, matching, named, number, one_of, text

routes = Routes()
ID = matching(r"[1-9][0-9]{2,8}-\d{1,9}", optional=False)
JOB = {
    "disable": boolean(),
    "comment": text(4096),
    "rate": number(1),
    "schedule": text(128),
    "remove_job": one_of("local", "full"),
    "source": named("pve-node"),
}
PATH = "/cluster/replication/{id}"


def _require_writing(call: Call) -> None:
    """Since 9.0 a privilege on the VM, before that one on all storages."""
    if call.cluster.release.since(9):
        call.require(f"/vms/{_guest(call)}", "VM.Replicate")
    else:
        call.require("/storage", "Datastore.Allocate")


def _guest(call: Call) -> int:
    return int(str(call.params["id"]).partition("-")[0])


def _given(call: Call) -> dict[str, Any]:
    """As the file has them: a flag is a number."""
    found = {key: call.params[key] for key in JOB if key in call.params}
    return {key: int(value) if isinstance(value, bool) else value for key, value in found.items()}


def _all(call: Call) -> dict[str, Any]:
    return {name: job.settings for name, job in call.cluster.replications.jobs.items()}


@routes.get("/cluster/replication")
async def replication_jobs(call: Call) -> Any:
    """Those whose VM the user sees."""
    run_due(call.cluster)
    jobs = sorted(call.cluster.replications.jobs.items())
    return [shown(name, job) for name, job in jobs if call.allows(f"/vms/{job.guest}", "VM.Audit")]


@routes.get(PATH, {"id": ID})
async def replication_job(call: Call) -> Any:
    run_due(call.cluster)
    job = call.cluster.replications.jobs.get(call.params["id"])
    if job is None:
        die(f"no such replication job '{call.params['id']}'")
    call.require(f"/vms/{job.guest}", "VM.Audit")
    return {**shown(call.params["id"], job), "digest": digest(_all(call))}


@routes.post(
    "/cluster/replication",
    {**JOB, "id": ID, "type": one_of("local", optional=False), "target": named("pve-node", optional=False)},
)
async def add_replication_job(call: Call) -> Any:
    _require_writing(call)
    cluster, name, vmid = call.cluster, call.params["id"], _guest(call)
    cluster.check_quorum()
    vm = cluster.vms.get(vmid)
    if vm is None:
        die(f"Guest '{vmid}' does not exist.")
    target, source = call.params["target"], call.get("source", vm.node)
    if target not in cluster.nodes:
        die(f"Target '{target}' does not exist.")
    if source != vm.node:
        die(f"Source '{source}' does not match current node of guest '{vmid}' ({vm.node})")
    if target == source:
        die("Source and target must not be identical")
    if not replicated_volumes(cluster, vm):
        die("No replicatable volumes found")
    if name in cluster.replications.jobs:
        die(f"replication job '{name}' already exists")
    if any(job.target == target for job in cluster.replications.of(vmid).values()):
        die(f"replication job for guest '{vmid}' to target 'local/{target}' already exists")
    fixed = {"type": "local", "guest": vmid, "target": target, "source": source}
    cluster.replications.jobs[name] = ReplicationJob({**_given(call), **fixed}, cluster.clock.time())


def _existing(call: Call) -> ReplicationJob:
    call.cluster.check_quorum()
    run_due(call.cluster)
    return call.cluster.replications.jobs.get(call.params["id"]) or die(f"no such job '{call.params['id']}'")


@routes.put(PATH, {**JOB, "id": ID, "digest": text(64), "delete": named("pve-configid-list")})
async def change_replication_job(call: Call) -> Any:
    _require_writing(call)
    job = _existing(call)
    check_digest(call.get("digest"), _all(call))
    for key in split_list(call.get("delete", "")):
        if key == "target":
            die("unable to delete required option 'target'")
        if key not in JOB:
            die(f"no such option '{key}'")
        job.settings.pop(key, None)
    job.settings |= _given(call)
    job.since = call.cluster.clock.time()


@routes.delete(PATH, {"id": ID, "keep": boolean(), "force": boolean()})
async def remove_replication_job(call: Call) -> Any:
    """It is only marked: the node of the VM removes it."""
    _require_writing(call)
    if call.get("force"):
        if call.get("keep"):
            raise bad_parameter("keep", "conflicts with parameter 'force'")
        call.cluster.replications.jobs.pop(call.params["id"], None)
        return
    job = _existing(call)
    job.settings["remove_job"] = "local" if call.get("keep") else "full"
    job.since = call.cluster.clock.time()


# What a node knows.


@routes.get("/nodes/{node}/replication", {"guest": integer(100, 999999999, format="pve-vmid")})
async def replication_states(call: Call) -> Any:
    run_due(call.cluster)
    found = []
    for name, job in sorted(call.cluster.replications.jobs.items()):
        vm = call.cluster.vms.get(job.guest)
        here = vm is not None and vm.node == call.node and call.get("guest", job.guest) == job.guest
        if here and call.allows(f"/vms/{job.guest}", "VM.Audit"):
            found.append({**shown(name, job), **job.state(), "next_sync": int(next_sync(job))})
    return found


@routes.post("/nodes/{node}/replication/{id}/schedule_now", {"id": ID})
async def schedule_replication_now(call: Call) -> Any:
    _require_writing(call)
    job = call.cluster.replications.jobs.get(call.params["id"])
    if job is None:
        die(f"no such replication job '{call.params['id']}'")
    job.last_try = 0
