"""/cluster/options: datacenter.cfg. It keeps the text that was given and shows the objects that PVE makes of it."""

import re
from typing import Any

from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.refusals import die
from nixops_proxmox.lab.schema import properties
from nixops_proxmox.lab.schema.formats import split_list
from nixops_proxmox.lab.schema.types import Grammar, boolean, integer, matching, named, number, one_of, text

routes = Routes()
LIMITS: Grammar = {name: number(0) for name in ("clone", "default", "migration", "move", "restore")}
OBJECTS: dict[str, Grammar] = {
    "crs": {"ha": one_of("basic", "static"), "ha-rebalance-on-start": boolean()},
    "ha": {"shutdown_policy": one_of("freeze", "failover", "conditional", "migrate", optional=False)},
    "migration": {"type": one_of("secure", "insecure", default_key=True, optional=False), "network": text()},
    "next-id": {"lower": integer(), "upper": integer()},
    "notify": {
        "fencing": one_of("always", "never"),
        "package-updates": one_of("auto", "always", "never"),
        "replication": one_of("always", "never"),
        "target-fencing": text(),
        "target-package-updates": text(),
        "target-replication": text(),
    },
    "tag-style": {
        "case-sensitive": boolean(),
        "color-map": text(),
        "ordering": one_of("config", "alphabetical"),
        "shape": one_of("full", "circle", "dense", "none"),
    },
    "u2f": {"appid": text(), "origin": text()},
    "user-tag-access": {"user-allow": one_of("none", "list", "existing", "free"), "user-allow-list": text()},
    "webauthn": {"allow-subdomains": boolean(), "id": text(), "origin": text(), "rp": text()},
}
OPTIONS = {
    **{name: named(grammar) for name, grammar in OBJECTS.items()},
    "bwlimit": named(LIMITS),
    "console": one_of("applet", "vv", "html5", "xtermjs"),
    "description": text(65536),
    "email_from": text(),
    "fencing": one_of("watchdog", "hardware", "both"),
    "http_proxy": matching(r"http://.*"),
    "keyboard": text(),
    "language": text(),
    "mac_prefix": text(),
    "max_workers": integer(1),
    "registered-tags": text(),
}


def _shown(key: str, value: Any) -> Any:
    if key == "registered-tags":
        return str(value).split(";")
    if key not in OBJECTS:
        return value
    found: dict[str, Any] = dict(properties.parse(OBJECTS[key], str(value)))
    if "user-allow-list" in found:
        found["user-allow-list"] = found["user-allow-list"].split(";")
    return found


@routes.get("/cluster/options")
async def options(call: Call) -> Any:
    cluster = call.cluster
    audits = call.allows("/", "Sys.Audit")
    names = [name for name in cluster.options if audits or name in ("console", "tag-style")]
    shown = {name: _shown(name, cluster.options[name]) for name in names}
    return {**({"description": ""} if audits else {}), **shown, **_allowed_tags(call, all_of_them=audits)}


def _allowed_tags(call: Call, *, all_of_them: bool) -> dict[str, list[str]]:
    if not call.cluster.release.since(8):
        return {}
    tags = {tag for vm in call.cluster.vms.values() for tag in re.split(r"[;,\s]+", vm.config.get("tags", "")) if tag}
    return {"allowed-tags": sorted(tags) if all_of_them else []}


@routes.put("/cluster/options", {**OPTIONS, "delete": named("pve-configid-list")}, needs("/", "Sys.Modify"))
async def set_options(call: Call) -> Any:
    changed = dict(call.cluster.options)
    changed |= {key: value for key, value in call.params.items() if key != "delete"}
    if changed.get("console") == "applet":
        changed["console"] = "html5"
    for key in split_list(call.get("delete", "")):
        changed.pop(key, None)
    bounds = properties.parse(OBJECTS["next-id"], str(changed.get("next-id", "")))
    lower, upper = int(bounds.get("lower", 100)), int(bounds.get("upper", 1_000_000))
    if lower > upper:
        die(f"lower ({lower}) <= upper ({upper}) boundary rule broken")
    call.cluster.options = changed
