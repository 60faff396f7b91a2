"""/nodes/{node}/lxc/{vmid}/{config,pending,resize}: reading and changing a container's configuration."""

from typing import Any

from nixops_proxmox.lab.call import DIGEST, Call, Routes, needs
from nixops_proxmox.lab.config import check_digest, format_size, parse_size
from nixops_proxmox.lab.container import parse_mount, print_mount, shown, typed
from nixops_proxmox.lab.containers.change import change
from nixops_proxmox.lab.containers.reassign import start_reassign
from nixops_proxmox.lab.containers.rights import ANY_CONFIG
from nixops_proxmox.lab.refusals import die
from nixops_proxmox.lab.schema.container import CONFIG, LAST_MOUNT
from nixops_proxmox.lab.schema.types import boolean, integer, matching, named, number, one_of
from nixops_proxmox.lab.tasks import Log

routes = Routes()
BASE = "/nodes/{node}/lxc/{vmid}"
AUDIT = needs("/vms/{vmid}", "VM.Audit")
CHANGE = {**CONFIG, "delete": named("pve-configid-list"), "revert": named("pve-configid-list"), "digest": DIGEST}


@routes.get(f"{BASE}/config", {"current": boolean(), "snapshot": named("pve-configid", max_length=40)}, AUDIT)
async def config(call: Call) -> Any:
    container, name = call.container, call.get("snapshot")
    if name is not None:
        if name not in container.snapshots:
            die(f"snapshot '{name}' does not exist")
        snapshot = container.snapshots[name]
        return {**shown(snapshot.config), "description": snapshot.description, "digest": container.digest}
    values = container.config if call.get("current") else container.merged()
    return {**shown(values), "digest": container.digest}


@routes.get(f"{BASE}/pending", permission=AUDIT)
async def pending(call: Call) -> Any:
    container = call.container
    found: list[dict[str, Any]] = []
    for key, value in container.config.items():
        item: dict[str, Any] = {"key": key, "value": typed(key, value)}
        if key in container.pending:
            item["pending"] = typed(key, container.pending[key])
        if key in container.deleted:
            item["delete"] = 1
        found.append(item)
    waiting = {key: value for key, value in container.pending.items() if key not in container.config}
    found += [{"key": key, "pending": typed(key, value)} for key, value in waiting.items()]
    return [*found, {"key": "digest", "value": container.digest}]


@routes.put(f"{BASE}/config", CHANGE, needs("/vms/{vmid}", *ANY_CONFIG, any_of=True))
async def put(call: Call) -> Any:
    """At once, and null: there is no other way to change a container."""
    container = call.container
    call.cluster.check_quorum()
    async with call.cluster.flocked(container):
        await change(call.cluster, call.auth, container, call.params)


RESIZE = {
    "disk": one_of("rootfs", *(f"mp{index}" for index in range(LAST_MOUNT + 1)), optional=False),
    "size": matching(r"\+?\d+(\.\d+)?[KMGT]?", optional=False),
    "digest": DIGEST,
}


@routes.put(f"{BASE}/resize", RESIZE, needs("/vms/{vmid}", "VM.Config.Disk"))
async def resize(call: Call) -> Any:
    call.cluster.check_quorum()
    await _resize(call, None)

    async def work(log: Log) -> None:
        async with call.cluster.flocked(call.container):
            await _resize(call, log)

    return call.cluster.tasks.start(call.node, "resize", str(call.vmid), call.auth, work)


async def _resize(call: Call, log: Log | None) -> None:
    """Looked at before the task, too. `log` None: only looked at."""
    container, cluster, key = call.container, call.cluster, call.params["disk"]
    container.check_lock()
    check_digest(call.get("digest"), container.digest, cluster.release)
    if key not in container.config:
        die("unable to parse volume ID ''")
    mount = parse_mount(key, container.config[key])
    cluster.require(call.auth, f"/storage/{mount['volume'].partition(':')[0]}", "Datastore.AllocateSpace")
    volume = cluster.stores.get_volume(mount["volume"], container.node)
    given = call.params["size"]
    amount = parse_size(given.removeprefix("+")) or 0
    size = volume.size + amount if given.startswith("+") else amount
    if size < volume.size:
        die("unable to shrink disk size")
    if size == volume.size:
        die("disk is already at specified size")
    if log is None:
        return
    volume = await cluster.stores.resize(volume, size)
    log.say("resize2fs: the filesystem has been grown")
    container.config[key] = print_mount({**mount, "size": format_size(size)})
    if key in container.started:
        container.started[key] = container.config[key]


VOLUMES = ("rootfs", *(f"mp{n}" for n in range(LAST_MOUNT + 1)), *(f"unused{n}" for n in range(LAST_MOUNT + 1)))
MOVE = {
    "volume": one_of(*VOLUMES, optional=False),
    "storage": named("pve-storage-id"),
    "delete": boolean(),
    "digest": DIGEST,
    "bwlimit": number(0),
    "target-vmid": integer(100, 999999999, format="pve-vmid"),
    "target-volume": one_of(*VOLUMES),
    "target-digest": DIGEST,
}


@routes.post(f"{BASE}/move_volume", MOVE, needs("/vms/{vmid}", "VM.Config.Disk"))
async def move_volume(call: Call) -> Any:
    return start_reassign(call.cluster, call.auth, call.container, call.params)
