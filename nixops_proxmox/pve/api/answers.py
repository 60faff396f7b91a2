"""What PVE answers, parsed once into types; anything of another shape is a PveError, never a traceback."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from itertools import islice
from typing import Any

from nixops_proxmox.errors import PveError
from nixops_proxmox.pve.wire.properties import parse_properties
from nixops_proxmox.pve.wire.refusals import agent_error
from nixops_proxmox.texts import head

MOST_INTERFACES, MOST_ADDRESSES = 1024, 1024  # that we take from a guest; a host of containers has some hundred


@dataclass(frozen=True)
class NodeSeen:
    """A node in the cluster's list; memory in bytes, `load` from 0 to 1. None without Sys.Audit on it."""

    name: str
    online: bool
    memory: int | None = None
    memory_used: int | None = None
    cpus: int | None = None
    load: float | None = None
    maintenance: bool = False

    @property
    def memory_free(self) -> int | None:
        return None if self.memory is None or self.memory_used is None else max(0, self.memory - self.memory_used)


@dataclass(frozen=True)
class Processor:
    """What a node's processor can do. Empty: it does not tell."""

    arch: str = ""
    flags: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PoolSeen:
    """`members`: VMs, containers and storages, a few words each."""

    comment: str
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class GuestSeen:
    """A VM or container in the cluster's list. `status` lags by up to 10 s behind the truth."""

    vmid: int
    node: str
    kind: str  # qemu, lxc
    name: str = ""
    status: str = "unknown"
    template: bool = False
    pool: str = ""
    tags: tuple[str, ...] = ()
    lock: str = ""
    ha: str = ""


@dataclass(frozen=True)
class StorageSeen:
    """A storage as one node sees it; sizes in bytes."""

    storage: str
    node: str
    available: bool
    shared: bool
    content: frozenset[str]
    total: int = 0
    used: int = 0
    kind: str = ""
    thin: bool = False  # a new volume takes no room yet; `pve.thin` tells

    @property
    def free(self) -> int:
        return max(0, self.total - self.used)

    @property
    def only_node(self) -> str:
        """The only node that has what is on it. Empty: all have."""
        return "" if self.shared else self.node


@dataclass(frozen=True)
class ClusterResources:
    """The cluster at one moment: `taken` is on the caller's clock."""

    taken: float
    nodes: tuple[NodeSeen, ...] = ()
    guests: Mapping[int, GuestSeen] = field(default_factory=dict)
    storages: tuple[StorageSeen, ...] = ()


@dataclass(frozen=True)
class ConfigSeen:
    """A VM's configuration: `values` with pending changes merged in, `active` what a running VM has now."""

    values: Mapping[str, str]
    active: Mapping[str, str]
    pending: tuple[str, ...] = ()
    digest: str = ""


@dataclass(frozen=True)
class StatusSeen:
    """A VM's state, live."""

    running: bool
    qmpstatus: str = ""
    uptime: int = 0
    lock: str = ""
    managed: bool = False  # by HA
    agent: bool = False  # configured, not necessarily answering
    moved: int = 0  # bytes that it read from and wrote to its disks and networks since its start
    ha_state: str = ""  # what HA is at with it


@dataclass(frozen=True)
class TaskSeen:
    running: bool
    exit_status: str = ""


@dataclass(frozen=True)
class TaskListed:
    """A task in a node's list. `status` is empty or RUNNING while it runs."""

    upid: str
    type: str
    id: str
    user: str
    started: int
    status: str = ""

    @property
    def running(self) -> bool:
        return self.status in ("", "RUNNING")


@dataclass(frozen=True)
class VolumeSeen:
    volid: str
    content: str
    size: int
    vmid: int = 0
    format: str = ""
    created: int = 0  # epoch
    notes: str = ""


@dataclass(frozen=True)
class SnapshotSeen:
    """`created`: epoch. `ram`: it has the memory too. `parent`: empty for the first. `state`: empty, unless it is being
    made or deleted, or a task that was cut off left it half done."""

    name: str
    description: str = ""
    created: int = 0
    ram: bool = False
    parent: str = ""
    state: str = ""


