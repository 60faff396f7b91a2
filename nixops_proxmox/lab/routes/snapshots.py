"""/nodes/{node}/qemu/{vmid}/snapshot, and what a VM can do at all (feature)."""

from typing import Any

from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.config import shown
from nixops_proxmox.lab.refusals import die
from nixops_proxmox.lab.schema.types import boolean, named, one_of, text
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vm import Vm
from nixops_proxmox.lab.vms import power, snapshots

routes = Routes()
VM = "/nodes/{node}/qemu/{vmid}"
BASE = f"{VM}/snapshot"
AUDIT = needs("/vms/{vmid}", "VM.Audit")
SNAPSHOT = needs("/vms/{vmid}", "VM.Snapshot")
RESERVED = ("current", "pending")


@routes.get(BASE, permission=AUDIT)
async def listed(call: Call) -> Any:
    return list_snapshots(call.vm)


def list_snapshots(vm: Vm) -> list[dict[str, Any]]:
    """With the pseudo entry `current` at the end."""
    found = []
    for name, snapshot in sorted(vm.snapshots.items(), key=lambda item: item[0], reverse=True):
        entry: dict[str, Any] = {
            "name": name,
            "description": snapshot.description,
            "snaptime": int(snapshot.config["snaptime"]),
            "vmstate": int("vmstate" in snapshot.config),
        }
        if "parent" in snapshot.config:
            entry["parent"] = snapshot.config["parent"]
        found.append(entry)
    current: dict[str, Any] = {
        "name": "current",
        "description": "You are here!",
        "digest": vm.digest,
        "running": int(vm.running is not None),
    }
    if "parent" in vm.config:
        current["parent"] = vm.config["parent"]
    return [*found, current]


@routes.post(
    BASE,
    {"snapname": named("pve-configid", max_length=40, optional=False), "vmstate": boolean(), "description": text()},
    SNAPSHOT,
)
async def take(call: Call) -> Any:
    vm, name = call.vm, call.params["snapname"]
    if name in RESERVED:
        die(f"unable to use snapshot name '{name}' (reserved name)")
    call.cluster.check_quorum()

    async def work(log: Log) -> None:
        async with call.cluster.flocked(vm):
            await snapshots.take(
                call.cluster, vm, name, call.get("description", ""), with_ram=call.get("vmstate", False), log=log
            )

    return call.cluster.tasks.start(call.node, "qmsnapshot", str(vm.vmid), call.auth, work)


@routes.get(f"{BASE}/{{snapname}}", permission=AUDIT)
async def index(_: Call) -> Any:
    return [{"cmd": "rollback"}, {"cmd": "config"}]


@routes.get(
    f"{BASE}/{{snapname}}/config",
    permission=needs("/vms/{vmid}", "VM.Snapshot", "VM.Snapshot.Rollback", "VM.Audit", any_of=True),
)
async def config(call: Call) -> Any:
    snapshot = snapshots.get_snapshot(call.vm, call.params["snapname"])
    return {**shown(snapshot.config, call.cluster.release), "description": snapshot.description}


@routes.put(f"{BASE}/{{snapname}}/config", {"description": text()}, SNAPSHOT)
async def describe(call: Call) -> Any:
    snapshots.get_snapshot(call.vm, call.params["snapname"]).description = call.get("description", "")


def may_roll_back(call: Call) -> None:
    call.require(f"/vms/{call.params['vmid']}", "VM.Snapshot", "VM.Snapshot.Rollback", any_of=True)


@routes.post(f"{BASE}/{{snapname}}/rollback", {"start": boolean(since=(7, 4))}, may_roll_back)
async def rollback(call: Call) -> Any:
    vm, cluster = call.vm, call.cluster
    cluster.check_quorum()

    async def work(_: Log) -> None:
        async with cluster.flocked(vm):
            runs = await snapshots.rollback(cluster, vm, call.params["snapname"])
        if call.get("start") and not runs:
            power.begin_start(cluster, call.auth, vm)

    return cluster.tasks.start(call.node, "qmrollback", str(vm.vmid), call.auth, work)


@routes.delete(f"{BASE}/{{snapname}}", {"force": boolean()}, SNAPSHOT)
async def drop(call: Call) -> Any:
    vm = call.vm
    call.cluster.check_quorum()

    async def work(log: Log) -> None:
        async with call.cluster.flocked(vm):
            await snapshots.drop(call.cluster, vm, call.params["snapname"], force=call.get("force", False), log=log)

    return call.cluster.tasks.start(call.node, "qmdelsnapshot", str(vm.vmid), call.auth, work)


@routes.get(
    f"{VM}/feature",
    {"feature": one_of("snapshot", "clone", "copy", optional=False), "snapname": named("pve-configid")},
    AUDIT,
)
async def feature(call: Call) -> Any:
    vm, cluster = call.vm, call.cluster
    disks = snapshots.hard_disks(cluster, vm).values()
    has = {
        "snapshot": snapshots.can_snapshot(cluster, vm),
        "clone": all(cluster.stores.can_link(stored) for stored in disks),
        "copy": True,
    }[call.params["feature"]]
    shared = all(cluster.stores.get(stored.storage).shared for stored in disks)
    return {"hasFeature": int(has), "nodes": list(cluster.nodes) if shared else [vm.node]}
