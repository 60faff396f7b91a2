"""/cluster/ha: status, resources, and groups, which became rules in 9.0."""

import re
from collections.abc import Mapping
from time import gmtime, strftime
from typing import Any

from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.cluster import Cluster, Node
from nixops_proxmox.lab.container import Container
from nixops_proxmox.lab.containers import moves
from nixops_proxmox.lab.ha import HaResource, Rule, check_digest, digest, members, priorities, refuse_infeasible
from nixops_proxmox.lab.refusals import bad_parameter, die
from nixops_proxmox.lab.schema.formats import split_list
from nixops_proxmox.lab.schema.types import boolean, integer, matching, named, one_of, text
from nixops_proxmox.lab.vm import Vm
from nixops_proxmox.lab.vms.ha import refuse_in_error, wake
from nixops_proxmox.lab.vms.migrate import start_migration

routes = Routes()
AUDIT, CONSOLE = needs("/", "Sys.Audit"), needs("/", "Sys.Console")


# Status.


@routes.get("/cluster/ha/status/current", permission=AUDIT)
async def ha_status(call: Call) -> Any:
    cluster = call.cluster
    quorum = {
        "id": "quorum",
        "type": "quorum",
        "node": call.entry,
        "status": "OK" if cluster.quorate else "No quorum on this node!",
        "quorate": int(cluster.quorate),
    }
    services = [_service(vm, vm.ha) for vm in cluster.vms.values() if vm.ha]
    known = bool(services) or any(node.maintenance for node in cluster.nodes.values())
    lrms = [_lrm(node, cluster.clock.time()) for node in cluster.nodes.values()] if known else []
    return [quorum, *lrms, *services]


def _service(vm: Vm, resource: HaResource) -> dict[str, Any]:
    return {
        "id": f"service:{vm.sid}",
        "type": "service",
        "sid": vm.sid,
        "node": vm.node,
        "state": resource.crm,
        "crm_state": resource.crm,
        "request_state": resource.state,
        "max_relocate": resource.settings.get("max_relocate", 1),
        "max_restart": resource.settings.get("max_restart", 1),
        "status": f"{vm.sid} ({vm.node}, {resource.crm})",
    }


def _lrm(node: Node, now: float) -> dict[str, Any]:
    """A node's own part of the HA manager (PVE::API2::HA::Status): its words are all that older releases tell.
    A cluster that has never used HA tells of none."""
    told = "maintenance mode" if node.maintenance else "idle" if node.online else "old timestamp - dead?"
    status = f"{node.name} ({told}, {strftime('%a %b %d %H:%M:%S %Y', gmtime(now))})"
    return {"id": f"lrm:{node.name}", "type": "lrm", "node": node.name, "status": status, "timestamp": int(now)}


# Resources.


HA_STATES = one_of("started", "stopped", "enabled", "disabled", "ignored")
DIGEST, DELETE = text(64), named("pve-configid-list")
HA = {
    "state": HA_STATES,
    "comment": text(4096),
    "max_restart": integer(0),
    "max_relocate": integer(0),
    "group": named("pve-configid"),
    "failback": boolean(since=(9, 0)),
}


def _all(cluster: Cluster) -> dict[str, Any]:
    return {vm.sid: {"state": vm.ha.state, **vm.ha.settings} for vm in cluster.vms.values() if vm.ha}


def _resource(cluster: Cluster, vm: Vm, resource: HaResource) -> dict[str, Any]:
    """What was never set is not there, but for the state, which a call writes down."""
    told = {"sid": vm.sid, "type": _type(vm), "state": resource.state, "digest": digest(_all(cluster))}
    return {**told, **resource.settings}


def _type(vm: Vm) -> str:
    return vm.sid.partition(":")[0]


@routes.get("/cluster/ha/resources", {"type": one_of("ct", "vm")}, AUDIT)
async def ha_resources(call: Call) -> Any:
    managed = [vm for vm in call.cluster.vms.values() if call.get("type", _type(vm)) == _type(vm)]
    return [_resource(call.cluster, vm, vm.ha) for vm in managed if vm.ha]