@dataclass(frozen=True)
class LocalDisk:
    """A volume that only the VM's node has. `cdrom`: a CD, which is not copied; cloud-init drives are."""

    volid: str
    size: int
    cdrom: bool


@dataclass(frozen=True)
class MigrationSeen:
    """What PVE says before a VM is moved. `refused`: reasons by node, as far as PVE looked; `resources`: devices of the
    node; `mapped`: those of them that other nodes may have too."""

    running: bool
    disks: tuple[LocalDisk, ...] = ()
    resources: tuple[str, ...] = ()
    mapped: tuple[str, ...] = ()
    refused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class HaRule:
    """What HA may do with its resources (vm:101): keep them on `nodes`, or `apart` from one another. A rule without
    nodes is about the resources alone. `strict`: it is a condition and no wish."""

    name: str
    resources: frozenset[str]
    nodes: frozenset[str] = frozenset()
    strict: bool = False
    apart: bool = False


@dataclass(frozen=True)
class ExecStatus:
    """A command started through the agent; output as the bytes it wrote. PVE tells it once after the exit."""

    exited: bool
    status: int = 0
    signal: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    truncated: bool = False


@dataclass(frozen=True)
class AgentInterface:
    """A link as the guest sees it. `mac` is lower case, empty for tunnels."""

    name: str
    mac: str = ""
    addresses: tuple[tuple[IPv4Address | IPv6Address, int], ...] = ()  # address, prefix length


@dataclass(frozen=True)
class FileRead:
    content: bytes
    truncated: bool = False


def unexpected(what: str, value: Any) -> PveError:
    return PveError(
        f"unexpected answer: {what} cannot be {head(repr(value), 120)}",
        hint="is the address that of a PVE API of version 7.4, 8.x or 9.x?",
    )


