"""/cluster/firewall, and the firewall of a node and of a VM: options, rules, security groups."""

from collections.abc import Callable
from typing import Any

from nixops_proxmox.lab.call import Call, Routes, anyone, needs
from nixops_proxmox.lab.firewall import FORWARDS, PREFERRED, Item, check_digest, digest_of, moved, verify, with_digest
from nixops_proxmox.lab.refusals import bad_parameter, die
from nixops_proxmox.lab.routes.firewall_levels import CLUSTER, CONTAINER, DIGEST, GROUP, NODE, RULE, VM, WITH, Level
from nixops_proxmox.lab.routes.firewall_names import put_named
from nixops_proxmox.lab.schema.formats import split_list
from nixops_proxmox.lab.schema.types import integer, named, one_of, text

routes = Routes()


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


# Options.


def _register_index(level: Level, *names: str) -> None:
    async def index(_: Call) -> Any:
        return [{"name": name} for name in names]

    routes.get(level.base)(index)


def _register_options(level: Level) -> None:
    async def options(call: Call) -> Any:
        found = level.file(call).options
        return {**found, "digest": digest_of([found])}

    async def set_options(call: Call) -> Any:
        found = level.file(call).options
        check_digest(call.get("digest"), [found])
        for key in split_list(call.get("delete", "")):
            if key not in level.options:
                raise bad_parameter("delete", f"no such option '{key}'")
            found.pop(key, None)
        found |= {key: _plain(call.params[key]) for key in level.options if key in call.params}
        if level.env == "cluster" and call.get("enable", 0) > 1:
            found["enable"] = int(call.cluster.clock.time())

    routes.get(f"{level.base}/options", permission=level.read)(options)
    gone = {"delete": named("pve-configid-list"), "digest": DIGEST}
    routes.put(f"{level.base}/options", {**level.options, **gone}, level.write)(set_options)


# Rules.


def _given(call: Call, rule: Item) -> Item:
    """An empty value takes away."""
    found = {**rule, **{key: call.params[key] for key in RULE if key in call.params}}
    return {key: value for key, value in found.items() if value not in ("", "-")}


def _check_forward(call: Call) -> None:
    if call.get("type") == "forward" and not call.cluster.release.since(*FORWARDS):
        raise bad_parameter("type", "value 'forward' does not have a value in the enumeration 'in, out, group'")


def _rules_of(level: Level) -> Callable[[Call], list[Item]]:
    return lambda call: level.file(call).rules


def _register_rules(base: str, env: str, rules_of: Callable[[Call], list[Item]], level: Level) -> None:
    def position_in(call: Call, found: list[Item]) -> int:
        position = int(call.params["pos"])
        return position if position < len(found) else die(f"no rule at position {position}")

    async def rules(call: Call) -> Any:
        return [{**rule, "pos": position} for position, rule in enumerate(with_digest(rules_of(call)))]

    async def rule(call: Call) -> Any:
        found = rules_of(call)
        position = position_in(call, found)
        return {**with_digest(found)[position], "pos": position}

    async def add_rule(call: Call) -> Any:
        """Always in front: PVE takes `pos`, and does not look at it."""
        _check_forward(call)
        found = rules_of(call)
        made = _given(call, {"enable": 0})
        verify(made, env, level.file(call), call.cluster.firewall)
        found.insert(0, made)

    async def change_rule(call: Call) -> Any:
        """`moveto` moves, and then nothing else is changed."""
        _check_forward(call)
        found = rules_of(call)
        check_digest(call.get("digest"), found)
        position = position_in(call, found)
        if call.get("moveto", position) != position:
            found[:] = moved(found, position, call.params["moveto"])
            return
        changed = _given(call, found[position])
        for key in split_list(call.get("delete", "")):
            if key not in {**RULE, **WITH}:
                raise bad_parameter("delete", f"no such property ('{key}')")
            if key in ("type", "action"):
                raise bad_parameter("delete", f"unable to delete required property '{key}'")
            changed.pop(key, None)
        verify(changed, env, level.file(call), call.cluster.firewall)
        found[position] = changed

    async def delete_rule(call: Call) -> Any:
        found = rules_of(call)
        check_digest(call.get("digest"), found)
        del found[position_in(call, found)]

    needed = {**RULE, "type": RULE["type"].required, "action": RULE["action"].required}
    change = {"moveto": integer(0), "delete": named("pve-configid-list"), "digest": DIGEST}
    routes.get(base, permission=level.read)(rules)
    routes.post(base, {**needed, **WITH}, level.write)(add_rule)
    routes.get(f"{base}/{{pos}}", permission=level.read)(rule)
    routes.put(f"{base}/{{pos}}", {**RULE, **change}, level.write)(change_rule)
    routes.delete(f"{base}/{{pos}}", {"digest": DIGEST}, level.write)(delete_rule)