SID = re.compile(r"(vm|ct):(\d+)")


def _full_sid(call: Call) -> str:
    """A bare VMID stands for the guest that has it."""
    sid = str(call.params["sid"])
    if not sid.isdigit():
        return sid
    vm = call.cluster.vms.get(int(sid))
    return vm.sid if vm else die(f"unable to detect SID from VMID - VM/CT {sid} does not exist")


def _ha_vm(call: Call) -> Vm:
    sid = _full_sid(call)
    found = SID.fullmatch(sid) or die(f"unable to parse service ID '{sid}'")
    vm = call.cluster.vms.get(int(found[2])) or die(f"resource '{sid}' does not exist in cluster")
    if vm.sid != sid:  # releases before 9.1 take it, and put it into the state error later
        die(f"resource '{sid}' - guest with ID {vm.vmid} is not a {'VM' if found[1] == 'vm' else 'container'}")
    return vm


@routes.get("/cluster/ha/resources/{sid}", permission=AUDIT)
async def ha_resource(call: Call) -> Any:
    """The resource. Clients ask for every VM, and expect these words if HA does not manage it."""
    sid = _full_sid(call)
    vm = next((vm for vm in call.cluster.vms.values() if sid == vm.sid and vm.ha), None)
    return _resource(call.cluster, vm, vm.ha) if vm and vm.ha else die(f"no such resource '{sid}'")


@routes.post("/cluster/ha/resources", {**HA, "sid": text(optional=False), "type": one_of("ct", "vm")}, CONSOLE)
async def ha_add(call: Call) -> Any:
    call.cluster.check_quorum()
    vm = _ha_vm(call)
    if call.get("type", _type(vm)) != _type(vm):
        die("types does not match")
    if vm.ha:
        die(f"create resource failed: resource ID '{vm.sid}' already defined")
    _check_group(call, "create resource failed: ")
    vm.ha = HaResource(call.get("state", "started"), settings=_settings(call))
    wake(call.cluster)


def _settings(call: Call) -> dict[str, Any]:
    """As the file has them: a flag is a number."""
    return _told(call, {name: HA[name] for name in HA if name != "state"})


def _check_group(call: Call, doing: str = "") -> None:
    group = call.get("group")
    if group and call.cluster.release.since(9):
        die(f"{doing}invalid parameter 'group': ha groups have been migrated to rules")
    if group and group not in call.cluster.ha.groups:
        die(f"HA group '{group}' does not exist")


@routes.put("/cluster/ha/resources/{sid}", {**HA, "digest": DIGEST, "delete": DELETE}, CONSOLE)
async def ha_change(call: Call) -> Any:
    call.cluster.check_quorum()
    sid = _full_sid(call)
    vm = next((vm for vm in call.cluster.vms.values() if vm.sid == sid), None)
    _check_group(call)
    if vm is None or vm.ha is None:
        die(f"update resource failed: no such resource '{sid}'")
    refuse_in_error(vm, call.get("state", ""))
    check_digest(call.get("digest"), _all(call.cluster))
    resource = vm.ha
    resource.settings |= _settings(call)
    for key in split_list(call.get("delete", "")):
        if key not in HA:
            die(f"update resource failed: no such option '{key}'")
        resource.settings.pop(key, None)
    if "state" in call.params:
        resource.state, resource.patience = call.params["state"], 60.0
    wake(call.cluster)


@routes.delete("/cluster/ha/resources/{sid}", {"purge": boolean(since=(9, 1))}, CONSOLE)
async def ha_remove(call: Call) -> Any:
    """It neither starts nor stops the VM. Before 9.1, rules go on naming it."""
    call.cluster.check_quorum()
    vm = _ha_vm(call)
    if not vm.ha:
        die(f"cannot delete service '{vm.sid}', not HA managed!")
    vm.ha = None
    if call.cluster.release.since(9, 1) and call.get("purge", True):
        call.cluster.ha.take_out(vm.sid)


