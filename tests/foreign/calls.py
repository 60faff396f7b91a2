"""Each call that our client makes, as it is made: its name in the client, and what is asked of whom on the wire."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nixops_proxmox.pve.api.answers import MappingSeen
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.api.containers import ContainerClient
from nixops_proxmox.pve.api.firewall import FirewallCalls, of_vm

NODE, VMID, STORAGE = "pve1", 100, "local"
UPID = "UPID:pve1:00001234:00005678:6B0BA11B:qmstart:100:root@pam:"
REPLICATION = "/cluster/replication"
USER = "/access/users/u@pve"
VM, STORE = f"/nodes/{NODE}/qemu/{VMID}", f"/nodes/{NODE}/storage/{STORAGE}"


@dataclass(frozen=True)
class Made:
    name: str  # of the client's method
    make: Callable[[PveClient], object]
    method: str
    path: str


SHARE = MappingSeen(("node=pve1,path=/srv",), "ours", mediated=False)


def made(folder: Path) -> list[Made]:
    """All of them. `folder` is for a file to upload."""
    iso = folder / "x.iso"
    iso.write_bytes(b"CD001")
    power, agent = f"{VM}/status", f"{VM}/agent"
    return [
        Made("get_version", lambda c: c.get_version(), "GET", "/version"),
        Made("get_resources", lambda c: c.get_resources(0.0), "GET", "/cluster/resources"),
        Made("is_vmid_free", lambda c: c.is_vmid_free(VMID), "GET", "/cluster/nextid"),
        Made("get_permissions", lambda c: c.get_permissions(), "GET", "/access/permissions"),
        Made("accounts.has_user", lambda c: c.accounts.has_user("u@pve"), "GET", "/access/users"),
        Made("accounts.add_user", lambda c: c.accounts.add_user("u@pve", "ours"), "POST", "/access/users"),
        Made("accounts.list_tokens", lambda c: c.accounts.list_tokens("u@pve"), "GET", f"{USER}/token"),
        Made("accounts.add_token", lambda c: c.accounts.add_token("u@pve", "t", "ours"), "POST", f"{USER}/token/t"),
        Made("accounts.remove_token", lambda c: c.accounts.remove_token("u@pve", "t"), "DELETE", f"{USER}/token/t"),
        Made("accounts.list_roles", lambda c: c.accounts.list_roles(), "GET", "/access/roles"),
        Made("accounts.add_role", lambda c: c.accounts.add_role("R", ("VM.Audit",)), "POST", "/access/roles"),
        Made("accounts.extend_role", lambda c: c.accounts.extend_role("R", ("VM.Audit",)), "PUT", "/access/roles/R"),
        Made("accounts.grant", lambda c: c.accounts.grant("/vms", ("R",), "u@pve!t"), "PUT", "/access/acl"),
        Made("accounts.permissions_of", lambda c: c.accounts.permissions_of("u@pve"), "GET", "/access/permissions"),
        Made("get_storage_settings", lambda c: c.get_storage_settings(), "GET", "/storage"),
        Made("list_bridges", lambda c: c.list_bridges(NODE), "GET", f"/nodes/{NODE}/network"),
        Made("describe_bridges", lambda c: c.describe_bridges(NODE), "GET", f"/nodes/{NODE}/network"),
        Made("list_maintenance", lambda c: c.list_maintenance(), "GET", "/cluster/ha/status/current"),
        Made("list_mappings", lambda c: c.list_mappings("pci"), "GET", "/cluster/mapping/pci"),
        Made("describe_mappings", lambda c: c.describe_mappings("usb"), "GET", "/cluster/mapping/usb"),
        Made("create_mapping", lambda c: c.create_mapping("dir", "m", SHARE), "POST", "/cluster/mapping/dir"),
        Made("change_mapping", lambda c: c.change_mapping("dir", "m", SHARE), "PUT", "/cluster/mapping/dir/m"),
        Made("delete_mapping", lambda c: c.delete_mapping("dir", "m"), "DELETE", "/cluster/mapping/dir/m"),
        Made("list_ha_rules", lambda c: c.list_ha_rules(), "GET", "/cluster/ha/rules"),
        Made("list_ha_groups", lambda c: c.list_ha_groups(), "GET", "/cluster/ha/groups"),
        Made("get_processor", lambda c: c.get_processor(NODE), "GET", f"/nodes/{NODE}/status"),
        Made("get_root_free", lambda c: c.get_root_free(NODE), "GET", f"/nodes/{NODE}/status"),
        Made(
            "set_storage_content",
            lambda c: c.set_storage_content(STORAGE, ["iso"], "d"),
            "PUT",
            f"/storage/{STORAGE}",
        ),
        Made("list_backup_jobs", lambda c: c.list_backup_jobs(), "GET", "/cluster/backup"),
        Made("create_backup_job", lambda c: c.create_backup_job("j", {"storage": "s"}), "POST", "/cluster/backup"),
        Made("change_backup_job", lambda c: c.change_backup_job("j", {"mode": "stop"}), "PUT", "/cluster/backup/j"),
        Made("delete_backup_job", lambda c: c.delete_backup_job("j"), "DELETE", "/cluster/backup/j"),
        Made("get_pool", lambda c: c.get_pool("p"), "GET", "/pools/p"),
        Made("create_pool", lambda c: c.create_pool("p", "ours"), "POST", "/pools"),
        Made("set_pool_comment", lambda c: c.set_pool_comment("p", "ours"), "PUT", "/pools/p"),
        Made("delete_pool", lambda c: c.delete_pool("p"), "DELETE", "/pools/p"),
        Made("put_into_pool", lambda c: c.put_into_pool("p", VMID, move=False), "PUT", "/pools/p"),
        Made("list_sdn", lambda c: c.list_sdn("zones"), "GET", "/cluster/sdn/zones"),
        Made("list_subnets", lambda c: c.list_subnets("v1"), "GET", "/cluster/sdn/vnets/v1/subnets"),
        Made("list_ips", lambda c: c.list_ips(), "GET", "/cluster/sdn/ipams/pve/status"),
        Made(
            "change_ip",
            lambda c: c.change_ip("POST", "v1", "z1", "bc:24:11:00:00:01", "192.0.2.7"),
            "POST",
            "/cluster/sdn/vnets/v1/ips",
        ),
        Made("add_sdn", lambda c: c.add_sdn("vnet", {"vnet": "v1", "zone": "z1"}), "POST", "/cluster/sdn/vnets"),
        Made("change_sdn", lambda c: c.change_sdn("vnet", "v1", {"tag": 5}), "PUT", "/cluster/sdn/vnets/v1"),
        Made("remove_sdn", lambda c: c.remove_sdn("zone", "z1", {}), "DELETE", "/cluster/sdn/zones/z1"),
        Made("lock_sdn", lambda c: c.lock_sdn(), "POST", "/cluster/sdn/lock"),
        Made("unlock_sdn", lambda c: c.unlock_sdn("t"), "DELETE", "/cluster/sdn/lock"),
        Made("apply_sdn", lambda c: c.apply_sdn({}), "PUT", "/cluster/sdn"),
        Made("list_zone_status", lambda c: c.list_zone_status(NODE), "GET", f"/nodes/{NODE}/sdn/zones"),
        *_of_containers(),
        *_of_firewalls(),
        *_of_ha(),
        Made("list_online_nodes", lambda c: c.list_online_nodes(), "GET", "/nodes"),
        Made("list_vnets", lambda c: c.list_vnets(), "GET", "/cluster/sdn/vnets"),
        Made("list_pool_members", lambda c: c.list_pool_members("p"), "GET", "/pools/p"),
        Made("list_volumes", lambda c: c.list_volumes(NODE, STORAGE), "GET", f"{STORE}/content"),
        Made("upload", lambda c: c.upload(NODE, STORAGE, iso), "POST", f"{STORE}/upload"),
        Made("delete_volume", lambda c: c.delete_volume(NODE, "local:x"), "DELETE", f"{STORE}/content/local:x"),
        Made(
            "get_archive_config",
            lambda c: c.get_archive_config(NODE, "local:backup/a.vma.zst"),
            "GET",
            f"/nodes/{NODE}/vzdump/extractconfig",
        ),
        Made(
            "get_container_config", lambda c: c.get_container_config(NODE, 200), "GET", f"/nodes/{NODE}/lxc/200/config"
        ),
        Made("get_config", lambda c: c.get_config(NODE, VMID), "GET", f"{VM}/config"),
        Made("get_pending", lambda c: c.get_pending(NODE, VMID), "GET", f"{VM}/pending"),
        Made("get_status", lambda c: c.get_status(NODE, VMID), "GET", f"{power}/current"),
        Made("create_vm", lambda c: c.create_vm(NODE, {"vmid": VMID}), "POST", f"/nodes/{NODE}/qemu"),
        Made("restore_vm", lambda c: c.restore_vm(NODE, VMID, "local:backup/a.vma.zst"), "POST", f"/nodes/{NODE}/qemu"),
        Made("change_config", lambda c: c.change_config(NODE, VMID, {"memory": 512}), "POST", f"{VM}/config"),
        Made("set_config", lambda c: c.set_config(NODE, VMID, {"memory": 512}), "PUT", f"{VM}/config"),
        Made("regenerate_cloud_init", lambda c: c.regenerate_cloud_init(NODE, VMID), "PUT", f"{VM}/cloudinit"),
        Made("resize_disk", lambda c: c.resize_disk(NODE, VMID, "scsi0", "9G"), "PUT", f"{VM}/resize"),
        Made("delete_vm", lambda c: c.delete_vm(NODE, VMID), "DELETE", VM),
        Made("start_vm", lambda c: c.start_vm(NODE, VMID), "POST", f"{power}/start"),
        Made("stop_vm", lambda c: c.stop_vm(NODE, VMID), "POST", f"{power}/stop"),
        Made("shut_down_vm", lambda c: c.shut_down_vm(NODE, VMID, 5), "POST", f"{power}/shutdown"),
        Made("reset_vm", lambda c: c.reset_vm(NODE, VMID), "POST", f"{power}/reset"),
        Made("clone_vm", lambda c: c.clone_vm(NODE, VMID, {"newid": 101}), "POST", f"{VM}/clone"),
        Made("get_migration", lambda c: c.get_migration(NODE, VMID), "GET", f"{VM}/migrate"),
        Made("migrate_vm", lambda c: c.migrate_vm(NODE, VMID, "pve2"), "POST", f"{VM}/migrate"),
        Made("move_disk", lambda c: c.move_disk(NODE, VMID, "scsi0", "local", ""), "POST", f"{VM}/move_disk"),
        Made(
            "reassign_disk",
            lambda c: c.reassign_disk(NODE, VMID, "scsi0", 101, "scsi1", ("", "")),
            "POST",
            f"{VM}/move_disk",
        ),
        Made("make_template", lambda c: c.make_template(NODE, VMID), "POST", f"{VM}/template"),
        Made("list_snapshots", lambda c: c.list_snapshots(NODE, VMID), "GET", f"{VM}/snapshot"),
        Made("describe_snapshots", lambda c: c.describe_snapshots(NODE, VMID), "GET", f"{VM}/snapshot"),
        Made("can_snapshot", lambda c: c.can_snapshot(NODE, VMID), "GET", f"{VM}/feature"),
        Made("create_snapshot", lambda c: c.create_snapshot(NODE, VMID, "s1"), "POST", f"{VM}/snapshot"),
        Made("roll_back", lambda c: c.roll_back(NODE, VMID, "s1"), "POST", f"{VM}/snapshot/s1/rollback"),
        Made("delete_snapshot", lambda c: c.delete_snapshot(NODE, VMID, "s1"), "DELETE", f"{VM}/snapshot/s1"),
        Made("back_up", lambda c: c.back_up(NODE, VMID, STORAGE), "POST", f"/nodes/{NODE}/vzdump"),
        Made("open_terminal", lambda c: c.open_terminal(NODE, VMID), "POST", f"{VM}/termproxy"),
        Made("open_display", lambda c: c.open_display(NODE, VMID), "POST", f"{VM}/vncproxy"),
        Made("open_spice", lambda c: c.open_spice(NODE, VMID), "POST", f"{VM}/spiceproxy"),
        Made("agent_ping", lambda c: c.agent_ping(NODE, VMID), "POST", f"{agent}/ping"),
        Made("agent_exec", lambda c: c.agent_exec(NODE, VMID, ["true"]), "POST", f"{agent}/exec"),
        Made("agent_exec_status", lambda c: c.agent_exec_status(NODE, VMID, 1), "GET", f"{agent}/exec-status"),
        Made("agent_read_file", lambda c: c.agent_read_file(NODE, VMID, "/x"), "GET", f"{agent}/file-read"),
        Made(
            "agent_interfaces",
            lambda c: c.agent_interfaces(NODE, VMID),
            "GET",
            f"{agent}/network-get-interfaces",
        ),
        Made("agent_osinfo", lambda c: c.agent_osinfo(NODE, VMID), "GET", f"{agent}/get-osinfo"),
        Made("get_task", lambda c: c.get_task(NODE, UPID), "GET", f"/nodes/{NODE}/tasks/{UPID}/status"),
        Made("task_log", lambda c: c.task_log(NODE, UPID), "GET", f"/nodes/{NODE}/tasks/{UPID}/log"),
        Made("list_tasks", lambda c: c.list_tasks(NODE), "GET", f"/nodes/{NODE}/tasks"),
    ]


def _of_ha() -> list[Made]:
    return [
        Made("ha.list_entries", lambda c: c.ha.list_entries("resources"), "GET", "/cluster/ha/resources"),
        Made("ha.add", lambda c: c.ha.add("rules", "r", {"type": "node-affinity"}), "POST", "/cluster/ha/rules"),
        Made("ha.change", lambda c: c.ha.change("groups", "g", {}, ("comment",)), "PUT", "/cluster/ha/groups/g"),
        Made("ha.remove", lambda c: c.ha.remove("rules", "r"), "DELETE", "/cluster/ha/rules/r"),
        Made("replication.list_jobs", lambda c: c.replication.list_jobs(), "GET", REPLICATION),
        Made("replication.create", lambda c: c.replication.create("100-0", {"target": "b"}), "POST", REPLICATION),
        Made(
            "replication.change", lambda c: c.replication.change("100-0", {}, ("rate",)), "PUT", f"{REPLICATION}/100-0"
        ),
        Made("replication.remove", lambda c: c.replication.remove("100-0"), "DELETE", f"{REPLICATION}/100-0"),
        Made("replication.list_states", lambda c: c.replication.list_states(NODE), "GET", f"/nodes/{NODE}/replication"),
    ]


def _of_containers() -> list[Made]:
    """The calls that are not those of VMs under another word."""
    base = f"/nodes/{NODE}/lxc"
    ct, template = f"{base}/{VMID}", "local:backup/x.tar.zst"

    def of(call: Callable[[ContainerClient], object]) -> Callable[[PveClient], object]:
        return lambda client: call(ContainerClient(client.sender))

    return [
        Made("containers.get_config", of(lambda c: c.get_config(NODE, VMID)), "GET", f"{ct}/config"),
        Made(
            "containers.change_config", of(lambda c: c.change_config(NODE, VMID, {"cores": 1})), "PUT", f"{ct}/config"
        ),
        Made(
            "containers.restore_container",
            of(lambda c: c.restore_container(NODE, VMID, template, {"rootfs": "local-lvm:8"}, force=True)),
            "POST",
            base,
        ),
        Made(
            "containers.reassign_disk",
            of(lambda c: c.reassign_disk(NODE, VMID, "mp0", 900000, "mp1", ("", ""))),
            "POST",
            f"{ct}/move_volume",
        ),
        Made("containers.open_terminal", of(lambda c: c.open_terminal(NODE, VMID)), "POST", f"{ct}/termproxy"),
        Made("containers.migrate_vm", of(lambda c: c.migrate_vm(NODE, VMID, "pve2")), "POST", f"{ct}/migrate"),
        Made("containers.make_template", of(lambda c: c.make_template(NODE, VMID)), "POST", f"{ct}/template"),
        Made("containers.get_interfaces", of(lambda c: c.get_interfaces(NODE, VMID)), "GET", f"{ct}/interfaces"),
    ]


def _of_firewalls() -> list[Made]:
    """A VM's, and what only the cluster has."""
    vm, cluster, base, alias = (
        of_vm(NODE, VMID),
        "/cluster/firewall",
        f"{VM}/firewall",
        {"name": "office", "cidr": "10.0.0.1"},
    )
    rule = {"type": "in", "action": "ACCEPT"}
    found: list[tuple[str, Callable[[FirewallCalls], object], str, str]] = [
        ("get_options", lambda f: f.get_options(vm), "GET", f"{base}/options"),
        ("set_options", lambda f: f.set_options(vm, {"enable": "1"}), "PUT", f"{base}/options"),
        ("list_rules", lambda f: f.list_rules(vm), "GET", f"{base}/rules"),
        ("add_rule", lambda f: f.add_rule(vm, rule), "POST", f"{base}/rules"),
        ("change_rule", lambda f: f.change_rule(vm, 0, rule), "PUT", f"{base}/rules/0"),
        ("delete_rule", lambda f: f.delete_rule(vm, 0, ""), "DELETE", f"{base}/rules/0"),
        ("list_sets", lambda f: f.list_sets(vm), "GET", f"{base}/ipset"),
        ("put_set", lambda f: f.put_set(vm, {"name": "web"}), "POST", f"{base}/ipset"),
        ("delete_set", lambda f: f.delete_set(vm, "web"), "DELETE", f"{base}/ipset/web"),
        ("list_members", lambda f: f.list_members(vm, "web"), "GET", f"{base}/ipset/web"),
        ("add_member", lambda f: f.add_member(vm, "web", {"cidr": "10.0.0.1"}), "POST", f"{base}/ipset/web"),
        ("change_member", lambda f: f.change_member(vm, "web", "10.0.0.1", {}), "PUT", f"{base}/ipset/web/10.0.0.1"),
        ("delete_member", lambda f: f.delete_member(vm, "web", "10.0.0.1", ""), "DELETE", f"{base}/ipset/web/10.0.0.1"),
        ("list_groups", lambda f: f.list_groups(), "GET", f"{cluster}/groups"),
        ("put_group", lambda f: f.put_group({"group": "webs"}), "POST", f"{cluster}/groups"),
        ("delete_group", lambda f: f.delete_group("webs"), "DELETE", f"{cluster}/groups/webs"),
        ("list_aliases", lambda f: f.list_aliases(), "GET", f"{cluster}/aliases"),
        ("add_alias", lambda f: f.add_alias(alias), "POST", f"{cluster}/aliases"),
        ("change_alias", lambda f: f.change_alias("office", {"cidr": "10.0.0.1"}), "PUT", f"{cluster}/aliases/office"),
        ("delete_alias", lambda f: f.delete_alias("office", ""), "DELETE", f"{cluster}/aliases/office"),
    ]
    return [Made(f"firewall.{name}", _on_firewall(make), method, path) for name, make, method, path in found]


def _on_firewall(make: Callable[[FirewallCalls], object]) -> Callable[[PveClient], object]:
    return lambda client: make(client.firewall)