def as_map(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise unexpected(what, value)
    return value


def as_list(value: Any, what: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise unexpected(what, value)
    return value


def as_maps(value: Any, what: str) -> Iterator[Mapping[str, Any]]:
    return (as_map(item, f"an item of {what}") for item in as_list(value, what))


def as_text(value: Any, what: str) -> str:
    """Text; numbers are told as numbers or as text, depending on the release."""
    match value:
        case bool():
            return "1" if value else "0"
        case str():
            return value
        case int() | float():
            return str(value)
        case _:
            raise unexpected(what, value)


def as_int(value: Any, what: str) -> int:
    match value:
        case int() if abs(value) < 10**18:
            return int(value)
        case float() if value == value and abs(value) < 1e18:
            return int(value)
        case str() if re.fullmatch(r"-?[0-9]{1,18}", value):
            return int(value)
        case _:
            raise unexpected(what, value)


def as_flag(value: Any, what: str) -> bool:
    match value:
        case None | "" | "0" | 0:
            return False
        case "1" | 1:
            return True
        case bool():
            return value
        case _:
            raise unexpected(what, value)


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return "" if value is None else as_text(value, key)


def _int(data: Mapping[str, Any], key: str, default: int = 0) -> int:
    value = data.get(key)
    return default if value is None else as_int(value, key)


def _int_or_none(data: Mapping[str, Any], key: str) -> int | None:
    value = data.get(key)
    return None if value is None else as_int(value, key)


def _need(data: Mapping[str, Any], key: str) -> str:
    text = _text(data, key)
    if not text:
        raise unexpected(key, data)
    return text


def split_list(text: str) -> tuple[str, ...]:
    """A list as PVE writes it: by commas, semicolons or blanks."""
    return tuple(part for part in re.split(r"[,;\s]+", text) if part)


def parse_resources(data: Any, taken: float) -> ClusterResources:
    """GET /cluster/resources; kinds that we do not know are passed over."""
    nodes, guests, storages = [], {}, []
    for item in as_maps(data, "cluster resources"):
        match item.get("type"):
            case "node":
                nodes.append(_node(item))
            case "qemu" | "lxc":
                guest = _guest(item)
                guests[guest.vmid] = guest
            case "storage":
                storages.append(_storage(item))
            case _:
                pass
    return ClusterResources(taken, tuple(nodes), guests, tuple(storages))


def _node(item: Mapping[str, Any]) -> NodeSeen:
    """From 9.0 on, the list has HA's word for the node. Before that, `parse_maintenance` tells."""
    return NodeSeen(
        _need(item, "node"),
        _text(item, "status") == "online",
        _int_or_none(item, "maxmem"),
        _int_or_none(item, "mem"),
        _int_or_none(item, "maxcpu"),
        _fraction(item.get("cpu")),
        _text(item, "hastate") == "maintenance",
    )


def _fraction(value: Any) -> float | None:
    """PVE's figure of a load. What is no number is no figure."""
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None


def parse_backup_jobs(data: Any) -> Mapping[str, Mapping[str, str]]:
    """Settings are texts; PVE's switches are 1 and 0. `prune-backups` may come as an object."""
    jobs = as_maps(data, "backup jobs")
    return {as_text(job.get("id"), "id"): {key: _setting(value) for key, value in job.items()} for job in jobs}


def _setting(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{key}={one}" for key, one in sorted(value.items()))
    return str(int(value)) if isinstance(value, bool) else str(value)


def parse_pool(data: Any) -> PoolSeen:
    pool = as_map(data, "pool")
    members = as_maps(pool.get("members", []), "members")
    return PoolSeen(str(pool.get("comment", "")), tuple(sorted({_member(member) for member in members})))


def _member(member: Mapping[str, Any]) -> str:
    storage = member.get("storage")
    return f"the storage {storage}" if storage else f"VM {member.get('vmid')}"


def parse_maintenance(data: Any) -> frozenset[str]:
    """GET /cluster/ha/status/current: the nodes in maintenance."""
    lrms = (item for item in as_maps(data, "HA status") if item.get("type") == "lrm")
    return frozenset(_text(item, "node") for item in lrms if "(maintenance mode" in _text(item, "status"))


@dataclass(frozen=True)
class MappingSeen:
    """A mapping of devices or folders. `rows`: as PVE prints them. `mediated`: its devices are shared out in parts."""

    rows: tuple[str, ...]
    comment: str
    mediated: bool


def parse_mapping_entries(data: Any) -> Mapping[str, MappingSeen]:
    """GET /cluster/mapping/pci, usb or dir, by name."""
    return {
        _need(item, "id"): MappingSeen(
            tuple(_texts(item.get("map"))), _text(item, "description"), as_flag(item.get("mdev"), "mdev")
        )
        for item in as_maps(data, "mappings")
    }


def parse_mappings(data: Any) -> Mapping[str, frozenset[str]]:
    """GET /cluster/mapping/pci or usb: the nodes that have a device, by the mapping's name."""
    return {
        _need(item, "id"): frozenset(parse_properties(row).get("node", "") for row in _texts(item.get("map")))
        for item in as_maps(data, "mappings")
    }


def parse_ha_entries(data: Any, key: str) -> Mapping[str, Mapping[str, str]]:
    """GET /cluster/ha/resources, groups or rules: settings are texts, switches are 1 and 0."""
    items = as_maps(data, "HA")
    return {_need(item, key): {name: _setting(value) for name, value in item.items()} for item in items}


def parse_ha_rules(data: Any) -> tuple[HaRule, ...]:
    """GET /cluster/ha/rules (9.0). Rules that are off say nothing."""
    return tuple(
        HaRule(
            _need(item, "rule"),
            frozenset(split_list(_text(item, "resources"))),
            frozenset(_ha_nodes(_text(item, "nodes"))),
            as_flag(item.get("strict"), "strict") if _text(item, "type") == "node-affinity" else True,
            apart=_text(item, "affinity") == "negative",
        )
        for item in as_maps(data, "HA rules")
        if not as_flag(item.get("disable"), "disable")
    )


def parse_ha_groups(groups: Any, resources: Any) -> tuple[HaRule, ...]:
    """GET /cluster/ha/groups and /cluster/ha/resources, before 9.0."""
    members: dict[str, set[str]] = {}
    for item in as_maps(resources, "HA resources"):
        members.setdefault(_text(item, "group"), set()).add(_text(item, "sid"))
    return tuple(
        HaRule(
            name,
            frozenset(members.get(name, ())),
            frozenset(_ha_nodes(_text(item, "nodes"))),
            as_flag(item.get("restricted"), "restricted"),
        )
        for item in as_maps(groups, "HA groups")
        if (name := _need(item, "group"))
    )


def _ha_nodes(text: str) -> Iterator[str]:
    """`pve1:2,pve2`: with priorities."""
    return (part.partition(":")[0] for part in split_list(text))


def parse_processor(data: Any) -> Processor:
    """GET /nodes/{node}/status. 7.4 does not tell the architecture."""
    item = as_map(data, "node status")
    kernel, cpu = item.get("current-kernel"), item.get("cpuinfo")
    arch = _text(kernel, "machine") if isinstance(kernel, dict) else ""
    return Processor(arch, frozenset(_text(cpu, "flags").split() if isinstance(cpu, dict) else ()))


def parse_root_free(data: Any) -> int | None:
    """GET /nodes/{node}/status. A file system of no size is one of which nothing is known."""
    root = as_map(data, "node status").get("rootfs")
    return _int_or_none(root, "avail") if isinstance(root, dict) and _int(root, "total") else None


def _guest(item: Mapping[str, Any]) -> GuestSeen:
    return GuestSeen(
        as_int(item.get("vmid"), "vmid"),
        _need(item, "node"),
        _need(item, "type"),
        _text(item, "name"),
        _text(item, "status") or "unknown",
        as_flag(item.get("template"), "template"),
        _text(item, "pool"),
        split_list(_text(item, "tags")),
        _text(item, "lock"),
        _text(item, "hastate"),
    )


def _storage(item: Mapping[str, Any]) -> StorageSeen:
    return StorageSeen(
        _need(item, "storage"),
        _need(item, "node"),
        _text(item, "status") == "available",
        as_flag(item.get("shared"), "shared"),
        frozenset(split_list(_text(item, "content"))),
        _int(item, "maxdisk"),
        _int(item, "disk"),
        _text(item, "plugintype"),
    )


def parse_config(data: Any) -> ConfigSeen:
    """GET …/config: no word of what is pending."""
    values = {key: as_text(value, key) for key, value in as_map(data, "configuration").items() if value is not None}
    digest = values.pop("digest", "")
    return ConfigSeen(values, values, (), digest)


def parse_container(data: Any) -> Mapping[str, str]:
    found = as_map(data, "configuration of a container")
    return {key: str(value) for key, value in found.items() if isinstance(value, str | int)}


def parse_pending(data: Any) -> ConfigSeen:
    """GET …/pending: [{key, value?, pending?, delete?}]."""
    values: dict[str, str] = {}
    active: dict[str, str] = {}
    waiting = []
    for item in as_maps(data, "pending configuration"):
        key = _need(item, "key")
        if item.get("value") is not None:
            active[key] = values[key] = as_text(item["value"], key)
        if item.get("pending") is not None:
            values[key] = as_text(item["pending"], key)
            waiting.append(key)
        elif item.get("delete"):
            values.pop(key, None)
            waiting.append(key)
    digest = values.pop("digest", "")
    active.pop("digest", None)
    return ConfigSeen(values, active, tuple(sorted(waiting)), digest)


def parse_status(data: Any) -> StatusSeen:
    """GET …/status/current."""
    item = as_map(data, "status")
    ha = item.get("ha")
    return StatusSeen(
        _need(item, "status") == "running",
        _text(item, "qmpstatus"),
        _int(item, "uptime"),
        _text(item, "lock"),
        isinstance(ha, dict) and as_flag(ha.get("managed"), "ha.managed"),
        as_flag(item.get("agent"), "agent"),
        sum(_int(item, key) for key in ("diskread", "diskwrite", "netin", "netout")),
        str(ha.get("state") or "") if isinstance(ha, dict) else "",
    )


def parse_task(data: Any) -> TaskSeen:
    """GET …/tasks/{upid}/status."""
    item = as_map(data, "task status")
    return TaskSeen(_need(item, "status") != "stopped", _text(item, "exitstatus"))


def parse_tasks(data: Any) -> tuple[TaskListed, ...]:
    """GET /nodes/{node}/tasks."""
    return tuple(
        TaskListed(
            _need(item, "upid"),
            _text(item, "type"),
            _text(item, "id"),
            _user(item),
            _int(item, "starttime"),
            _text(item, "status"),
        )
        for item in as_maps(data, "tasks")
    )


def _user(item: Mapping[str, Any]) -> str:
    """Lists tell a token's tasks as user plus tokenid, or as user!token."""
    user, token = _text(item, "user"), _text(item, "tokenid")
    return f"{user}!{token}" if token and "!" not in user else user


def parse_log(data: Any) -> tuple[str, ...]:
    """GET …/tasks/{upid}/log: the lines' text, without the placeholder of an empty log."""
    lines = tuple(_text(item, "t") for item in as_maps(data, "task log"))
    return () if lines == ("no content",) else lines


def parse_volumes(data: Any) -> tuple[VolumeSeen, ...]:
    """GET …/storage/{storage}/content."""
    return tuple(
        VolumeSeen(
            _need(item, "volid"),
            _text(item, "content"),
            _int(item, "size"),
            _int(item, "vmid"),
            _text(item, "format"),
            _int(item, "ctime"),
            _text(item, "notes"),
        )
        for item in as_maps(data, "volumes")
    )


def parse_snapshots(data: Any) -> tuple[SnapshotSeen, ...]:
    """GET …/snapshot, the oldest first, without PVE's pseudo entry `current`."""
    found = [
        SnapshotSeen(
            _need(item, "name"),
            _text(item, "description").strip(),
            _int(item, "snaptime"),
            as_flag(item.get("vmstate"), "vmstate"),
            _text(item, "parent"),
            _text(item, "snapstate"),
        )
        for item in as_maps(data, "snapshots")
        if item.get("name") != "current"
    ]
    return tuple(sorted(found, key=lambda snapshot: (snapshot.created, snapshot.name)))


def parse_feature(data: Any) -> bool:
    """GET …/feature: whether the guest has it."""
    return as_flag(as_map(data, "feature").get("hasFeature"), "hasFeature")


def parse_migration(data: Any) -> MigrationSeen:
    """GET …/migrate. Which nodes are not allowed, 7.4 and 8.x tell only of a VM that is stopped."""
    item = as_map(data, "migration")
    disks = tuple(
        LocalDisk(
            _need(one, "volid"),
            _int(one, "size"),
            as_flag(one.get("cdrom"), "cdrom") and "cloudinit" not in _text(one, "volid"),
        )
        for one in as_maps(item.get("local_disks") or [], "local disks")
    )
    refused = as_map(item.get("not_allowed_nodes") or {}, "nodes that are not allowed")
    return MigrationSeen(
        as_flag(item.get("running"), "running"),
        disks,
        _texts(item.get("local_resources")),
        _texts(item.get("mapped-resources")),
        {node: why for node, of in refused.items() if (why := tuple(_forbidding(as_map(of, "a refused node"))))},
    )


def parse_viewer(data: Any) -> Mapping[str, str]:
    """The lines of a remote-viewer's file. PVE has put the line ends of the certificate into escapes."""
    found = {key: as_text(value, f"the viewer's {key}") for key, value in as_map(data, "spiceproxy").items()}
    if any(not re.fullmatch(r"[a-z-]+", key) or not value.isprintable() for key, value in found.items()):
        raise PveError("PVE answered to spiceproxy with what no viewer's file can have in it")
    return found


def _texts(data: Any) -> tuple[str, ...]:
    return tuple(as_text(one, "a name") for one in as_list(data or [], "names"))


def _forbidding(item: Mapping[str, Any]) -> Iterator[str]:
    for storage in _texts(item.get("unavailable_storages")):
        yield f"storage {storage} is not available there"
    for resource in _texts(item.get("unavailable-resources")):
        yield f"the mapped device {resource} is not there"
    for one in as_maps(item.get("blocking-ha-resources") or [], "blocking HA resources"):
        yield f"an HA rule forbids it ({_text(one, 'cause') or 'no cause told'}, {_text(one, 'sid')})"


def parse_permissions(data: Any) -> Mapping[str, Mapping[str, bool]]:
    """GET /access/permissions: {path: {privilege: does it hold below the path, too}}."""
    return {
        path: {name: as_flag(value, name) for name, value in as_map(privileges, f"permissions on {path}").items()}
        for path, privileges in as_map(data, "permissions").items()
    }


def agent_result(data: Any, what: str) -> Any:
    """The `result` of a simple agent command. PVE says 200 even where qemu-ga reports an error: AgentRefused."""
    result = as_map(data, what).get("result")
    if isinstance(result, dict) and isinstance(result.get("error"), dict):
        said = str(result["error"].get("desc") or result["error"])
        raise agent_error(f"the guest agent refused {what}: {said}")
    return result


def agent_bytes(text: str) -> bytes:
    """Output that PVE decoded to bytes mapped one to one to code points; text beyond that is taken as UTF-8."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def parse_exec_status(data: Any) -> ExecStatus:
    item = as_map(data, "exec-status")
    return ExecStatus(
        as_flag(item.get("exited"), "exited"),
        _int(item, "exitcode"),
        _int(item, "signal"),
        agent_bytes(_text(item, "out-data")),
        agent_bytes(_text(item, "err-data")),
        as_flag(item.get("out-truncated"), "out-truncated") or as_flag(item.get("err-truncated"), "err-truncated"),
    )


def parse_interfaces(data: Any) -> tuple[AgentInterface, ...]:
    """GET agent/network-get-interfaces; links without addresses or MAC are fine, unreadable addresses are left out.

    A guest may tell anything: only as much of it is read as we can try in the time that there is.
    """
    result = agent_result(data, "network-get-interfaces")
    room, found = MOST_ADDRESSES, []
    for item in islice(as_maps(result, "interfaces"), MOST_INTERFACES):
        addresses = tuple(islice(_addresses(item.get("ip-addresses")), room))
        room -= len(addresses)
        found.append(AgentInterface(_text(item, "name"), _text(item, "hardware-address").lower(), addresses))
    return tuple(found)


def parse_host_interfaces(data: Any) -> tuple[AgentInterface, ...]:
    """GET lxc/…/interfaces; null for a container that does not run. Before 8.4, an interface has one address of each
    family. What is in the container makes interfaces, so as much is read as of what a guest tells."""
    room, found = MOST_ADDRESSES, []
    for item in islice(as_maps(data or [], "interfaces"), MOST_INTERFACES):
        told = item.get("ip-addresses")
        listed = _addresses(told) if told is not None else _old_addresses(item)
        addresses = tuple(islice(listed, room))
        room -= len(addresses)
        mac = _text(item, "hardware-address") or _text(item, "hwaddr")
        found.append(AgentInterface(_text(item, "name"), mac.lower(), addresses))
    return tuple(found)


def _old_addresses(item: Mapping[str, Any]) -> Iterator[tuple[IPv4Address | IPv6Address, int]]:
    for key in ("inet", "inet6"):
        try:
            interface = ip_interface(_text(item, key))
        except ValueError:
            continue
        yield interface.ip, interface.network.prefixlen


def _addresses(data: Any) -> Iterator[tuple[IPv4Address | IPv6Address, int]]:
    for item in as_maps(data or [], "ip-addresses"):
        try:
            yield ip_address(_text(item, "ip-address")), _int(item, "prefix")
        except ValueError:
            continue


def parse_file(data: Any) -> FileRead:
    item = as_map(data, "file-read")
    return FileRead(agent_bytes(_text(item, "content")), as_flag(item.get("truncated"), "truncated"))