@routes.post("/cluster/ha/resources/{sid}/migrate", {"node": named("pve-node", optional=False)}, CONSOLE)
async def ha_migrate(call: Call) -> Any:
    vm = _ha_vm(call)
    if not vm.ha:
        die(f"cannot migrate service '{vm.sid}', not HA managed!")
    refuse_in_error(vm)
    if isinstance(vm, Container):
        moves.start_migration(call.cluster, call.auth, vm, {"target": call.params["node"], "restart": True})
    else:
        start_migration(call.cluster, call.auth, vm, {"target": call.params["node"]})
    return {"sid": vm.sid, "requested-node": call.params["node"]} if call.cluster.release.since(9) else None


# Groups, before 9.0.


def _refuse_groups(call: Call, doing: str) -> None:
    if call.cluster.release.since(9):
        die(f"cannot {doing}: ha groups have been migrated to rules")


def _group(call: Call, name: str) -> Rule:
    groups = call.cluster.ha.groups
    if name not in groups:
        die(f"no such ha group '{name}'")
    return {**groups[name], "digest": digest(groups)}


@routes.get("/cluster/ha/groups", permission=AUDIT)
async def ha_groups(call: Call) -> Any:
    _refuse_groups(call, "index groups")
    return [_group(call, name) for name in call.cluster.ha.groups]


@routes.get("/cluster/ha/groups/{hagroup}", permission=AUDIT)
async def ha_group(call: Call) -> Any:
    _refuse_groups(call, "read group")
    return _group(call, call.params["hagroup"])


NODES = matching(r"[a-zA-Z0-9-]+(:\d+)?([,; ][a-zA-Z0-9-]+(:\d+)?)*")
GROUP = {
    "nodes": NODES,
    "restricted": boolean(),
    "nofailback": boolean(),
    "comment": text(4096),
}
NEW_GROUP = {"group": named("pve-configid", optional=False), "type": one_of("group")}


@routes.post("/cluster/ha/groups", {**GROUP, **NEW_GROUP, "nodes": NODES.required}, CONSOLE)
async def ha_add_group(call: Call) -> Any:
    call.cluster.check_quorum()
    _refuse_groups(call, "create group")
    name = call.params["group"]
    if name in call.cluster.ha.groups:
        die(f"create ha group failed: ha group ID '{name}' already defined")
    call.cluster.ha.groups[name] = {**_told(call, GROUP), "group": name, "type": "group"}


@routes.put("/cluster/ha/groups/{hagroup}", {**GROUP, "digest": DIGEST, "delete": DELETE}, CONSOLE)
async def ha_change_group(call: Call) -> Any:
    _refuse_groups(call, "update group")
    groups, name = call.cluster.ha.groups, call.params["hagroup"]
    check_digest(call.get("digest"), groups)
    if name not in groups:
        die(f"update ha group failed: no such ha group '{name}'")
    groups[name] |= _told(call, GROUP)
    for key in split_list(call.get("delete", "")):
        if key not in GROUP:
            die(f"update ha group failed: no such option '{key}'")
        if key == "nodes":
            die("update ha group failed: unable to delete required option 'nodes'")
        groups[name].pop(key, None)


@routes.delete("/cluster/ha/groups/{hagroup}", permission=CONSOLE)
async def ha_remove_group(call: Call) -> Any:
    _refuse_groups(call, "delete group")
    name = call.params["hagroup"]
    for vm in call.cluster.vms.values():
        if vm.ha and vm.ha.settings.get("group") == name:
            die(f"delete ha group failed: ha group is used by service '{vm.sid}'")
    call.cluster.ha.groups.pop(name, None)


def _told(call: Call, table: Mapping[str, Any]) -> dict[str, Any]:
    """As the file has them: a flag is a number."""
    given = {name: call.params[name] for name in table if name in call.params}
    return {name: int(value) if isinstance(value, bool) else value for name, value in given.items()}


# Rules, since 9.0.


