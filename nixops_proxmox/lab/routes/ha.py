"""/cluster/ha: the least of HA that clients look at."""

from collections.abc import Mapping
from time import gmtime, strftime
from typing import Any

from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.cluster import Node
from nixops_proxmox.lab.refusals import die
from nixops_proxmox.lab.schema.types import boolean, integer, named, one_of, text
from nixops_proxmox.lab.vm import Vm

routes = Routes()


@routes.get("/cluster/ha/status/current", permission=needs("/", "Sys.Audit"))
async def ha_status(call: Call) -> Any:
    cluster = call.cluster
    quorum = {
        "id": "quorum",
        "type": "quorum",
        "node": call.entry,
        "status": "OK" if cluster.quorate else "No quorum on this node!",
        "quorate": int(cluster.quorate),
    }
    services = [
        {
            "id": f"service:vm:{vm.vmid}",
            "type": "service",
            "sid": f"vm:{vm.vmid}",
            "node": vm.node,
            "state": vm.ha_state,
            "status": f"vm:{vm.vmid} ({vm.node}, {vm.ha_state})",
        }
        for vm in cluster.vms.values()
        if vm.ha_state
    ]
    known = bool(services) or any(node.maintenance for node in cluster.nodes.values())
    lrms = [_lrm(node, cluster.clock.time()) for node in cluster.nodes.values()] if known else []
    return [quorum, *lrms, *services]


def _lrm(node: Node, now: float) -> dict[str, Any]:
    """A node's own part of the HA manager (PVE::API2::HA::Status): its words are all that older releases tell.
    A cluster that has never used HA tells of none."""
    told = "maintenance mode" if node.maintenance else "idle"
    status = f"{node.name} ({told}, {strftime('%a %b %d %H:%M:%S %Y', gmtime(now))})"
    return {"id": f"lrm:{node.name}", "type": "lrm", "node": node.name, "status": status, "timestamp": int(now)}


@routes.get("/cluster/ha/resources", {"type": one_of("ct", "vm")}, needs("/", "Sys.Audit"))
async def ha_resources(call: Call) -> Any:
    return [_resource(vm) for vm in call.cluster.vms.values() if vm.ha_state and call.get("type", "vm") == "vm"]


def _resource(vm: Vm) -> dict[str, Any]:
    group = {"group": vm.ha_group} if vm.ha_group else {}
    return {"sid": f"vm:{vm.vmid}", "type": "vm", "state": vm.ha_state, "digest": vm.digest, **group}


def _full_sid(call: Call) -> str:
    """A bare VMID stands for the VM."""
    sid = str(call.params["sid"])
    return f"vm:{sid}" if sid.isdigit() else sid


HA_STATES = one_of("started", "stopped", "enabled", "disabled", "ignored")
HA = {
    "state": HA_STATES,
    "comment": text(),
    "max_restart": integer(0),
    "max_relocate": integer(0),
    "group": text(until=(8, 4)),
    "failback": boolean(since=(9, 0)),
}


def _ha_vm(call: Call) -> Vm:
    sid = _full_sid(call)
    vmid = int(sid.removeprefix("vm:")) if sid.removeprefix("vm:").isdigit() else 0
    if vmid not in call.cluster.vms:
        die(
            f"unable to find configuration file for VM {vmid} on any node"
            if vmid
            else f"unable to parse service ID '{sid}'"
        )
    return call.cluster.vms[vmid]


@routes.get("/cluster/ha/resources/{sid}", permission=needs("/", "Sys.Audit"))
async def ha_resource(call: Call) -> Any:
    """The resource. Clients ask for every VM, and expect these words if HA does not manage it."""
    sid = _full_sid(call)
    vm = next((vm for vm in call.cluster.vms.values() if sid == f"vm:{vm.vmid}" and vm.ha_state), None)
    return _resource(vm) if vm else die(f"no such resource '{sid}'")


@routes.post(
    "/cluster/ha/resources", {**HA, "sid": text(optional=False), "type": one_of("ct", "vm")}, needs("/", "Sys.Console")
)
async def ha_add(call: Call) -> Any:
    vm = _ha_vm(call)
    if vm.ha_state:
        die(f"resource ID 'vm:{vm.vmid}' already defined")
    vm.ha_state, vm.ha_group = call.get("state", "started"), call.get("group", "")


@routes.put(
    "/cluster/ha/resources/{sid}", {**HA, "digest": text(), "delete": named("string-list")}, needs("/", "Sys.Console")
)
async def ha_change(call: Call) -> Any:
    vm = _ha_vm(call)
    if not vm.ha_state:
        die(f"no such resource 'vm:{vm.vmid}'")
    vm.ha_state, vm.ha_group = call.get("state", vm.ha_state), call.get("group", vm.ha_group)


@routes.delete("/cluster/ha/resources/{sid}", {"purge": boolean(since=(9, 1))}, needs("/", "Sys.Console"))
async def ha_remove(call: Call) -> Any:
    vm = _ha_vm(call)
    if not vm.ha_state:
        die(f"cannot delete service 'vm:{vm.vmid}', not HA managed!")
    vm.ha_state = ""


@routes.get("/cluster/ha/groups", permission=needs("/", "Sys.Audit"))
async def ha_groups(call: Call) -> Any:
    if call.cluster.release.since(9):
        die("cannot index groups: ha groups have been migrated to rules")
    return list(call.cluster.ha_groups.values())


GROUP = {
    "group": named("pve-configid", optional=False),
    "nodes": text(optional=False),
    "restricted": boolean(),
    "nofailback": boolean(),
    "comment": text(4096),
    "type": one_of("group"),
}


@routes.post("/cluster/ha/groups", GROUP, needs("/", "Sys.Console"))
async def ha_add_group(call: Call) -> Any:
    if call.cluster.release.since(9):
        die("cannot create group: ha groups have been migrated to rules")
    name = call.params["group"]
    if name in call.cluster.ha_groups:
        die(f"ha group ID '{name}' already defined")
    call.cluster.ha_groups[name] = {**_told(call, GROUP), "type": "group"}


def _told(call: Call, table: Mapping[str, Any]) -> dict[str, Any]:
    """As the file has them: a flag is a number."""
    given = {name: call.params[name] for name in table if name in call.params}
    return {name: int(value) if isinstance(value, bool) else value for name, value in given.items()}


@routes.get("/cluster/ha/rules", permission=needs("/", "Sys.Audit"), since=(9, 0))
async def ha_rules(call: Call) -> Any:
    return list(call.cluster.ha_rules.values())


RULE = {
    "rule": named("pve-configid", optional=False),
    "type": one_of("node-affinity", "resource-affinity", optional=False),
    "resources": text(optional=False),
    "nodes": text(),
    "strict": boolean(),
    "affinity": one_of("positive", "negative"),
    "disable": boolean(),
    "comment": text(4096),
}


@routes.post("/cluster/ha/rules", RULE, needs("/", "Sys.Console"), since=(9, 0))
async def ha_add_rule(call: Call) -> Any:
    name = call.params["rule"]
    if name in call.cluster.ha_rules:
        die(f"HA rule '{name}' already defined")
    managed = {f"vm:{vm.vmid}" for vm in call.cluster.vms.values() if vm.ha_state}
    if strange := set(call.params["resources"].split(",")) - managed:
        die(f"cannot use unmanaged resource(s) {', '.join(sorted(strange))}.")
    call.cluster.ha_rules[name] = _told(call, RULE)
