"""Making a container: claim the id at once; make volumes, unpack the template and set it up in a task."""

from collections.abc import Mapping
from typing import Any

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import format_size, gib_to_bytes, is_nic, normalise_tags, stored
from nixops_proxmox.lab.container import Container, is_bound, mounts_of, parse_mount, parse_net, print_mount, print_net
from nixops_proxmox.lab.containers import power
from nixops_proxmox.lab.containers.rights import check_rights
from nixops_proxmox.lab.containers.unpack import fill
from nixops_proxmox.lab.ipam import take
from nixops_proxmox.lab.refusals import PARAMETERS, Refused, bad_parameter, die
from nixops_proxmox.lab.storage import Stored
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vms.create import join_pool
from nixops_proxmox.lab.vms.disks import NEW, Made, allocation_line
from nixops_proxmox.lab.vms.rights import check_bridges

NOT_CONFIG = frozenset(
    [
        "node",
        "vmid",
        "ostemplate",
        "bwlimit",
        "force",
        "ha-managed",
        "ignore-unpack-errors",
        "password",
        "pool",
        "restore",
        "ssh-public-keys",
        "start",
        "storage",
        "unique",
        "unprivileged",
        "delete",
        "revert",
        "digest",
    ]
)
NO_SYSTEM = "unable to create CT %d - unable to detect OS distribution"


def config_values(params: Mapping[str, Any]) -> dict[str, str]:
    """The configuration keys among a call's parameters, as they are stored."""
    values = {key: stored(value) for key, value in params.items() if key not in NOT_CONFIG}
    if "tags" in values:
        values["tags"] = normalise_tags(values["tags"])
    if not values.get("description", "x").strip():
        del values["description"]
    return values


def start_create(cluster: Cluster, auth: Auth, node: str, params: Mapping[str, Any]) -> str:
    """The call's own part; the UPID."""
    vmid, pool = int(params["vmid"]), params.get("pool")
    unprivileged = bool(params.get("unprivileged", cluster.release.since(9)))
    if not unprivileged and cluster.release.since(9):
        cluster.require(auth, "/", "Sys.Modify")
    if vmid in cluster.vms:
        word = "CT" if isinstance(cluster.vms[vmid], Container) else "VM"
        die(f"{word} {vmid} already exists on node '{cluster.vms[vmid].node}'")
    _check_keys(params.get("ssh-public-keys", ""))
    default = str(params.get("storage", "local"))
    values = {key: _on_storage(key, value, default) for key, value in config_values(params).items()}
    check_rights(cluster, auth, vmid, values, pool=pool, unprivileged=unprivileged)
    check_bridges(cluster, auth, values, parse_net)
    archive = _find_template(cluster, auth, node, str(params["ostemplate"]))
    values = _with_root(values, default)
    _check_storages(cluster, auth, node, values)
    container = cluster.claim_container(vmid, node)

    async def work(log: Log) -> None:
        try:
            await _create(cluster, container, values, archive, params, log, unprivileged=unprivileged)
        except Refused as refusal:
            raise Refused(500, f"unable to create CT {vmid} - {refusal.text}") from refusal
        if params.get("start"):
            power.start_task(cluster, auth, node, vmid)

    return cluster.tasks.start(node, "vzcreate", str(vmid), auth, work, lambda: cluster.drop(container))


def _check_keys(keys: str) -> None:
    for line in keys.splitlines():
        if line.strip() and not line.startswith("#") and len(line.split()) < 2:
            die("SSH public key validation error")


def _on_storage(key: str, value: str, default: str) -> str:
    """`8` means eight GiB on the default storage."""
    bare = NEW.match(value) if key == "rootfs" or key.startswith("mp") else None
    return f"{default}:{value}" if bare is not None and bare[1] is None else value


def _with_root(values: dict[str, str], default: str) -> dict[str, str]:
    if "rootfs" in values:
        return values
    if mounts_of(values):
        die("mount points configured, but 'rootfs' not set - aborting")
    return {**values, "rootfs": f"{default}:4"}