def _rule(call: Call, name: str) -> Rule:
    rules = call.cluster.ha.rules
    if name not in rules:
        die(f"no such ha rule '{name}'")
    return {**rules[name], "digest": digest(rules), "order": [*rules].index(name) + 1}


RULES = {"type": one_of("node-affinity", "resource-affinity"), "resource": text()}


@routes.get("/cluster/ha/rules", RULES, AUDIT, since=(9, 0))
async def ha_rules(call: Call) -> Any:
    return [
        _rule(call, name)
        for name, rule in call.cluster.ha.rules.items()
        if call.get("type", rule["type"]) == rule["type"]
        and ("resource" not in call.params or call.params["resource"] in members(rule))
    ]


@routes.get("/cluster/ha/rules/{rule}", permission=AUDIT, since=(9, 0))
async def ha_rule(call: Call) -> Any:
    return _rule(call, call.params["rule"])


TYPE = one_of("node-affinity", "resource-affinity", optional=False)
RULE = {
    "resources": text(),
    "nodes": NODES,
    "strict": boolean(),
    "affinity": one_of("positive", "negative"),
    "disable": boolean(),
    "comment": text(4096),
}
OF_TYPE = {"node-affinity": ("nodes", "strict"), "resource-affinity": ("affinity",)}


@routes.post("/cluster/ha/rules", {**RULE, "rule": named("pve-configid", optional=False), "type": TYPE,
                                   "resources": text(optional=False)}, CONSOLE, since=(9, 0))  # fmt: skip
async def ha_add_rule(call: Call) -> Any:
    call.cluster.check_quorum()
    name, kind = call.params["rule"], call.params["type"]
    _check_type(call, kind)
    needed = OF_TYPE[kind][0]
    if needed not in call.params:
        raise bad_parameter(needed, "property is missing and it is not optional")
    if name in call.cluster.ha.rules:
        die(f"create ha rule failed: HA rule '{name}' already defined")
    defaults = {"strict": 0} if kind == "node-affinity" else {}
    _write(call, name, {**defaults, **_told(call, RULE), "rule": name, "type": kind}, "create ha rule failed")


def _check_type(call: Call, kind: str) -> None:
    for other, keys in OF_TYPE.items():
        for key in keys:
            if other != kind and key in call.params:
                raise bad_parameter(key, f"unexpected property for type '{kind}'")


def _write(call: Call, name: str, rule: Rule, doing: str) -> None:
    cluster = call.cluster
    managed = {vm.sid for vm in cluster.vms.values() if vm.ha}
    told = members(rule) if "resources" in call.params else []
    if "resources" in call.params and not told:
        die(f"{doing}: no resources were specified")
    if strange := sorted(set(told) - managed):
        die(f"{doing}: cannot use unmanaged resource(s) {', '.join(strange)}.")
    nodes = priorities(call.get("nodes", ""))
    if strange := sorted(set(nodes) - set(cluster.nodes)):
        die(f"{doing}: cannot use non-existant node(s) {', '.join(strange)}.")
    refuse_infeasible({**cluster.ha.rules, name: rule}, name, len(cluster.nodes))
    cluster.ha.rules[name] = rule


@routes.put("/cluster/ha/rules/{rule}", {**RULE, "type": TYPE, "digest": DIGEST, "delete": DELETE}, CONSOLE,
            since=(9, 0))  # fmt: skip
async def ha_change_rule(call: Call) -> Any:
    rules, name = call.cluster.ha.rules, call.params["rule"]
    check_digest(call.get("digest"), rules)
    if name not in rules:
        die(f"update HA rules failed: HA rule '{name}' does not exist")
    _check_type(call, rules[name]["type"])
    gone = split_list(call.get("delete", ""))
    kept = {key: value for key, value in rules[name].items() if key not in gone}
    _write(call, name, {**kept, **_told(call, RULE)}, "update HA rules failed")


@routes.delete("/cluster/ha/rules/{rule}", permission=CONSOLE, since=(9, 0))
async def ha_remove_rule(call: Call) -> Any:
    """One that is not there is removed, too."""
    call.cluster.ha.rules.pop(call.params["rule"], None)
