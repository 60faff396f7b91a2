"""/cluster/sdn: zones, vnets and subnets that wait until they are applied, and the lock that 9 has for it."""

from collections.abc import Mapping
from typing import Any

from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.ipam import cidr_of, ranges_of
from nixops_proxmox.lab.refusals import die
from nixops_proxmox.lab.schema.formats import split_list
from nixops_proxmox.lab.schema.types import Param, boolean, integer, matching, named, one_of, text
from nixops_proxmox.lab.sdn import Section
from nixops_proxmox.lab.sdn_nodes import interfaces_diff, start_apply

routes = Routes()
STATE = {"pending": boolean(), "running": boolean()}
TYPES = ("evpn", "faucet", "qinq", "simple", "vlan", "vxlan")
CORE = (8, 1)  # before, the packages of SDN were not installed by default
LOCKING = (9, 0)
NAME = {"min_length": 2, "max_length": 8, "optional": False}
ID = r"[a-zA-Z][a-zA-Z0-9]*[a-zA-Z0-9]"
LOCK = {"lock-token": text(since=LOCKING)}
CHANGE = {"delete": named("pve-configid-list"), "digest": text(64), **LOCK}
ALLOCATE = needs("/sdn", "SDN.Allocate")
SEES = ("SDN.Audit", "SDN.Allocate")

ZONE = {
    "bridge": text(),
    "dhcp": one_of("dnsmasq"),
    "dns": text(),
    "dnszone": text(),
    "ipam": text(),
    "mtu": integer(),
    "nodes": text(),
    "peers": text(),
    "reversedns": text(),
    "tag": integer(0),
    "vlan-protocol": one_of("802.1q", "802.1ad"),
    "vxlan-port": integer(1, 65536),
}
ALLOWED = {
    "simple": {"nodes", "mtu", "dns", "reversedns", "dnszone", "ipam", "dhcp"},
    "vlan": {"nodes", "bridge", "mtu", "dns", "reversedns", "dnszone", "ipam"},
    "qinq": {"nodes", "bridge", "tag", "vlan-protocol", "mtu", "dns", "reversedns", "dnszone", "ipam"},
    "vxlan": {"nodes", "peers", "vxlan-port", "mtu", "dns", "reversedns", "dnszone", "ipam"},
}
NEEDED = {"vlan": ("bridge",), "qinq": ("bridge", "tag"), "vxlan": ("peers",)}
VNET = {
    "alias": matching(r"[\(\)-_.\w\s]{0,256}"),  # from ) to _: PVE's own words
    "isolate-ports": boolean(since=(8, 4)),
    "tag": integer(1, 16777215),
    "vlanaware": boolean(),
}
SUBNET = {
    "dhcp-dns-server": named("address"),
    "dhcp-range": Param("array", items=text()),
    "dnszoneprefix": named("dns-name"),
    "gateway": named("address"),
    "snat": boolean(),
}


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def _values(call: Call, *but: str) -> Section:
    """What the call sets."""
    gone = {"digest", "delete", "lock-token", "pending", "running", *but}
    return {key: _plain(value) for key, value in call.params.items() if key not in gone}


def _check_digest(call: Call, kind: str) -> None:
    if call.get("digest") not in (None, call.cluster.sdn.digest(kind)):
        die("detected modified configuration - file changed by other user? Try again.")


def _lock(call: Call, failed: str) -> None:
    call.cluster.check_quorum()
    call.cluster.sdn.check_lock(call.get("lock-token"), failed)


def _chosen(call: Call, kind: str) -> dict[str, Section]:
    """What is configured, what runs, or both compared."""
    sdn = call.cluster.sdn
    if call.get("pending"):
        return sdn.pending(kind)
    return sdn.running[kind] if call.get("running") else sdn.configured[kind]


def _shown(call: Call, kind: str, name: str, section: Mapping[str, Any]) -> Section:
    shown = {**section, kind.removesuffix("s"): name, "digest": call.cluster.sdn.digest(kind)}
    return _subnet(name, shown) if kind == "subnets" else shown


def _subnet(name: str, shown: Section) -> Section:
    zone, network, mask = name.split("-")
    return {
        **shown,
        "id": name,
        "cidr": cidr_of(name),
        "zone": zone,
        "network": network,
        "mask": mask,
        "type": "subnet",
        "dhcp-range": ranges_of(shown),
    }


@routes.get("/cluster/sdn")
async def index(_: Call) -> Any:
    return [{"id": name} for name in ("vnets", "zones", "controllers", "ipams", "dns")]


# Zones.


@routes.get("/cluster/sdn/zones", {**STATE, "type": one_of(*TYPES)})
async def zones(call: Call) -> Any:
    return [
        _shown(call, "zones", name, section)
        for name, section in _chosen(call, "zones").items()
        if call.allows(f"/sdn/zones/{name}", *SEES, any_of=True) and call.get("type") in (None, section.get("type"))
    ]


