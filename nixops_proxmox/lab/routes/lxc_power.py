"""/nodes/{node}/lxc/{vmid}: status and power, snapshots, migration, and the terminal."""

from typing import Any

from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.container import shown
from nixops_proxmox.lab.containers import moves, power, saves
from nixops_proxmox.lab.describe import describe_ha, vm_figures
from nixops_proxmox.lab.refusals import bad_parameter, die
from nixops_proxmox.lab.routes.console import open_terminal, serve_terminal
from nixops_proxmox.lab.routes.lxc import AUDIT, BASE, refuse_skiplock
from nixops_proxmox.lab.routes.snapshots import RESERVED, list_snapshots
from nixops_proxmox.lab.schema import properties
from nixops_proxmox.lab.schema.types import boolean, integer, named, number, one_of, text
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vms.ha import request
from nixops_proxmox.lab.vms.snapshots import get_snapshot

routes = Routes()
STATUS = f"{BASE}/status"
POWER = needs("/vms/{vmid}", "VM.PowerMgmt")
SNAPSHOT = needs("/vms/{vmid}", "VM.Snapshot")
CONSOLE = needs("/vms/{vmid}", "VM.Console")


@routes.get(STATUS)
async def index(_: Call) -> Any:
    return [{"subdir": name} for name in ("current", "start", "stop", "shutdown", "suspend", "resume", "reboot")]


@routes.get(f"{STATUS}/current", permission=AUDIT)
async def current(call: Call) -> Any:
    return {**await vm_figures(call.cluster, call.container), "ha": describe_ha(call.container)}


@routes.post(f"{STATUS}/start", {"debug": boolean(), "skiplock": boolean()}, POWER)
async def start(call: Call) -> Any:
    refuse_skiplock(call)
    call.cluster.check_quorum()
    if call.container.running:
        die(f"CT {call.vmid} already running")
    return _ha(call, "start") or power.start_task(call.cluster, call.auth, call.node, call.vmid)


def _ha(call: Call, what: str, patience: float = 0.0) -> str | None:
    return request(call.cluster, call.auth, call.node, call.container, what, patience)


@routes.post(f"{STATUS}/stop", {"skiplock": boolean(), "overrule-shutdown": boolean(since=(8, 2))}, POWER)
async def stop(call: Call) -> Any:
    refuse_skiplock(call)
    cluster, container = call.cluster, power.get_running(call.container)
    if call.get("overrule-shutdown"):
        if container.is_managed:
            raise bad_parameter("overrule-shutdown", "Not applicable for HA resources.")
        for task in cluster.tasks.tasks.values():
            if task.type == "vzshutdown" and task.id == str(call.vmid) and task.status is None:
                cluster.tasks.kill(task, politely=True)

    async def work(_: Log) -> None:
        async with cluster.flocked(container):
            await power.stop_now(container)

    return _ha(call, "stop") or cluster.tasks.start(call.node, "vzstop", str(call.vmid), call.auth, work)


@routes.post(f"{STATUS}/shutdown", {"timeout": integer(0), "forceStop": boolean()}, POWER)
async def shutdown(call: Call) -> Any:
    cluster, container = call.cluster, power.get_running(call.container)

    async def work(_: Log) -> None:
        async with cluster.flocked(container):
            await power.shut_down(container, _timeout(call), force=call.get("forceStop", False))

    asked = _ha(call, "stop", _timeout(call))
    return asked or cluster.tasks.start(call.node, "vzshutdown", str(call.vmid), call.auth, work)


def _timeout(call: Call) -> float:
    """The call's, else `down=` of the startup order, else 60."""
    given = call.get("timeout")
    if given is not None:
        return float(given)
    return float(properties.split(call.container.config.get("startup", "")).get("down", 60))


@routes.post(f"{STATUS}/reboot", {"timeout": integer(0)}, POWER)
async def reboot(call: Call) -> Any:
    container = power.get_running(call.container, "VM")  # PVE's own word there

    async def work(log: Log) -> None:
        await power.reboot(call.cluster, container, _timeout(call), log)

    return call.cluster.tasks.start(call.node, "vzreboot", str(call.vmid), call.auth, work)


# Snapshots.


@routes.get(f"{BASE}/snapshot", permission=AUDIT)
async def snapshots(call: Call) -> Any:
    return list_snapshots(call.container)


@routes.post(
    f"{BASE}/snapshot",
    {"snapname": named("pve-configid", max_length=40, optional=False), "description": text()},
    SNAPSHOT,
)
async def take(call: Call) -> Any:
    container, name = call.container, call.params["snapname"]
    if name in RESERVED:
        die(f"unable to use snapshot name '{name}' (reserved name)")

    async def work(log: Log) -> None:
        async with call.cluster.flocked(container):
            await saves.take(call.cluster, container, name, call.get("description", ""), log)

    return call.cluster.tasks.start(call.node, "vzsnapshot", str(call.vmid), call.auth, work)


@routes.get(
    f"{BASE}/snapshot/{{snapname}}/config",
    permission=needs("/vms/{vmid}", "VM.Snapshot", "VM.Snapshot.Rollback", "VM.Audit", any_of=True),
)
async def snapshot_config(call: Call) -> Any:
    snapshot = get_snapshot(call.container, call.params["snapname"])
    return {**shown(snapshot.config), "description": snapshot.description}


@routes.post(
    f"{BASE}/snapshot/{{snapname}}/rollback",
    {"start": boolean()},
    needs("/vms/{vmid}", "VM.Snapshot", "VM.Snapshot.Rollback", any_of=True),
)
async def rollback(call: Call) -> Any:
    container = call.container

    async def work(log: Log) -> None:
        async with call.cluster.flocked(container):
            await saves.rollback(call.cluster, container, call.params["snapname"])
            if call.get("start"):
                await power.start(call.cluster, container, log)

    return call.cluster.tasks.start(call.node, "vzrollback", str(call.vmid), call.auth, work)


@routes.delete(f"{BASE}/snapshot/{{snapname}}", {"force": boolean()}, SNAPSHOT)
async def drop(call: Call) -> Any:
    container = call.container

    async def work(_: Log) -> None:
        async with call.cluster.flocked(container):
            await saves.drop(call.cluster, container, call.params["snapname"])

    return call.cluster.tasks.start(call.node, "vzdelsnapshot", str(call.vmid), call.auth, work)


@routes.get(
    f"{BASE}/feature",
    {"feature": one_of("snapshot", "clone", "copy", optional=False), "snapname": named("pve-configid")},
    AUDIT,
)
async def feature(call: Call) -> Any:
    can = call.params["feature"] == "copy" or saves.can_snapshot(call.cluster, call.container)
    return {"hasFeature": int(can)}


# To another node, and the terminal.


MIGRATE = {
    "target": named("pve-node", optional=False),
    "online": boolean(),
    "restart": boolean(),
    "timeout": integer(),
    "target-storage": text(),
    "bwlimit": number(0),
}


@routes.post(f"{BASE}/migrate", MIGRATE, needs("/vms/{vmid}", "VM.Migrate"))
async def migrate(call: Call) -> Any:
    return moves.start_migration(call.cluster, call.auth, call.container, call.params)


@routes.post(f"{BASE}/termproxy", {}, CONSOLE)
async def term_proxy(call: Call) -> Any:
    """A login prompt; a container needs no serial port for it."""
    return await open_terminal(call, call.container)


@routes.get(
    f"{BASE}/vncwebsocket",
    {"port": integer(5900, 5999, optional=False), "vncticket": text(512, optional=False)},
    CONSOLE,
)
async def websocket(call: Call) -> Any:
    return await serve_terminal(call, call.container)
