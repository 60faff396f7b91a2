"""/version, /cluster, /pools: what concerns no single node."""

from typing import Any

from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.describe import describe_node, describe_storage_resource, describe_vm_resource
from nixops_proxmox.lab.refusals import Refused, bad_parameter, die
from nixops_proxmox.lab.routes.tasks import describe as describe_task
from nixops_proxmox.lab.schema.types import boolean, integer, named, one_of, text

routes = Routes()
INDEX = (
    "acme backup backup-info ceph config firewall ha jobs log mapping metrics notifications nextid options replication "
    "resources status tasks sdn"
)


@routes.get("/version")
async def version(call: Call) -> Any:
    release = call.cluster.release
    return {"version": release.version, "release": release.name, "repoid": release.repoid}


@routes.get("/")
async def index(_: Call) -> Any:
    return [{"subdir": name} for name in ("version", "cluster", "nodes", "storage", "access", "pools")]


@routes.get("/cluster")
async def cluster_index(_: Call) -> Any:
    return [{"name": name} for name in INDEX.split()]


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
            describe_node(cluster, node, call.allows(f"/nodes/{node.name}", "Sys.Audit"), resource=True)
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


OPTIONS = {
    "description": text(),
    "mac_prefix": text(),
    "next-id": text(),
    "registered-tags": text(),
    "user-tag-access": text(),
    "tag-style": text(),
    "keyboard": text(),
    "language": text(),
    "console": text(),
    "migration": text(),
    "http_proxy": text(),
    "email_from": text(),
    "max_workers": integer(1),
    "bwlimit": text(),
    "ha": text(),
    "crs": text(),
    "fencing": one_of("watchdog", "hardware", "both"),
}


@routes.get("/cluster/options")
async def options(call: Call) -> Any:
    cluster = call.cluster
    if not call.allows("/", "Sys.Audit"):
        return {
            "allowed-tags": [],
            **({"tag-style": cluster.options["tag-style"]} if "tag-style" in cluster.options else {}),
        }
    known = sorted(
        {
            tag
            for vm in cluster.vms.values()
            for tag in vm.config.get("tags", "").replace(",", ";").split(";")
            if tag.strip()
        }
    )
    shown = {key: value for key, value in cluster.options.items() if not key.startswith("next-id")}
    return {"description": "", **shown, **({"allowed-tags": known} if cluster.release.since(8) else {})}


@routes.put("/cluster/options", {**OPTIONS, "delete": named("pve-configid-list")}, needs("/", "Sys.Modify"))
async def set_options(call: Call) -> Any:
    for key in str(call.get("delete", "")).split(","):
        call.cluster.options.pop(key, None)
    for key, value in call.params.items():
        if key == "next-id":
            call.cluster.options |= {
                f"next-id-{part.partition('=')[0]}": part.partition("=")[2] for part in value.split(",")
            }
        elif key != "delete":
            call.cluster.options[key] = str(value)


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


# Pools.


def _pool(call: Call, name: str) -> Any:
    if name not in call.cluster.pools:
        die(f"pool '{name}' does not exist")
    return call.cluster.pools[name]


async def _members(call: Call, name: str) -> list[dict[str, Any]]:
    cluster, pool = call.cluster, _pool(call, name)
    vms = [
        await describe_vm_resource(cluster, cluster.vms[vmid], with_pool=False)
        for vmid in sorted(pool.vms)
        if vmid in cluster.vms
    ]
    stores = [
        describe_storage_resource(cluster, cluster.stores.get(storage), node)
        for storage in sorted(pool.storages)
        for node in cluster.nodes
    ]
    return vms + stores


@routes.get(
    "/pools",
    {
        "poolid": named("pve-poolid", since=(8, 1)),
        "type": one_of("qemu", "lxc", "storage", since=(8, 1), requires="poolid"),
    },
)
async def pools(call: Call) -> Any:
    name = call.get("poolid")
    if name:
        call.require(f"/pool/{name}", "Pool.Audit")
        comment = _pool(call, name).comment
        return [{"poolid": name, "members": await _members(call, name), **({"comment": comment} if comment else {})}]
    return [
        {"poolid": name, **({"comment": pool.comment} if pool.comment else {})}
        for name, pool in call.cluster.pools.items()
        if call.allows(f"/pool/{name}", "Pool.Audit")
    ]