# Security groups: the cluster's alone.

GROUPS = "/cluster/firewall/groups"


def _group(call: Call) -> list[Item]:
    found = call.cluster.firewall.groups.get(call.params["group"])
    return found if found is not None else die(f"no such security group '{call.params['group']}'")


@routes.get(GROUPS, permission=anyone)
async def groups(call: Call) -> Any:
    return with_digest(call.cluster.firewall.group_list())


@routes.post(
    GROUPS, {"group": GROUP.required, "comment": text(), "rename": GROUP, "digest": DIGEST}, needs("/", "Sys.Modify")
)
async def add_group(call: Call) -> Any:
    """With `rename`: another name or comment for one that is there; rules that name it follow."""
    cluster, found = call.cluster, call.cluster.firewall
    put_named(call, "group", "Security group", found.groups, found.group_comments, found.group_list())
    for file in (found, *cluster.node_firewalls.values(), *cluster.vm_firewalls.values()):
        for rule in file.rules:
            if (rule["type"], rule["action"]) == ("group", call.get("rename")):
                rule["action"] = call.params["group"]


@routes.delete(f"{GROUPS}/{{group}}", permission=needs("/", "Sys.Modify"))
async def delete_group(call: Call) -> Any:
    """Also one that rules name: only rules in it keep it."""
    if _group(call):
        die(f"Security group '{call.params['group']}' is not empty")
    del call.cluster.firewall.groups[call.params["group"]]
    call.cluster.firewall.group_comments.pop(call.params["group"], None)


# References and macros.


async def _cluster_refs(call: Call) -> Any:
    return _refs(call, call.cluster.firewall.refs("dc", call.get("type")))


async def _vm_refs(call: Call) -> Any:
    found, kind = VM.file(call), call.get("type")
    return _refs(call, [*call.cluster.firewall.refs("dc", kind), *found.refs("guest", kind)])


def _refs(call: Call, found: list[Item]) -> list[Item]:
    """Before 8 there are no scopes."""
    if call.cluster.release.since(8):
        return found
    return [{key: value for key, value in one.items() if key != "scope"} for one in found]


@routes.get(f"{CLUSTER.base}/macros")
async def macros(_: Call) -> Any:
    return [{"macro": name, "descr": name} for name in sorted(PREFERRED.values())]


KIND = {"type": one_of("alias", "ipset")}
routes.get(f"{CLUSTER.base}/refs", KIND, CLUSTER.read)(_cluster_refs)
for _guest in (VM, CONTAINER):
    routes.get(f"{_guest.base}/refs", KIND, _guest.read)(_vm_refs)
_register_index(CLUSTER, "aliases", "rules", "options", "groups", "ipset", "macros", "refs")
_register_index(NODE, "rules", "options", "log")
_register_index(VM, "rules", "aliases", "ipset", "refs", "options")
_register_index(CONTAINER, "rules", "aliases", "ipset", "refs", "options")
for _level in (CLUSTER, NODE, VM, CONTAINER):
    _register_options(_level)
    _register_rules(f"{_level.base}/rules", _level.env, _rules_of(_level), _level)
_register_rules(f"{GROUPS}/{{group}}", "group", _group, CLUSTER)
