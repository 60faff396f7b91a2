"""/…/firewall: a VM's options and rules are kept and shown; nothing is filtered."""

import hashlib
from typing import Any

from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.refusals import die
from nixops_proxmox.lab.schema.formats import split_list
from nixops_proxmox.lab.schema.types import boolean, integer, named, one_of, text

routes = Routes()
BASE = "/nodes/{node}/qemu/{vmid}"
AUDIT, MODIFY = needs("/vms/{vmid}", "VM.Audit"), needs("/vms/{vmid}", "VM.Config.Network")

FIREWALL = {
    "enable": boolean(),
    "dhcp": boolean(),
    "ipfilter": boolean(),
    "macfilter": boolean(),
    "ndp": boolean(),
    "radv": boolean(),
    "policy_in": one_of("ACCEPT", "REJECT", "DROP"),
    "policy_out": one_of("ACCEPT", "REJECT", "DROP"),
    "log_level_in": text(),
    "log_level_out": text(),
    "delete": text(),
    "digest": text(),
}
RULE = {
    "type": one_of("in", "out", "forward", "group", optional=False),
    "action": text(20, optional=False),
    "enable": integer(0),
    "comment": text(),
    "proto": text(),
    "dport": text(),
    "sport": text(),
    "source": text(),
    "dest": text(),
    "iface": text(),
    "macro": text(),
    "log": text(),
    "digest": text(64),
    "icmp-type": text(),
}


def _digest(value: object) -> str:
    return hashlib.sha1(repr(value).encode() if value else b"", usedforsecurity=False).hexdigest()


def _check_digest(call: Call, value: object) -> None:
    if call.get("digest", _digest(value)) != _digest(value):
        die("detected modified configuration - file changed by other user? Try again.")


@routes.get(f"{BASE}/firewall/options", permission=AUDIT)
async def firewall(call: Call) -> Any:
    """The options, also of a VM that does not exist: there is no file, so there are none."""
    vm = call.cluster.vms.get(call.vmid)
    options = vm.firewall if vm else {}
    return {**options, "digest": _digest(options)}


@routes.put(f"{BASE}/firewall/options", FIREWALL, MODIFY)
async def set_firewall(call: Call) -> Any:
    given = {
        key: int(value) if isinstance(value, bool) else value
        for key, value in call.params.items()
        if key not in ("node", "vmid", "digest", "delete")
    }
    _check_digest(call, call.vm.firewall)
    for key in split_list(call.get("delete", "")):
        call.vm.firewall.pop(key, None)
    call.vm.firewall |= given


@routes.get(f"{BASE}/firewall/rules", permission=AUDIT)
async def rules(call: Call) -> Any:
    digest = _digest(call.vm.rules)
    return [{"pos": position, **rule, "digest": digest} for position, rule in enumerate(call.vm.rules)]


@routes.post(f"{BASE}/firewall/rules", {**RULE, "pos": integer(0)}, MODIFY)
async def add_rule(call: Call) -> Any:
    """In front, unless `pos` says where."""
    call.vm.rules.insert(call.get("pos", 0), _rule(call))


@routes.get(f"{BASE}/firewall/rules/{{pos}}", permission=AUDIT)
async def rule(call: Call) -> Any:
    position = _position(call)
    return {"pos": position, **call.vm.rules[position], "digest": _digest(call.vm.rules)}


@routes.put(
    f"{BASE}/firewall/rules/{{pos}}",
    {
        **RULE,
        "type": one_of("in", "out", "forward", "group"),
        "action": text(20),
        "moveto": integer(0),
        "delete": named("pve-configid-list"),
    },
    MODIFY,
)
async def change_rule(call: Call) -> Any:
    """`moveto` moves, and then nothing else is changed."""
    _check_digest(call, call.vm.rules)
    position = _position(call)
    if "moveto" in call.params:
        moved = call.vm.rules.pop(position)
        target = call.params["moveto"]
        call.vm.rules.insert(target - 1 if target > position else target, moved)
        return
    found = call.vm.rules[position]
    found |= _rule(call)
    for key in split_list(call.get("delete", "")):
        found.pop(key, None)


@routes.delete(f"{BASE}/firewall/rules/{{pos}}", {"digest": text(64)}, MODIFY)
async def delete_rule(call: Call) -> Any:
    _check_digest(call, call.vm.rules)
    del call.vm.rules[_position(call)]


def _rule(call: Call) -> dict[str, Any]:
    return {key: value for key, value in call.params.items() if key in RULE and key != "digest"}


def _position(call: Call) -> int:
    position = int(call.params["pos"])
    if position >= len(call.vm.rules):
        die(f"no rule at position {position}")
    return position


# The cluster's and the nodes' own: the lab has none, and says so as an empty PVE does.


@routes.get("/cluster/firewall/options", permission=needs("/", "Sys.Audit"))
async def cluster_options(_: Call) -> Any:
    return {"digest": _digest(None)}


@routes.get("/nodes/{node}/firewall/options", permission=needs("/nodes/{node}", "Sys.Audit"))
async def node_options(_: Call) -> Any:
    return {"digest": _digest(None)}


@routes.get("/cluster/firewall/groups")
async def groups(_: Call) -> Any:
    return []


async def _nothing(_: Call) -> Any:
    return []


for _name in ("rules", "aliases", "ipset"):
    routes.get(f"/cluster/firewall/{_name}", permission=needs("/", "Sys.Audit"))(_nothing)
for _name in ("aliases", "ipset"):
    routes.get(f"{BASE}/firewall/{_name}", permission=AUDIT)(_nothing)
routes.get("/nodes/{node}/firewall/rules", permission=needs("/nodes/{node}", "Sys.Audit"))(_nothing)
