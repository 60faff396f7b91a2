"""/pools: VMs and storages, grouped for permissions."""

from typing import Any

from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.cluster import Pool
from nixops_proxmox.lab.describe import describe_storage_resource, describe_vm_resource
from nixops_proxmox.lab.refusals import Refused, die
from nixops_proxmox.lab.schema.types import boolean, named, one_of, text

routes = Routes()


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