@routes.post(
    "/pools",
    {"poolid": named("pve-poolid", optional=False), "comment": text()},
    needs("/pool/{poolid}", "Pool.Allocate"),
)
async def create_pool(call: Call) -> Any:
    from nixops_proxmox.lab.cluster import Pool

    call.cluster.check_quorum()
    name = call.params["poolid"]
    if name in call.cluster.pools:
        die(f"create pool failed: pool '{name}' already exists")
    call.cluster.pools[name] = Pool(call.get("comment", ""))


CHANGE_POOL = {
    "comment": text(),
    "delete": boolean(),
    "vms": named("string-list"),
    "storage": named("string-list"),
    "allow-move": boolean(since=(8, 1)),
}


async def change_pool(call: Call) -> Any:
    name, remove = call.params["poolid"], call.get("delete", False)
    pool = _pool(call, name)
    call.cluster.check_quorum()
    for vmid in map(int, filter(None, str(call.get("vms", "")).replace(";", ",").split(","))):
        if not call.allows(f"/vms/{vmid}", "VM.Allocate") and not call.allows(f"/vms/{vmid}", "Permissions.Modify"):
            raise Refused(403, f"Permission check failed (/vms/{vmid}, VM.Allocate)")
        _change_member(call, name, vmid, remove=remove)
    for storage in filter(None, str(call.get("storage", "")).split(",")):
        (pool.storages.discard if remove else pool.storages.add)(storage)
    if "comment" in call.params:
        pool.comment = call.params["comment"]


def _change_member(call: Call, name: str, vmid: int, *, remove: bool) -> None:
    pool = call.cluster.pools[name]
    if remove:
        if vmid not in pool.vms:
            die(f"update pools failed: VM {vmid} is not a pool member")
        pool.vms.discard(vmid)
        return
    if vmid in pool.vms:
        die(f"update pools failed: VM {vmid} is already a pool member")
    other = call.cluster.pool_of(vmid)
    if other is not None:
        if not call.get("allow-move"):
            die(f"update pools failed: VM {vmid} belongs already to pool '{other}' and 'allow-move' is not set")
        call.cluster.pools[other].vms.discard(vmid)
    pool.vms.add(vmid)


routes.put(
    "/pools",
    {**CHANGE_POOL, "poolid": named("pve-poolid", optional=False)},
    needs("/pool/{poolid}", "Pool.Allocate"),
    since=(8, 1),
)(change_pool)
routes.put("/pools/{poolid}", CHANGE_POOL, needs("/pool/{poolid}", "Pool.Allocate"))(change_pool)


@routes.get("/pools/{poolid}", {"type": one_of("qemu", "lxc", "storage")}, needs("/pool/{poolid}", "Pool.Audit"))
async def read_pool(call: Call) -> Any:
    name = call.params["poolid"]
    comment = _pool(call, name).comment
    return {"members": await _members(call, name), **({"comment": comment} if comment else {})}


async def delete_pool(call: Call) -> Any:
    name = call.params["poolid"]
    pool = _pool(call, name)
    call.cluster.check_quorum()
    vms = pool.vms & set(call.cluster.vms)  # ids without a VM do not count
    if vms:
        die(f"delete pool failed: pool '{name}' is not empty (contains VM {min(vms)})")
    if pool.storages:
        die(f"delete pool failed: pool '{name}' is not empty (contains storage '{min(pool.storages)}')")
    del call.cluster.pools[name]


routes.delete("/pools/{poolid}", {}, needs("/pool/{poolid}", "Pool.Allocate"))(delete_pool)
routes.delete(
    "/pools", {"poolid": named("pve-poolid", optional=False)}, needs("/pool/{poolid}", "Pool.Allocate"), since=(8, 1)
)(delete_pool)


# The least of HA and backup jobs.


@routes.get("/cluster/ha/status/current", permission=needs("/", "Sys.Audit"))
async def ha_status(call: Call) -> Any:
    cluster = call.cluster
    quorum = {
        "id": "quorum",
        "type": "quorum",
        "node": call.entry,
        "status": "OK" if cluster.quorate else "No quorum on this node!",
        "quorate": int(cluster.quorate),
    }
    services = [
        {
            "id": f"service:vm:{vm.vmid}",
            "type": "service",
            "sid": f"vm:{vm.vmid}",
            "node": vm.node,
            "state": vm.ha_state,
            "status": f"vm:{vm.vmid} ({vm.node}, {vm.ha_state})",
        }
        for vm in cluster.vms.values()
        if vm.ha_state
    ]
    return [quorum, *services]


