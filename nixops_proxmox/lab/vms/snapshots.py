"""Snapshots: of disks through the storages, of RAM through the machine, and of the configuration."""

from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import UNUSED, disk_keys, is_cdrom, parse_disk
from nixops_proxmox.lab.refusals import Refused, die
from nixops_proxmox.lab.storage import Stored
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vm import Snapshot, Vm
from nixops_proxmox.lab.vms import power

NOT_KEPT = ("parent", "lock", "snaptime", "vmstate", "pending", "description", "digest")


def hard_disks(cluster: Cluster, vm: Vm, config: dict[str, str] | None = None) -> dict[str, Stored]:
    """Key → volume of every disk that is no CD-ROM."""
    config = vm.config if config is None else config
    found = {}
    for key in disk_keys(config):
        disk = parse_disk(key, config[key])
        stored = cluster.stores.find(disk["file"], vm.node)
        if not is_cdrom(disk) and stored is not None:
            found[key] = stored
    return found


def can_snapshot(cluster: Cluster, vm: Vm) -> bool:
    return all(cluster.stores.can_snapshot(stored) for stored in hard_disks(cluster, vm).values())


async def take(cluster: Cluster, vm: Vm, name: str, description: str, *, with_ram: bool, log: Log) -> None:
    """Within the flock."""
    vm.check_lock()
    if vm.is_template:
        die("you can't take a snapshot if it's a template")
    if name in vm.snapshots:
        die(f"snapshot name '{name}' already used")
    if not can_snapshot(cluster, vm):
        die("snapshot feature is not available")
    cluster.check_quorum()
    vm.config["lock"] = "snapshot"
    try:
        state = await _save_ram(cluster, vm, name, log) if with_ram and vm.running else None
        for key, stored in hard_disks(cluster, vm).items():
            log.say(f"snapshotting 'drive-{key}' ({stored.volid})")
            await cluster.stores.take_snapshot(stored, name)
    finally:
        vm.config.pop("lock", None)
    config = saved_config(vm, cluster.clock.time())
    if state is not None:
        config["vmstate"] = state.volid
    vm.snapshots[name] = Snapshot(config, description, state.path if state else None)
    vm.config["parent"] = name


async def _save_ram(cluster: Cluster, vm: Vm, name: str, log: Log) -> Stored:
    """On vmstatestorage, else a shared one of the VM's, else a local one of its, else `local`."""
    names = [stored.storage for stored in hard_disks(cluster, vm).values()]
    shared = [one for one in names if cluster.stores.get(one).shared]
    storage = cluster.stores.get_usable(vm.config.get("vmstatestorage") or (shared or names or ["local"])[0], vm.node)
    size = 2 * int(vm.config.get("memory", "512").split("=")[-1]) * 1024**2 + 500 * 1024**2
    log.say(f"saving VM state and RAM using storage '{storage.name}'")
    stored = await cluster.stores.allocate(storage, vm.node, vm.vmid, size, "raw", stem=f"state-{name}")
    assert vm.running is not None
    await vm.running.save_state(stored.path)
    log.say("completed saving the VM state in 1s, saved 256.00 MiB")
    return stored


def saved_config(vm: Vm, now: float) -> dict[str, str]:
    """What a snapshot keeps of a guest's configuration."""
    config = {key: value for key, value in vm.config.items() if key not in NOT_KEPT and not UNUSED.match(key)}
    if "parent" in vm.config:
        config["parent"] = vm.config["parent"]
    return {**config, "snaptime": str(int(now))}


def return_config(vm: Vm, name: str) -> None:
    """The guest's configuration is the snapshot's again, except for what no snapshot has."""
    kept = {key: value for key, value in vm.config.items() if key == "description" or UNUSED.match(key)}
    saved = vm.snapshots[name].config
    restored = {key: value for key, value in saved.items() if key not in ("snaptime", "vmstate", "parent")}
    vm.config = {**restored, **kept, "parent": name}
    vm.pending.clear()
    vm.deleted.clear()


def get_snapshot(vm: Vm, name: str) -> Snapshot:
    if name not in vm.snapshots:
        die(f"snapshot '{name}' does not exist")
    return vm.snapshots[name]


async def rollback(cluster: Cluster, vm: Vm, name: str) -> bool:
    """Within the flock. True when the VM runs again from the snapshot's RAM."""
    snapshot = get_snapshot(vm, name)
    vm.check_lock()
    if vm.is_template:
        die("you can't rollback if vm is a template")
    cluster.check_quorum()
    vm.config["lock"] = "rollback"
    try:
        await power.stop(vm)
        for stored in hard_disks(cluster, vm, snapshot.config).values():
            await cluster.stores.rollback(stored, name)
    finally:
        vm.config.pop("lock", None)
    return_config(vm, name)
    vm.config["vmgenid"] = cluster.new_uuid()
    if snapshot.state is not None:
        await power.power_on(cluster, vm, snapshot.state)
        return True
    return False


async def drop(cluster: Cluster, vm: Vm, name: str, *, force: bool, log: Log) -> None:
    snapshot = get_snapshot(vm, name)
    vm.check_lock()
    cluster.check_quorum()
    vm.config["lock"] = "snapshot-delete"
    try:
        for stored in {**hard_disks(cluster, vm, snapshot.config)}.values():
            try:
                await cluster.stores.drop_snapshot(stored, name)
            except Refused as refusal:
                if not force:
                    raise
                log.warn(refusal.text)
        if "vmstate" in snapshot.config and (ram := cluster.stores.find(snapshot.config["vmstate"], vm.node)):
            await cluster.stores.free(ram)
    finally:
        vm.config.pop("lock", None)
    del vm.snapshots[name]
    adopt_children(vm, name, snapshot.config.get("parent"))


def adopt_children(vm: Vm, name: str, parent: str | None) -> None:
    """Children of a dropped snapshot become its parent's."""
    for config in (vm.config, *(other.config for other in vm.snapshots.values())):
        if config.get("parent") == name:
            if parent:
                config["parent"] = parent
            else:
                del config["parent"]