@routes.get("/cluster/sdn/zones/{zone}", STATE, needs("/sdn/zones/{zone}", "SDN.Allocate"))
async def zone(call: Call) -> Any:
    found = _chosen(call, "zones").get(call.params["zone"])
    return _shown(call, "zones", call.params["zone"], found or call.cluster.sdn.get("zones", call.params["zone"]))


def _check_zone(kind: str, values: Mapping[str, Any], *, whole: bool) -> None:
    for key in values:
        if key != "type" and key not in ALLOWED.get(kind, set()):
            die(f"unexpected property '{key}'")
    for key in NEEDED.get(kind, ()):
        if whole and key not in values:
            die(f"missing value for required option '{key}'")


@routes.post(
    "/cluster/sdn/zones",
    {**ZONE, **LOCK, "zone": matching(ID, **NAME), "type": one_of(*TYPES, optional=False)},
    needs("/sdn/zones", "SDN.Allocate"),
    since=CORE,
)
async def add_zone(call: Call) -> Any:
    values = _values(call, "zone")
    _check_zone(values["type"], values, whole=True)
    _lock(call, "create sdn zone object failed")
    call.cluster.sdn.add("zones", call.params["zone"], values)


@routes.put("/cluster/sdn/zones/{zone}", {**ZONE, **CHANGE}, needs("/sdn/zones/{zone}", "SDN.Allocate"), since=CORE)
async def change_zone(call: Call) -> Any:
    sdn, name = call.cluster.sdn, call.params["zone"]
    _lock(call, "update sdn zone object failed")
    _check_digest(call, "zones")
    values = _values(call, "zone")
    _check_zone(sdn.get("zones", name)["type"], values, whole=False)
    sdn.change("zones", name, values, split_list(call.get("delete", "")))


@routes.delete("/cluster/sdn/zones/{zone}", LOCK, needs("/sdn/zones/{zone}", "SDN.Allocate"), since=CORE)
async def delete_zone(call: Call) -> Any:
    _lock(call, "delete sdn zone object failed")
    call.cluster.sdn.remove_zone(call.params["zone"])


# Vnets.


def _vnet_path(call: Call, name: str) -> str:
    """By what is configured, as PVE looks (check_vnet_access)."""
    return f"/sdn/zones/{call.cluster.sdn.get('vnets', name)['zone']}/{name}"


@routes.get("/cluster/sdn/vnets", STATE)
async def vnets(call: Call) -> Any:
    """The right to use a vnet is not enough to be told of it here."""
    found = []
    for name, section in _chosen(call, "vnets").items():
        zone = section.get("zone") or section.get("pending", {}).get("zone", "")
        if call.allows(f"/sdn/zones/{zone}/{name}", *SEES, any_of=True):
            found.append(_shown(call, "vnets", name, section))
    return found


@routes.get("/cluster/sdn/vnets/{vnet}", STATE)
async def vnet(call: Call) -> Any:
    name = call.params["vnet"]
    call.require(_vnet_path(call, name), *SEES, any_of=True)
    return _shown(call, "vnets", name, _chosen(call, "vnets").get(name) or call.cluster.sdn.get("vnets", name))


@routes.post(
    "/cluster/sdn/vnets",
    {**VNET, **LOCK, "vnet": matching(ID, **NAME), "type": one_of("vnet"), "zone": text(optional=False)},
    needs("/sdn/zones/{zone}", "SDN.Allocate"),
    since=CORE,
)
async def add_vnet(call: Call) -> Any:
    _lock(call, "create sdn vnet object failed")
    call.cluster.sdn.add("vnets", call.params["vnet"], {"type": "vnet", **_values(call, "vnet")})


@routes.put("/cluster/sdn/vnets/{vnet}", {**VNET, **CHANGE, "zone": text()}, since=CORE)
async def change_vnet(call: Call) -> Any:
    call.require(_vnet_path(call, call.params["vnet"]), "SDN.Allocate")
    _lock(call, "update sdn vnet object failed")
    _check_digest(call, "vnets")
    call.cluster.sdn.change("vnets", call.params["vnet"], _values(call, "vnet"), split_list(call.get("delete", "")))


@routes.delete("/cluster/sdn/vnets/{vnet}", LOCK, since=CORE)
async def delete_vnet(call: Call) -> Any:
    call.require(_vnet_path(call, call.params["vnet"]), "SDN.Allocate")
    _lock(call, "delete sdn vnet object failed")
    call.cluster.sdn.remove_vnet(call.params["vnet"])


# Subnets.

SUBNETS = "/cluster/sdn/vnets/{vnet}/subnets"


def _subnet_id(call: Call) -> str:
    """The path takes the id; on creation it is the CIDR."""
    return str(call.params["subnet"])


