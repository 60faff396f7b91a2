"""/nodes/{node}/qemu/{vmid}/{config,pending,unlink,resize}: reading and changing a configuration."""

from typing import Any

from nixops_proxmox.lab.call import DIGEST, Call, Routes, needs
from nixops_proxmox.lab.clock import within
from nixops_proxmox.lab.config import (
    MASK,
    check_digest,
    format_disk,
    format_size,
    parse_disk,
    parse_size,
    shown,
    typed,
)
from nixops_proxmox.lab.refusals import die
from nixops_proxmox.lab.routes.qemu import refuse_skiplock
from nixops_proxmox.lab.schema.types import boolean, integer, matching, named, one_of
from nixops_proxmox.lab.schema.vm import CONFIG
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vms.change import apply_change, check_change, described, parse_change, raise_problems
from nixops_proxmox.lab.vms.rights import ANY_CONFIG

routes = Routes()
BASE = "/nodes/{node}/qemu/{vmid}"
AUDIT = needs("/vms/{vmid}", "VM.Audit")
CHANGE = {
    **CONFIG,
    "delete": named("pve-configid-list"),
    "revert": named("pve-configid-list"),
    "digest": DIGEST,
    "force": boolean(),
    "skiplock": boolean(),
}
MAY_CHANGE = needs("/vms/{vmid}", *ANY_CONFIG, any_of=True)


@routes.get(f"{BASE}/config", {"current": boolean(), "snapshot": named("pve-configid", max_length=40)}, AUDIT)
async def config(call: Call) -> Any:
    vm = call.vm
    name = call.get("snapshot")
    if name is not None:
        if name not in vm.snapshots:
            die(f"snapshot '{name}' does not exist")
        snapshot = vm.snapshots[name]
        return {
            **shown(snapshot.config, call.cluster.release),
            "description": snapshot.description,
            "digest": vm.digest,
        }
    values = vm.config if call.get("current") else vm.merged()
    return {**shown(values, call.cluster.release), "digest": vm.digest}


@routes.get(f"{BASE}/pending", permission=AUDIT)
async def pending(call: Call) -> Any:
    vm, release = call.vm, call.cluster.release
    found: list[dict[str, Any]] = []
    for key, value in vm.config.items():
        item: dict[str, Any] = {"key": key, "value": MASK if key == "cipassword" else typed(key, value, release)}
        if key in vm.pending:
            item["pending"] = MASK if key == "cipassword" else typed(key, vm.pending[key], release)
        if key in vm.deleted:
            item["delete"] = 2 if vm.deleted[key] else 1
        found.append(item)
    found += [
        {"key": key, "pending": MASK if key == "cipassword" else typed(key, value, release)}
        for key, value in vm.pending.items()
        if key not in vm.config
    ]
    return [*found, {"key": "digest", "value": vm.digest}]


@routes.put(f"{BASE}/config", CHANGE, MAY_CHANGE)
async def change(call: Call) -> Any:
    """Synchronous, hotplug and allocation included."""
    refuse_skiplock(call)
    vm = call.vm
    wanted = parse_change(call.cluster, call.params)
    check_change(call.cluster, call.auth, vm, wanted)
    async with call.cluster.flocked(vm):
        raise_problems(await apply_change(call.cluster, vm, wanted, Log()))


@routes.post(
    f"{BASE}/config",
    {**CHANGE, "background_delay": integer(1, 30), "import-working-storage": named("pve-storage-id", since=(8, 2))},
    MAY_CHANGE,
)
async def change_later(call: Call) -> Any:
    refuse_skiplock(call)
    vm, cluster = call.vm, call.cluster
    wanted = parse_change(cluster, call.params)
    check_change(cluster, call.auth, vm, wanted)

    async def work(log: Log) -> None:
        log.say(f"update VM {vm.vmid}: {described(wanted)}")
        async with cluster.flocked(vm):
            raise_problems(await apply_change(cluster, vm, wanted, log))

    upid = cluster.tasks.start(call.node, "qmconfig", str(vm.vmid), call.auth, work)
    if "background_delay" in call.params:
        return await _wait_a_little(call, upid)
    return upid


