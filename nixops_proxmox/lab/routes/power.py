"""/nodes/{node}/qemu/{vmid}/status: what it does now, and its power."""

from typing import Any

from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.describe import describe_vm_status
from nixops_proxmox.lab.refusals import bad_parameter, die
from nixops_proxmox.lab.routes.qemu import refuse_skiplock
from nixops_proxmox.lab.schema import properties
from nixops_proxmox.lab.schema.types import boolean, integer, named, text
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vm import Vm
from nixops_proxmox.lab.vms import power
from nixops_proxmox.lab.vms.ha import request

routes = Routes()
BASE = "/nodes/{node}/qemu/{vmid}/status"
POWER = needs("/vms/{vmid}", "VM.PowerMgmt")
START = {
    "timeout": integer(0),
    "skiplock": boolean(),
    "stateuri": text(128),
    "migratedfrom": named("pve-node"),
    "migration_type": text(),
    "migration_network": text(),
    "machine": text(),
    "force-cpu": text(),
    "targetstorage": text(),
    "nets-host-mtu": text(since=(9, 1)),
}


@routes.get(BASE, permission=needs("/vms/{vmid}", "VM.Audit"))
async def index(_: Call) -> Any:
    return [{"subdir": name} for name in ("current", "start", "stop", "reset", "shutdown", "suspend", "reboot")]


@routes.get(f"{BASE}/current", permission=needs("/vms/{vmid}", "VM.Audit"))
async def current(call: Call) -> Any:
    return await describe_vm_status(call.cluster, call.vm)


def _is_ha(call: Call) -> bool:
    vm = call.cluster.vms.get(call.vmid)
    return vm is not None and vm.is_managed


def _ha(call: Call, what: str, patience: float = 0.0) -> str | None:
    return request(call.cluster, call.auth, call.node, call.cluster.vms.get(call.vmid), what, patience)


@routes.post(f"{BASE}/start", START, POWER)
async def start(call: Call) -> Any:
    refuse_skiplock(
        call, "stateuri", "migratedfrom", "migration_type", "migration_network", "targetstorage", "force-cpu"
    )
    call.cluster.check_quorum()
    return _ha(call, "start") or power.start_task(call.cluster, call.auth, call.node, call.vmid)


@routes.post(
    f"{BASE}/stop",
    {
        "timeout": integer(0),
        "skiplock": boolean(),
        "keepActive": boolean(),
        "migratedfrom": named("pve-node"),
        "overrule-shutdown": boolean(since=(8, 2)),
    },
    POWER,
)
async def stop(call: Call) -> Any:
    refuse_skiplock(call, "keepActive", "migratedfrom")
    cluster = call.cluster
    if call.get("overrule-shutdown"):
        if _is_ha(call):
            raise bad_parameter("overrule-shutdown", "Not applicable for HA resources.")
        for task in cluster.tasks.tasks.values():
            if task.type == "qmshutdown" and task.id == str(call.vmid) and task.status is None:
                cluster.tasks.kill(task, politely=True)

    async def work(_: Log) -> None:
        vm = cluster.find_running_config(call.node, call.vmid)
        if vm.running is None:
            return
        async with cluster.flocked(vm):
            if not call.get("skiplock"):
                vm.check_lock("backup")
            await power.stop_and_tidy(cluster, vm)

    return _ha(call, "stop") or cluster.tasks.start(call.node, "qmstop", str(call.vmid), call.auth, work)


def _down_timeout(vm: Vm, given: Any) -> float:
    """The call's, else `down=` of the startup order, else 60."""
    if given is not None:
        return float(given)
    return float(properties.split(vm.config.get("startup", "")).get("down", 60))


@routes.post(
    f"{BASE}/shutdown",
    {"timeout": integer(0), "forceStop": boolean(), "keepActive": boolean(), "skiplock": boolean()},
    POWER,
)
async def shutdown(call: Call) -> Any:
    refuse_skiplock(call, "keepActive")
    cluster, force = call.cluster, call.get("forceStop", False)
    vm = cluster.vms.get(call.vmid)
    if vm is not None and vm.paused and not force:
        die("VM is paused - cannot shutdown")

    async def work(log: Log) -> None:
        vm = cluster.find_running_config(call.node, call.vmid)
        if vm.running is None:
            return
        async with cluster.flocked(vm):
            if not call.get("skiplock"):
                vm.check_lock("backup")
            await power.shut_down(cluster, vm, _down_timeout(vm, call.get("timeout")), force=force, log=log)

    asked = _ha(call, "stop", _down_timeout(vm, call.get("timeout")) if vm else 0.0)
    return asked or cluster.tasks.start(call.node, "qmshutdown", str(call.vmid), call.auth, work)


def _running(call: Call) -> Vm:
    vm = call.cluster.find_running_config(call.node, call.vmid)
    if vm.running is None:
        die(f"VM {vm.vmid} not running")
    return vm


@routes.post(f"{BASE}/reboot", {"timeout": integer(0)}, POWER)
async def reboot(call: Call) -> Any:
    vm = _running(call)
    if vm.paused:
        die("VM is paused - cannot shutdown")

    async def work(log: Log) -> None:
        await power.reboot(call.cluster, vm, _down_timeout(vm, call.get("timeout")), log)

    return call.cluster.tasks.start(call.node, "qmreboot", str(vm.vmid), call.auth, work)


@routes.post(f"{BASE}/reset", {"skiplock": boolean()}, POWER)
async def reset(call: Call) -> Any:
    refuse_skiplock(call)
    vm = _running(call)

    async def work(_: Log) -> None:
        async with call.cluster.flocked(vm):
            if vm.running is None:
                die(f"VM {vm.vmid} not running")
            vm.check_lock()
            await vm.running.reset()

    return call.cluster.tasks.start(call.node, "qmreset", str(vm.vmid), call.auth, work)


@routes.post(
    f"{BASE}/suspend", {"skiplock": boolean(), "statestorage": named("pve-storage-id"), "todisk": boolean()}, POWER
)
async def suspend(call: Call) -> Any:
    refuse_skiplock(call)
    vm = _running(call)
    to_disk = call.get("todisk", False)
    if to_disk:
        call.require(f"/vms/{vm.vmid}", "VM.Config.Disk")
        if vm.is_managed:
            die("Cannot suspend HA managed VM to disk")

    async def work(_: Log) -> None:
        async with call.cluster.flocked(vm):
            vm.check_lock()
            if to_disk and vm.running:
                await vm.running.save_state(vm.directory / "suspend.state")
                await power.stop(vm)
                vm.config["lock"] = "suspended"
            else:
                await power.pause(vm)

    return call.cluster.tasks.start(call.node, "qmsuspend" if to_disk else "qmpause", str(vm.vmid), call.auth, work)


@routes.post(f"{BASE}/resume", {"skiplock": boolean(), "nocheck": boolean()}, POWER)
async def resume(call: Call) -> Any:
    refuse_skiplock(call, "nocheck")
    vm = call.cluster.find_running_config(call.node, call.vmid)
    if vm.lock == "suspended":
        return power.start_task(call.cluster, call.auth, call.node, call.vmid)
    _running(call)

    async def work(_: Log) -> None:
        await power.resume(vm)

    return call.cluster.tasks.start(call.node, "qmresume", str(vm.vmid), call.auth, work)