@routes.get(SUBNETS, STATE)
async def subnets(call: Call) -> Any:
    call.require(_vnet_path(call, call.params["vnet"]), *SEES, any_of=True)
    return [
        _shown(call, "subnets", name, section)
        for name, section in _chosen(call, "subnets").items()
        if section.get("vnet") == call.params["vnet"]
    ]


@routes.get(f"{SUBNETS}/{{subnet}}", STATE)
async def subnet(call: Call) -> Any:
    call.require(_vnet_path(call, call.params["vnet"]), *SEES, any_of=True)
    name = _subnet_id(call)
    return _shown(call, "subnets", name, _chosen(call, "subnets").get(name) or call.cluster.sdn.get("subnets", name))


@routes.post(
    SUBNETS,
    {**SUBNET, **LOCK, "subnet": text(optional=False), "type": one_of("subnet", optional=False)},
    since=CORE,
)
async def add_subnet(call: Call) -> Any:
    sdn, vnet = call.cluster.sdn, call.params["vnet"]
    call.require(_vnet_path(call, vnet), "SDN.Allocate")
    _lock(call, "create sdn subnet object failed")
    zone = sdn.configured["vnets"][vnet]["zone"]
    name = f"{zone}-{_subnet_id(call).replace('/', '-')}"
    section = {"type": "subnet", **_values(call, "subnet")}
    sdn.add("subnets", name, section)
    if sdn.configured["zones"].get(zone, {}).get("ipam"):
        call.cluster.ipam.follow(zone, name, section)


@routes.put(f"{SUBNETS}/{{subnet}}", {**SUBNET, **CHANGE}, since=CORE)
async def change_subnet(call: Call) -> Any:
    sdn, vnet, name = call.cluster.sdn, call.params["vnet"], _subnet_id(call)
    call.require(_vnet_path(call, vnet), "SDN.Allocate")
    _lock(call, "update sdn subnet object failed")
    _check_digest(call, "subnets")
    before = dict(sdn.get("subnets", name))
    sdn.change("subnets", name, _values(call, "subnet"), split_list(call.get("delete", "")))
    zone = sdn.configured["vnets"][vnet]["zone"]
    if sdn.configured["zones"].get(zone, {}).get("ipam"):
        call.cluster.ipam.follow(zone, name, sdn.configured["subnets"][name], before)


@routes.delete(f"{SUBNETS}/{{subnet}}", LOCK, since=CORE)
async def delete_subnet(call: Call) -> Any:
    sdn, vnet, name = call.cluster.sdn, call.params["vnet"], _subnet_id(call)
    call.require(_vnet_path(call, vnet), "SDN.Allocate")
    _lock(call, "delete sdn subnet object failed")
    sdn.get("subnets", name)
    zone = sdn.configured["vnets"][vnet]["zone"]
    if sdn.configured["zones"].get(zone, {}).get("ipam"):
        call.cluster.ipam.remove_subnet(zone, cidr_of(name))
    del sdn.configured["subnets"][name]


# Applying.


@routes.put("/cluster/sdn", {**LOCK, "release-lock": boolean(since=LOCKING)}, ALLOCATE, since=CORE)
async def apply(call: Call) -> Any:
    """The task ends when it has started a reload on every node, whatever becomes of those."""
    _lock(call, "could not commit SDN config")
    call.cluster.sdn.commit()
    if call.get("lock-token") and call.get("release-lock", True):
        call.cluster.sdn.lock = ""
    return start_apply(call.cluster, call.entry, call.auth)


@routes.post("/cluster/sdn/lock", {"allow-pending": boolean()}, ALLOCATE, since=LOCKING)
async def lock(call: Call) -> Any:
    return call.cluster.sdn.take_lock(allow_pending=call.get("allow-pending", False))


@routes.delete("/cluster/sdn/lock", {**LOCK, "force": boolean()}, ALLOCATE, since=LOCKING)
async def unlock(call: Call) -> Any:
    if not call.get("force"):
        _lock(call, "could not release lock")
    call.cluster.sdn.lock = ""


@routes.post("/cluster/sdn/rollback", {**LOCK, "release-lock": boolean()}, ALLOCATE, since=LOCKING)
async def rollback(call: Call) -> Any:
    _lock(call, "could not rollback SDN configuration")
    call.cluster.sdn.rollback()
    if call.get("lock-token") and call.get("release-lock", True):
        call.cluster.sdn.lock = ""


@routes.get(
    "/cluster/sdn/dry-run", {"node": named("pve-node", optional=False)}, needs("/nodes/{node}", "Sys.Audit"),
    since=(9, 1),
)  # fmt: skip
async def dry_run(call: Call) -> Any:
    return {"frr-diff": None, "interfaces-diff": interfaces_diff(call.cluster.sdn, call.params["node"])}
