"""Typed façade over the API: one method for each operation that we use, nothing clever."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from nixops_proxmox.core.ports import OnBytes
from nixops_proxmox.core.upid import find_upid
from nixops_proxmox.errors import NotFound, VmidTaken
from nixops_proxmox.pve.api import answers
from nixops_proxmox.pve.api.accounts import AccountCalls
from nixops_proxmox.pve.api.archives import parse_config_file
from nixops_proxmox.pve.api.firewall import FirewallCalls
from nixops_proxmox.pve.api.guarded import Guarded, Prove
from nixops_proxmox.pve.api.ha import HaCalls
from nixops_proxmox.pve.api.replication import ReplicationCalls
from nixops_proxmox.pve.api.versions import Release, parse_release
from nixops_proxmox.pve.wire.calls import QUICK, SLOW, TRANSFER, Call, HttpMethod, Timeouts, Value
from nixops_proxmox.pve.wire.upload import Upload, no_progress, sha256_of, stored_name

VM = "/nodes/{node}/qemu/{vmid}"
STORAGE = "/nodes/{node}/storage/{storage}"
Params = Mapping[str, Value]


def _mapping_params(kind: str, wanted: answers.MappingSeen) -> Params:
    more: Params = {"mdev": wanted.mediated} if kind == "pci" else {}
    return {"map": list(wanted.rows), "description": wanted.comment, **more}


def _sdn_place(kind: str, name: str, vnet: str) -> tuple[str, dict[str, Any]]:
    if kind == "subnet":
        return "/cluster/sdn/vnets/{vnet}/subnets/{subnet}", {"vnet": vnet, "subnet": name}
    return "/cluster/sdn/{what}/{name}", {"what": f"{kind}s", "name": name}


class Sender(Protocol):
    """What the client needs of a transport."""

    def send(self, call: Call, upload: Upload | None = None) -> Any: ...
    def close(self) -> None: ...


class PveClient:
    """Every method may raise the errors of `refusals`; methods that start a task return its UPID."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    @property
    def sender(self) -> Sender:
        """What the calls go through."""
        return self._sender

    def close(self) -> None:
        """Drop the connections."""
        self._sender.close()

    def guarded(self, prove: Prove) -> "PveClient":
        """The same, but `prove` is asked right before each call that does something to a VM."""
        return PveClient(Guarded(self._sender.send, self._sender.close, prove))

    def _ask(
        self,
        method: HttpMethod,
        template: str,
        params: Params | None = None,
        *,
        poll: bool = False,
        patience: Timeouts = QUICK,
        upload: Upload | None = None,
        **where: str | int,
    ) -> Any:
        return self._sender.send(Call(method, template, where, params or {}, poll, patience), upload)

    def _task(self, method: HttpMethod, template: str, params: Params | None = None, **where: Any) -> str:
        data = self._ask(method, template, params, **where)
        upid = find_upid(data)
        if upid is None:
            raise answers.unexpected("a task's UPID", data)
        return upid.text

    # The cluster

    def get_version(self) -> Release:
        data = answers.as_map(self._ask("GET", "/version"), "version")
        return parse_release(str(data.get("version", "")), str(data.get("release", "")))

    def get_resources(self, taken: float) -> answers.ClusterResources:
        """Nodes, guests and storages, as far as we may see them; figures are up to 10 s old."""
        return answers.parse_resources(self._ask("GET", "/cluster/resources"), taken)

    def list_maintenance(self) -> frozenset[str]:
        """The nodes that HA has in maintenance; needs Sys.Audit on /."""
        return answers.parse_maintenance(self._ask("GET", "/cluster/ha/status/current"))

    def list_mappings(self, kind: str) -> Mapping[str, frozenset[str]]:
        """Mapped devices (`pci`, `usb`) that we may use: their nodes, by name. Since 8.0."""
        return answers.parse_mappings(self._ask("GET", "/cluster/mapping/{kind}", kind=kind))

    def describe_mappings(self, kind: str) -> Mapping[str, answers.MappingSeen]:
        """pci, usb or dir, by name, as far as we may use, see or change them."""
        return answers.parse_mapping_entries(self._ask("GET", "/cluster/mapping/{kind}", kind=kind))

    def create_mapping(self, kind: str, name: str, wanted: answers.MappingSeen) -> None:
        self._ask("POST", "/cluster/mapping/{kind}", {**_mapping_params(kind, wanted), "id": name}, kind=kind)

    def change_mapping(self, kind: str, name: str, wanted: answers.MappingSeen) -> None:
        self._ask("PUT", "/cluster/mapping/{kind}/{id}", _mapping_params(kind, wanted), kind=kind, id=name)

    def delete_mapping(self, kind: str, name: str) -> None:
        """Although VMs may use it: PVE does not look."""
        self._ask("DELETE", "/cluster/mapping/{kind}/{id}", kind=kind, id=name)

    def list_ha_rules(self) -> tuple[answers.HaRule, ...]:
        """Since 9.0; needs Sys.Audit on /."""
        return answers.parse_ha_rules(self._ask("GET", "/cluster/ha/rules"))

    def list_ha_groups(self) -> tuple[answers.HaRule, ...]:
        """The same, before 9.0."""
        groups = self._ask("GET", "/cluster/ha/groups")
        return answers.parse_ha_groups(groups, self._ask("GET", "/cluster/ha/resources"))

    def get_processor(self, node: str) -> answers.Processor:
        """Needs Sys.Audit on the node."""
        return answers.parse_processor(self._ask("GET", "/nodes/{node}/status", node=node))

    def get_root_free(self, node: str) -> int | None:
        """Bytes that are left on the node's own file system, where an upload is put first; None: it is not told.
        Needs Sys.Audit on the node."""
        return answers.parse_root_free(self._ask("GET", "/nodes/{node}/status", node=node))

    def is_vmid_free(self, vmid: int) -> bool:
        """Authority on the whole cluster, not filtered by permissions. It reserves nothing."""
        try:
            answers.as_int(self._ask("GET", "/cluster/nextid", {"vmid": vmid}), "nextid")
        except VmidTaken:
            return False
        return True

    def get_permissions(self) -> Mapping[str, Mapping[str, bool]]:
        """What we may do: {path: {privilege: propagates}}."""
        return answers.parse_permissions(self._ask("GET", "/access/permissions"))

    def get_storage_settings(self) -> Mapping[str, Mapping[str, Any]]:
        """What storage.cfg says of each storage that we may see, by name."""
        data = answers.as_maps(self._ask("GET", "/storage"), "storages")
        return {answers.as_text(item.get("storage"), "storage"): item for item in data}

    def set_storage_content(self, storage: str, content: Sequence[str], digest: str) -> None:
        """All that it takes from now on. `digest`: of the storages, as they were read."""
        self._ask("PUT", "/storage/{storage}", {"content": ",".join(content), "digest": digest}, storage=storage)

    def list_bridges(self, node: str) -> tuple[str, ...]:
        """Bridges and vnets that we may see on the node."""
        return tuple(self.describe_bridges(node))

    def describe_bridges(self, node: str) -> Mapping[str, str]:
        """bridge, OVSBridge or vnet, by name."""
        data = answers.as_maps(self._ask("GET", "/nodes/{node}/network", {"type": "any_bridge"}, node=node), "network")
        return {answers.as_text(item.get("iface"), "iface"): str(item.get("type", "")) for item in data}

    def list_vnets(self) -> Mapping[str, str]:
        """Zones by vnet: only those where we have SDN.Audit or SDN.Allocate."""
        data = answers.as_maps(self._ask("GET", "/cluster/sdn/vnets"), "vnets")
        return {answers.as_text(item.get("vnet"), "vnet"): answers.as_text(item.get("zone"), "zone") for item in data}

    # Software-defined networks

    def list_sdn(self, what: str, *, pending: bool = False) -> Sequence[Mapping[str, Any]]:
        """zones or vnets as configured; `pending`: what runs, and beside it what waits."""
        params = {"pending": True} if pending else {}
        return list(answers.as_maps(self._ask("GET", "/cluster/sdn/{what}", params, what=what), what))

    def list_subnets(self, vnet: str, *, pending: bool = False) -> Sequence[Mapping[str, Any]]:
        params = {"pending": True} if pending else {}
        data = self._ask("GET", "/cluster/sdn/vnets/{vnet}/subnets", params, vnet=vnet)
        return list(answers.as_maps(data, "subnets"))

    def add_sdn(self, kind: str, values: Params) -> None:
        """zone, vnet or subnet, whose `values` name its vnet."""
        if kind == "subnet":
            rest = {key: value for key, value in values.items() if key != "vnet"}
            self._ask("POST", "/cluster/sdn/vnets/{vnet}/subnets", rest, vnet=str(values["vnet"]))
        else:
            self._ask("POST", "/cluster/sdn/{what}", values, what=f"{kind}s")

    def change_sdn(self, kind: str, name: str, values: Params, *, vnet: str = "") -> None:
        template, where = _sdn_place(kind, name, vnet)
        self._ask("PUT", template, values, **where)

    def remove_sdn(self, kind: str, name: str, values: Params, *, vnet: str = "") -> None:
        template, where = _sdn_place(kind, name, vnet)
        self._ask("DELETE", template, values, **where)

    def list_ips(self) -> Sequence[Mapping[str, Any]]:
        """Who has which address, by PVE's own address book: zone, vnet, ip, mac, and the vmid that PVE knows."""
        data = self._ask("GET", "/cluster/sdn/ipams/{ipam}/status", ipam="pve")
        return list(answers.as_maps(data, "addresses"))

    def change_ip(self, method: HttpMethod, vnet: str, zone: str, mac: str, ip: str) -> None:
        """Take it, move the MAC to it, or give it back. It counts at once."""
        self._ask(method, "/cluster/sdn/vnets/{vnet}/ips", {"zone": zone, "mac": mac.upper(), "ip": ip}, vnet=vnet)

    def lock_sdn(self) -> str:
        """Its token; needs 9. It is given although changes wait that are not applied."""
        data = self._ask("POST", "/cluster/sdn/lock", {"allow-pending": True})
        return answers.as_text(data, "lock")

    def unlock_sdn(self, token: str | None) -> None:
        """None: whosever it is."""
        self._ask("DELETE", "/cluster/sdn/lock", {"force": True} if token is None else {"lock-token": token})

    def apply_sdn(self, values: Params) -> str:
        """The task ends when it has told the nodes, before they have done it."""
        return self._task("PUT", "/cluster/sdn", values)

    def list_zone_status(self, node: str) -> Mapping[str, str]:
        """available, pending or error, by zone."""
        data = answers.as_maps(self._ask("GET", "/nodes/{node}/sdn/zones", poll=True, node=node), "zones")
        return {answers.as_text(item.get("zone"), "zone"): str(item.get("status", "")) for item in data}

    def list_online_nodes(self) -> Sequence[str]:
        data = answers.as_maps(self._ask("GET", "/nodes"), "nodes")
        return [answers.as_text(item.get("node"), "node") for item in data if item.get("status") == "online"]

    @property
    def accounts(self) -> AccountCalls:
        return AccountCalls(self._ask)

    @property
    def firewall(self) -> FirewallCalls:
        return FirewallCalls(self._ask)

    @property
    def ha(self) -> HaCalls:
        return HaCalls(self._ask)

    @property
    def replication(self) -> ReplicationCalls:
        return ReplicationCalls(self._ask)

    def list_pool_members(self, pool: str) -> tuple[int, ...]:
        data = answers.as_map(self._ask("GET", "/pools/{pool}", pool=pool), "pool")
        members = answers.as_maps(data.get("members", []), "members")
        return tuple(answers.as_int(item["vmid"], "vmid") for item in members if item.get("vmid") is not None)

    def list_backup_jobs(self) -> Mapping[str, Mapping[str, str]]:
        """The settings of each, by ID. Needs Sys.Audit."""
        return answers.parse_backup_jobs(self._ask("GET", "/cluster/backup"))

    def create_backup_job(self, job: str, settings: Params) -> None:
        self._ask("POST", "/cluster/backup", {**settings, "id": job})

    def change_backup_job(self, job: str, settings: Params, gone: Sequence[str] = ()) -> None:
        """`gone`: the settings that go back to PVE's own."""
        params = {**settings, "delete": ",".join(gone)} if gone else settings
        self._ask("PUT", "/cluster/backup/{job}", params, job=job)

    def delete_backup_job(self, job: str) -> None:
        self._ask("DELETE", "/cluster/backup/{job}", job=job)

    def get_pool(self, pool: str) -> answers.PoolSeen:
        return answers.parse_pool(self._ask("GET", "/pools/{pool}", pool=pool))

    def create_pool(self, pool: str, comment: str) -> None:
        self._ask("POST", "/pools", {"poolid": pool, "comment": comment})

    def set_pool_comment(self, pool: str, comment: str) -> None:
        self._ask("PUT", "/pools/{pool}", {"comment": comment}, pool=pool)

    def delete_pool(self, pool: str) -> None:
        """PVE refuses it for one that is not empty."""
        self._ask("DELETE", "/pools/{pool}", pool=pool)

    def put_into_pool(self, pool: str, vmid: int, *, move: bool) -> None:
        """`move`: out of the pool that it is in. Needs Pool.Allocate, and VM.Allocate on the VM."""
        params: Params = {"vms": str(vmid), "allow-move": True} if move else {"vms": str(vmid)}
        self._ask("PUT", "/pools/{pool}", params, pool=pool)

    # Storage

    def list_volumes(self, node: str, storage: str, content: str = "") -> tuple[answers.VolumeSeen, ...]:
        params: Params = {"content": content} if content else {}
        return answers.parse_volumes(self._ask("GET", f"{STORAGE}/content", params, node=node, storage=storage))

    def upload(
        self,
        node: str,
        storage: str,
        path: Path,
        *,
        content: str = "iso",
        filename: str = "",
        progress: OnBytes = no_progress,
    ) -> str:
        """Stream a file to a storage. PVE checks its SHA-256. An existing file of that name is replaced."""
        name = stored_name(filename or path.name)
        fields: Params = {"content": content, "checksum-algorithm": "sha256", "checksum": sha256_of(path)}
        return self._task(
            "POST",
            f"{STORAGE}/upload",
            fields,
            node=node,
            storage=storage,
            patience=TRANSFER,
            upload=Upload(path, name, progress),
        )

    def delete_volume(self, node: str, volume: str) -> str:
        storage = volume.partition(":")[0]
        return self._task("DELETE", f"{STORAGE}/content/{{volume}}", node=node, storage=storage, volume=volume)

    def get_archive_config(self, node: str, volume: str) -> Mapping[str, str]:
        """The configuration of the VM that is in a backup."""
        path = "/nodes/{node}/vzdump/extractconfig"
        return parse_config_file(self._ask("GET", path, {"volume": volume}, node=node, patience=SLOW))

    # One VM: what it is

    def get_config(self, node: str, vmid: int, *, snapshot: str = "") -> answers.ConfigSeen:
        """The configuration now, or at the time of the snapshot."""
        params: Params = {"snapshot": snapshot} if snapshot else {}
        return answers.parse_config(self._ask("GET", f"{VM}/config", params, node=node, vmid=vmid))

    def get_container_config(self, node: str, vmid: int) -> Mapping[str, str]:
        """A container's configuration; what is no text or number, such as raw LXC options, is left out."""
        data = self._ask("GET", "/nodes/{node}/lxc/{vmid}/config", node=node, vmid=vmid)
        return answers.parse_container(data)

    def get_pending(self, node: str, vmid: int) -> answers.ConfigSeen:
        """The configuration and what waits for a restart, in one call."""
        return answers.parse_pending(self._ask("GET", f"{VM}/pending", node=node, vmid=vmid))

    def get_status(self, node: str, vmid: int, *, poll: bool = False) -> answers.StatusSeen:
        return answers.parse_status(self._ask("GET", f"{VM}/status/current", node=node, vmid=vmid, poll=poll))

    def create_vm(self, node: str, params: Params) -> str:
        return self._task("POST", "/nodes/{node}/qemu", params, node=node, patience=SLOW)

    def restore_vm(self, node: str, vmid: int, archive: str, *, storage: str = "", force: bool = False) -> str:
        params: dict[str, Value] = {"vmid": vmid, "archive": archive, "storage": storage or None}
        return self._task("POST", "/nodes/{node}/qemu", params | ({"force": True} if force else {}), node=node)

    def change_config(self, node: str, vmid: int, params: Params) -> str | None:
        """In a task: for anything that allocates or hotplugs. Some releases answer null when nothing was to do."""
        data = self._ask("POST", f"{VM}/config", params, node=node, vmid=vmid, patience=SLOW)
        upid = find_upid(data)
        return None if upid is None else upid.text

    def set_config(self, node: str, vmid: int, params: Params) -> None:
        """At once: for what is quick; hotplug problems come as BadParameter."""
        self._ask("PUT", f"{VM}/config", params, node=node, vmid=vmid, patience=SLOW)

    def regenerate_cloud_init(self, node: str, vmid: int) -> None:
        """PVE's cloud-init drive of a VM that runs gets the values of the configuration. At a start, it does anyway."""
        self._ask("PUT", f"{VM}/cloudinit", node=node, vmid=vmid, patience=SLOW)

    def resize_disk(self, node: str, vmid: int, disk: str, size: str) -> str | None:
        """`size` like 40G or +8G. 7.4 does it at once and answers null."""
        data = self._ask("PUT", f"{VM}/resize", {"disk": disk, "size": size}, node=node, vmid=vmid, patience=SLOW)
        upid = find_upid(data)
        return None if upid is None else upid.text

    def reassign_disk(
        self, node: str, vmid: int, disk: str, target: int, target_disk: str, digests: tuple[str, str]
    ) -> str:
        """Make the disk another VM's, which renames its volume. `digests`: of the configurations, from and to."""
        params: Params = {
            "disk": disk,
            "target-vmid": target,
            "target-disk": target_disk,
            "digest": digests[0],
            "target-digest": digests[1],
        }
        return self._task("POST", f"{VM}/move_disk", params, node=node, vmid=vmid)

    def delete_vm(self, node: str, vmid: int, *, unreferenced: bool = True) -> str:
        """With backup jobs, replication, HA, and by `unreferenced` the volumes that only their names tell to be
        its."""
        params: Params = {"purge": True, "destroy-unreferenced-disks": unreferenced}
        return self._task("DELETE", VM, params, node=node, vmid=vmid)

    # One VM: power

    def start_vm(self, node: str, vmid: int) -> str:
        return self._task("POST", f"{VM}/status/start", node=node, vmid=vmid)

    def stop_vm(self, node: str, vmid: int, *, overrule: bool = False) -> str:
        """Pull the plug. `overrule` (>= 8.2) first aborts a shutdown that is waiting for the guest."""
        params: Params = {"overrule-shutdown": True} if overrule else {}
        return self._task("POST", f"{VM}/status/stop", params, node=node, vmid=vmid)

    def shut_down_vm(self, node: str, vmid: int, timeout: int) -> str:
        params: Params = {"timeout": timeout, "forceStop": True}
        return self._task("POST", f"{VM}/status/shutdown", params, node=node, vmid=vmid)

    def reset_vm(self, node: str, vmid: int) -> str:
        return self._task("POST", f"{VM}/status/reset", node=node, vmid=vmid)

    # One VM: copies

    def clone_vm(self, node: str, vmid: int, params: Params) -> str:
        return self._task("POST", f"{VM}/clone", params, node=node, vmid=vmid, patience=SLOW)

    def get_migration(self, node: str, vmid: int) -> answers.MigrationSeen:
        """What forbids that the VM is moved, and what is copied."""
        return answers.parse_migration(self._ask("GET", f"{VM}/migrate", node=node, vmid=vmid))

    def move_disk(self, node: str, vmid: int, disk: str, storage: str, digest: str) -> str:
        """Copy the disk to another storage. The old volume stays, detached. `digest`: of the configuration."""
        params: Params = {"disk": disk, "storage": storage, "digest": digest}
        return self._task("POST", f"{VM}/move_disk", params, node=node, vmid=vmid, patience=SLOW)

    def migrate_vm(self, node: str, vmid: int, target: str, params: Params | None = None) -> str:
        """Take the VM to another node. HA is only asked to do so with a VM of its own: the task's type is hamigrate."""
        return self._task("POST", f"{VM}/migrate", {"target": target, **(params or {})}, node=node, vmid=vmid)

    def make_template(self, node: str, vmid: int) -> str | None:
        upid = find_upid(self._ask("POST", f"{VM}/template", node=node, vmid=vmid, patience=SLOW))
        return None if upid is None else upid.text

    def list_snapshots(self, node: str, vmid: int) -> tuple[str, ...]:
        """Names, without PVE's pseudo entry `current`."""
        data = answers.as_maps(self._ask("GET", f"{VM}/snapshot", node=node, vmid=vmid), "snapshots")
        names = (answers.as_text(item.get("name"), "snapshot name") for item in data)
        return tuple(name for name in names if name != "current")

    def describe_snapshots(self, node: str, vmid: int) -> tuple[answers.SnapshotSeen, ...]:
        return answers.parse_snapshots(self._ask("GET", f"{VM}/snapshot", node=node, vmid=vmid))

    def can_snapshot(self, node: str, vmid: int) -> bool:
        params: Params = {"feature": "snapshot"}
        return answers.parse_feature(self._ask("GET", f"{VM}/feature", params, node=node, vmid=vmid))

    def create_snapshot(self, node: str, vmid: int, name: str, *, description: str = "", ram: bool = False) -> str:
        params: dict[str, Value] = {"snapname": name, "description": description or None}
        return self._task("POST", f"{VM}/snapshot", params | ({"vmstate": True} if ram else {}), node=node, vmid=vmid)

    def roll_back(self, node: str, vmid: int, name: str) -> str:
        return self._task("POST", f"{VM}/snapshot/{{snapshot}}/rollback", node=node, vmid=vmid, snapshot=name)

    def delete_snapshot(self, node: str, vmid: int, name: str) -> str:
        return self._task("DELETE", f"{VM}/snapshot/{{snapshot}}", node=node, vmid=vmid, snapshot=name)

    def back_up(
        self, node: str, vmid: int, storage: str, *, mode: str = "snapshot", compress: str = "zstd", notes: str = ""
    ) -> str:
        """NotFound if the VM is not on that node: PVE says "OK" and does nothing. `notes`: a line to find it by, in
        which PVE fills in {{guestname}} and such."""
        params: Params = {"vmid": str(vmid), "storage": storage, "mode": mode, "compress": compress}
        params = {**params, "notes-template": notes or None}
        data = self._ask("POST", "/nodes/{node}/vzdump", params, node=node)
        upid = find_upid(data)
        if upid is None:
            raise NotFound(f"VM {vmid} is not on node {node}: nothing was backed up")
        return upid.text

    def open_terminal(self, node: str, vmid: int, serial: str = "serial0") -> Mapping[str, Any]:
        """{port, ticket, user, upid}. The ticket is good for 40 s."""
        data = self._ask("POST", f"{VM}/termproxy", {"serial": serial}, node=node, vmid=vmid)
        return answers.as_map(data, "termproxy")

    def open_display(self, node: str, vmid: int) -> Mapping[str, Any]:
        """{port, ticket, password?, user, upid} of a VM's VNC server. The ticket is good for 40 s."""
        data = self._ask("POST", f"{VM}/vncproxy", {"websocket": True}, node=node, vmid=vmid)
        return answers.as_map(data, "vncproxy")

    def open_spice(self, node: str, vmid: int, proxy: str = "") -> Mapping[str, str]:
        """What remote-viewer's file has in it. The ticket is good for 30 s. `proxy`: the address of a node, as it is
        reached from here."""
        data = self._ask("POST", f"{VM}/spiceproxy", {"proxy": proxy or None}, node=node, vmid=vmid)
        return answers.parse_viewer(data)

    # The guest agent. PVE pings it before each call, which takes 3 s when it is dead

    def agent_ping(self, node: str, vmid: int) -> None:
        data = self._ask("POST", f"{VM}/agent/ping", node=node, vmid=vmid, poll=True)
        answers.agent_result(data, "ping")

    def agent_exec(self, node: str, vmid: int, argv: Sequence[str], stdin: str = "") -> int:
        """Start a command and return its PID. `stdin` is ASCII, at most some 60 KiB: PVE mangles anything else."""
        params: dict[str, Value] = {"command": list(argv), "input-data": stdin or None}
        data = self._ask("POST", f"{VM}/agent/exec", params, node=node, vmid=vmid)
        return answers.as_int(answers.as_map(data, "exec").get("pid"), "pid")

    def agent_exec_status(self, node: str, vmid: int, pid: int) -> answers.ExecStatus:
        """Told once after the exit: a repeated question is refused (AgentRefused)."""
        data = self._ask("GET", f"{VM}/agent/exec-status", {"pid": pid}, node=node, vmid=vmid, poll=True)
        return answers.parse_exec_status(data)

    def agent_read_file(self, node: str, vmid: int, path: str) -> answers.FileRead:
        """At most 16 MiB."""
        return answers.parse_file(self._ask("GET", f"{VM}/agent/file-read", {"file": path}, node=node, vmid=vmid))

    def agent_interfaces(self, node: str, vmid: int, *, poll: bool = False) -> tuple[answers.AgentInterface, ...]:
        data = self._ask("GET", f"{VM}/agent/network-get-interfaces", node=node, vmid=vmid, poll=poll)
        return answers.parse_interfaces(data)

    def agent_osinfo(self, node: str, vmid: int) -> Mapping[str, Any]:
        data = self._ask("GET", f"{VM}/agent/get-osinfo", node=node, vmid=vmid)
        return answers.as_map(answers.agent_result(data, "get-osinfo"), "osinfo")

    # Tasks

    def get_task(self, node: str, upid: str) -> answers.TaskSeen:
        return answers.parse_task(
            self._ask("GET", "/nodes/{node}/tasks/{upid}/status", node=node, upid=upid, poll=True)
        )

    def task_log(self, node: str, upid: str, *, start: int = 0, limit: int = 500) -> tuple[str, ...]:
        params: Params = {"start": start, "limit": limit}
        return answers.parse_log(
            self._ask("GET", "/nodes/{node}/tasks/{upid}/log", params, node=node, upid=upid, poll=True)
        )

    def list_tasks(
        self, node: str, *, vmid: int | None = None, kind: str = "", since: int | None = None
    ) -> tuple[answers.TaskListed, ...]:
        """Running and finished ones."""
        params: Params = {"vmid": vmid, "typefilter": kind or None, "since": since, "source": "all", "limit": 100}
        return answers.parse_tasks(self._ask("GET", "/nodes/{node}/tasks", params, node=node))