def _find_template(cluster: Cluster, auth: Auth, node: str, volid: str) -> Stored:
    if volid.startswith("/"):
        die("Only root can pass arbitrary filesystem paths.")
    name, volume = cluster.stores.split(volid)
    storage = cluster.stores.get_usable(name, node)
    if cluster.stores.check_name(storage, volume) != "vztmpl":
        raise Refused(400, PARAMETERS, {"ostemplate": f"{volid} is not a container template"})
    cluster.require(auth, f"/storage/{name}", "Datastore.AllocateSpace", "Datastore.Audit", any_of=True)
    return cluster.stores.get_volume(volid, node)


def _check_storages(cluster: Cluster, auth: Auth, node: str, values: Mapping[str, str]) -> None:
    for mount in mounts_of(values).values():
        if is_bound(mount):
            if not auth.is_root:
                die("Only root can pass arbitrary filesystem paths.")
            continue
        storage = cluster.stores.get_usable(cluster.stores.split(mount["volume"])[0], node)
        if "rootdir" not in storage.content:
            raise bad_parameter("storage", f"storage '{storage.name}' does not support container directories")
        cluster.require(auth, f"/storage/{storage.name}", "Datastore.AllocateSpace")


async def _create(
    cluster: Cluster,
    container: Container,
    values: dict[str, str],
    archive: Stored,
    params: Mapping[str, Any],
    log: Log,
    *,
    unprivileged: bool,
) -> None:
    made = Made()
    hostname = values.get("hostname", f"CT{container.vmid}")
    try:
        for key, value in {key: values[key] for key in mounts_of(values)}.items():
            made.values[key] = await new_volume(cluster, container, key, value, made, log)
        keys, guess = str(params.get("ssh-public-keys", "")), "ostype" not in values
        inside = await fill(cluster.driver, made.volumes[0], archive.path, hostname, keys, log, guess=guess)
        if guess and not inside.system:
            die("unable to detect OS distribution")
        cluster.check_quorum()
    except Refused:
        await made.undo(cluster)
        cluster.drop(container)
        raise
    container.config = _complete(cluster, {**values, **made.values}, hostname, inside.system, unprivileged=unprivileged)
    join_pool(cluster, container, params.get("pool"))
    for net in nets_of(container.config).values():
        for problem in take(cluster.sdn, cluster.ipam, net["bridge"], net["hwaddr"], container.vmid, hostname):
            log.warn(problem)


async def new_volume(cluster: Cluster, container: Container, key: str, value: str, made: Made, log: Log) -> str:
    """What stands in the configuration: `st:8` makes a volume, any other names one."""
    mount = parse_mount(key, value)
    new = NEW.match(mount["volume"])
    if new is None:
        return value
    storage = cluster.stores.get_usable(new[1] or "local", container.node)
    size = gib_to_bytes(new[2])
    volume = await cluster.stores.allocate(
        storage, container.node, container.vmid, size, "raw", announce=lambda it: log.say(allocation_line(storage, it))
    )
    made.volumes.append(volume)
    log.say("Creating filesystem with 4k blocks and inodes")
    return print_mount({**mount, "volume": volume.volid, "size": format_size(volume.size)})


def nets_of(config: Mapping[str, str]) -> dict[str, dict[str, str]]:
    return {key: parse_net(value) for key, value in config.items() if is_nic(key)}


def with_address(cluster: Cluster, value: str) -> str:
    """A NIC has a MAC address, and a type."""
    net = parse_net(value)
    net.setdefault("hwaddr", cluster.new_mac())
    net["hwaddr"] = net["hwaddr"].upper()
    return print_net({**net, "type": "veth"})


def _complete(
    cluster: Cluster, values: Mapping[str, str], hostname: str, system: str, *, unprivileged: bool
) -> dict[str, str]:
    """What PVE fills in by itself on create."""
    config = {key: with_address(cluster, value) if is_nic(key) else value for key, value in values.items()}
    defaults = {"hostname": hostname, "memory": "512", "swap": "512", "arch": "amd64", "ostype": system}
    config = {**{key: value for key, value in defaults.items() if value}, **config}
    return {**config, "unprivileged": "1"} if unprivileged else config