@routes.get("/cluster/ha/resources", {"type": one_of("ct", "vm")}, needs("/", "Sys.Audit"))
async def ha_resources(call: Call) -> Any:
    return [
        {"sid": f"vm:{vm.vmid}", "type": "vm", "state": vm.ha_state, "digest": vm.digest}
        for vm in call.cluster.vms.values()
        if vm.ha_state
    ]


HA_STATES = one_of("started", "stopped", "enabled", "disabled", "ignored")
HA = {
    "state": HA_STATES,
    "comment": text(),
    "max_restart": integer(0),
    "max_relocate": integer(0),
    "group": text(until=(8, 4)),
    "failback": boolean(since=(9, 0)),
}


def _ha_vm(call: Call) -> Any:
    sid = str(call.params["sid"])
    vmid = int(sid.removeprefix("vm:")) if sid.removeprefix("vm:").isdigit() else 0
    if vmid not in call.cluster.vms:
        die(
            f"unable to find configuration file for VM {vmid} on any node"
            if vmid
            else f"unable to parse service ID '{sid}'"
        )
    return call.cluster.vms[vmid]


@routes.post(
    "/cluster/ha/resources", {**HA, "sid": text(optional=False), "type": one_of("ct", "vm")}, needs("/", "Sys.Console")
)
async def ha_add(call: Call) -> Any:
    vm = _ha_vm(call)
    if vm.ha_state:
        die(f"resource ID 'vm:{vm.vmid}' already defined")
    vm.ha_state = call.get("state", "started")


@routes.put(
    "/cluster/ha/resources/{sid}", {**HA, "digest": text(), "delete": named("string-list")}, needs("/", "Sys.Console")
)
async def ha_change(call: Call) -> Any:
    vm = _ha_vm(call)
    if not vm.ha_state:
        die(f"no such resource 'vm:{vm.vmid}'")
    vm.ha_state = call.get("state", vm.ha_state)


@routes.delete("/cluster/ha/resources/{sid}", {"purge": boolean(since=(9, 1))}, needs("/", "Sys.Console"))
async def ha_remove(call: Call) -> Any:
    vm = _ha_vm(call)
    if not vm.ha_state:
        die(f"cannot delete service 'vm:{vm.vmid}', not HA managed!")
    vm.ha_state = ""


@routes.get("/cluster/ha/groups", permission=needs("/", "Sys.Audit"))
async def ha_groups(call: Call) -> Any:
    if call.cluster.release.since(9):
        die("cannot index groups: ha groups have been migrated to rules")
    return []


@routes.get("/cluster/ha/rules", permission=needs("/", "Sys.Audit"), since=(9, 0))
async def ha_rules(call: Call) -> Any:
    return list(call.cluster.ha_rules.values())


BACKUP_JOB = {
    "id": text(),
    "schedule": text(),
    "enabled": boolean(),
    "vmid": named("pve-vmid-list"),
    "all": boolean(),
    "pool": text(),
    "storage": text(),
    "mode": one_of("snapshot", "suspend", "stop"),
    "node": text(),
    "prune-backups": text(),
    "comment": text(),
    "compress": text(),
    "notes-template": text(),
    "mailto": text(),
    "mailnotification": text(),
    "starttime": text(),
    "dow": text(),
}


@routes.get("/cluster/backup", permission=needs("/", "Sys.Audit"))
async def backup_jobs(call: Call) -> Any:
    return list(call.cluster.backup_jobs.values())


@routes.post("/cluster/backup", BACKUP_JOB, needs("/", "Sys.Modify"))
async def add_backup_job(call: Call) -> Any:
    name = call.get("id") or f"backup-{len(call.cluster.backup_jobs):08x}-{int(call.cluster.clock.time()) & 0xFFFF:04x}"
    call.cluster.backup_jobs[name] = {
        "enabled": "1",
        "type": "vzdump",
        **{key: str(value) for key, value in call.params.items()},
        "id": name,
    }


@routes.get("/cluster/backup/{id}", permission=needs("/", "Sys.Audit"))
async def backup_job(call: Call) -> Any:
    job = call.cluster.backup_jobs.get(call.params["id"])
    return job or die(f"No such job '{call.params['id']}'")


@routes.delete("/cluster/backup/{id}", permission=needs("/", "Sys.Modify"))
async def delete_backup_job(call: Call) -> Any:
    if call.cluster.backup_jobs.pop(call.params["id"], None) is None:
        raise Refused(400, "Parameter verification failed.", {"id": f"No such job '{call.params['id']}'"})
