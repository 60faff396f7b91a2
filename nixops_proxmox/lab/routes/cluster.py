"""/version, /cluster, /pools: what concerns no single node."""

from typing import Any

from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.describe import describe_node, describe_storage_resource, describe_vm_resource
from nixops_proxmox.lab.refusals import bad_parameter
from nixops_proxmox.lab.routes.tasks import describe as describe_task
from nixops_proxmox.lab.schema.types import integer, one_of

routes = Routes()
INDEX = [
    "acme",
    "backup",
    "backup-info",
    "ceph",
    "config",
    "firewall",
    "ha",
    "jobs",
    "log",
    "mapping",
    "metrics",
    "notifications",
    "nextid",
    "options",
    "replication",
    "resources",
    "status",
    "tasks",
    "sdn",
]


@routes.get("/version")
async def version(call: Call) -> Any:
    release = call.cluster.release
    return {"version": release.version, "release": release.name, "repoid": release.repoid}


@routes.get("/")
async def index(_: Call) -> Any:
    return [{"subdir": name} for name in ("version", "cluster", "nodes", "storage", "access", "pools")]


@routes.get("/cluster")
async def cluster_index(_: Call) -> Any:
    return [{"name": name} for name in INDEX]


@routes.get("/cluster/resources", {"type": one_of("vm", "storage", "node", "sdn")})
async def resources(call: Call) -> Any:
    cluster, kind = call.cluster, call.get("type")
    found: list[dict[str, Any]] = []
    if kind in (None, "vm"):
        mine = [vm for vm in cluster.vms.values() if call.allows(f"/vms/{vm.vmid}", "VM.Audit")]
        found += [await describe_vm_resource(cluster, vm) for vm in mine]
    if kind is None:
        found += [
            {"id": f"/pool/{name}", "type": "pool", "pool": name}
            for name in cluster.pools
            if call.allows(f"/pool/{name}", "Pool.Audit")
        ]
    if kind in (None, "node"):
        found += [
            describe_node(cluster, node, stats=call.allows(f"/nodes/{node.name}", "Sys.Audit"), resource=True)
            for node in cluster.nodes.values()
        ]
    if kind in (None, "storage"):
        found += [
            describe_storage_resource(cluster, storage, node)
            for node in cluster.nodes
            for storage in cluster.stores.storages.values()
            if not storage.disabled
            and cluster.stores.is_on(storage, node)
            and call.allows(f"/storage/{storage.name}", "Datastore.Audit")
        ]
    return found


@routes.get("/cluster/status", permission=needs("/", "Sys.Audit"))
async def status(call: Call) -> Any:
    cluster = call.cluster
    found: list[dict[str, Any]] = []
    if not cluster.standalone:
        found.append(
            {
                "type": "cluster",
                "id": "cluster",
                "name": cluster.name,
                "nodes": len(cluster.nodes),
                "quorate": int(cluster.quorate),
                "version": len(cluster.nodes),
            }
        )
    for number, node in enumerate(cluster.nodes.values(), start=0 if cluster.standalone else 1):
        found.append(
            {
                "type": "node",
                "id": f"node/{node.name}",
                "name": node.name,
                "nodeid": number,
                "ip": node.address,
                "online": int(node.online),
                "local": int(node.name == call.entry),
                "level": "",
            }
        )
    return found


@routes.get("/cluster/nextid", {"vmid": integer(100, 999999999, format="pve-vmid")})
async def next_id(call: Call) -> Any:
    """A string: the Perl scalar has been used as a hash key. It reserves nothing."""
    wanted = call.get("vmid")
    if wanted is None:
        return str(call.cluster.free_vmid())
    if wanted in call.cluster.vms:
        raise bad_parameter("vmid", f"VM {wanted} already exists")
    return str(wanted)


@routes.get("/cluster/tasks")
async def cluster_tasks(call: Call) -> Any:
    tasks = [task for task in call.cluster.tasks.tasks.values() if _sees(call, task)]
    return [describe_task(task, with_pstart=False) for task in reversed(tasks[-1000:])]


def _sees(call: Call, task: Any) -> bool:
    return (
        call.allows(f"/nodes/{task.node}", "Sys.Audit")
        or task.who == call.auth.who
        or (not call.auth.token and task.user == call.auth.user)
    )


@routes.get("/cluster/config/qdevice", permission=needs("/", "Sys.Audit"))
async def quorum_device(_: Call) -> Any:
    """The lab has none, as most clusters."""
    return {}


@routes.get("/cluster/log", {"max": integer(1)})
async def cluster_log(call: Call) -> Any:
    done = [task for task in call.cluster.tasks.tasks.values() if task.status is not None and _sees(call, task)]
    return [
        {
            "uid": str(number),
            "id": f"{number}:{task.node}",
            "time": task.endtime,
            "msg": f"end task {task.upid} {task.status}",
            "node": task.node,
            "user": task.who,
            "pri": 6 if task.status == "OK" else 3,
            "tag": "pvedaemon",
            "pid": task.pid,
        }
        for number, task in reversed(list(enumerate(done, 1)))
    ][: call.get("max", 50)]