async def _wait_a_little(call: Call, upid: str) -> str | None:
    task = call.cluster.tasks.tasks[upid]

    async def finished() -> None:
        while task.status is None:
            await call.cluster.clock.sleep(0.1)

    try:
        await within(call.cluster.clock, call.params["background_delay"], finished())
    except TimeoutError:
        return upid
    if task.status != "OK":
        die(f"failed to update VM {call.vmid}: {task.status}")
    return None


@routes.put(
    f"{BASE}/unlink",
    {"idlist": named("pve-configid-list", optional=False), "force": boolean()},
    needs("/vms/{vmid}", "VM.Config.Disk"),
)
async def unlink(call: Call) -> Any:
    call.params["delete"] = call.params.pop("idlist")
    await change(call)


RESIZE = {
    "disk": one_of(
        *[
            f"{bus}{index}"
            for bus, last in (("ide", 3), ("scsi", 30), ("virtio", 15), ("sata", 5))
            for index in range(last + 1)
        ],
        "efidisk0",
        "tpmstate0",
        optional=False,
    ),
    "size": matching(r"\+?\d+(\.\d+)?[KMGT]?", optional=False),
    "digest": DIGEST,
    "skiplock": boolean(),
}


@routes.put(f"{BASE}/resize", RESIZE, needs("/vms/{vmid}", "VM.Config.Disk"))
async def resize(call: Call) -> Any:
    refuse_skiplock(call)
    call.cluster.check_quorum()
    if not call.cluster.release.since(8):
        await _resize(call, Log())
        return None

    async def work(log: Log) -> None:
        await _resize(call, log)

    return call.cluster.tasks.start(call.node, "resize", str(call.vmid), call.auth, work)


async def _resize(call: Call, log: Log) -> None:
    vm, cluster, key = call.vm, call.cluster, call.params["disk"]
    async with cluster.flocked(vm):
        check_digest(call.get("digest"), vm.digest, cluster.release)
        if not call.get("skiplock"):
            vm.check_lock()
        if key not in vm.config:
            die(f"disk '{key}' does not exist")
        disk = parse_disk(key, vm.config[key])
        storage = cluster.stores.split(disk["file"])[0]
        if disk.get("media") == "cdrom":
            die("you can't resize a cdrom")
        cluster.require(call.auth, f"/storage/{storage}", "Datastore.AllocateSpace")
        stored = cluster.stores.get_volume(disk["file"], vm.node)
        given = call.params["size"]
        amount = parse_size(given.removeprefix("+")) or 0
        size = stored.size + amount if given.startswith("+") else amount
        if size < stored.size:
            die("shrinking disks is not supported")
        if size == stored.size:
            return
        if size >= 2**63:
            _too_large(stored.format, stored.shown, size, log)
        stored = await cluster.stores.resize(stored, size)
        log.say(
            "Image resized."
            if cluster.stores.storages[storage].on_files
            else f"  Size of logical volume pve/{stored.volid.partition(':')[2]} changed."
        )
        vm.config[key] = format_disk({**disk, "size": format_size(size)})
        if key in vm.started:
            vm.started[key] = vm.config[key]
        if key == "efidisk0" and vm.running:  # after the storage has done its part
            die(
                f"VM {vm.vmid} qmp command 'block_resize' failed - Conflicts with use by system.flash1 as 'root', "
                "which does not allow 'resize' on #block"
            )


def _too_large(format: str, path: str, size: int, log: Log) -> None:
    log.say(
        "qemu-img: Parameter 'size' expects a non-negative number below 2^64\n"
        "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively."
    )
    die(f"command '/usr/bin/qemu-img resize -f {format} {path} {size:.15g}' failed: exit code 1")
