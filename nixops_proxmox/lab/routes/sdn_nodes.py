"""/nodes/{node}/sdn: what of SDN is real on a node. And /cluster/sdn/ipams: who has which address."""

from typing import Any

from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.ipam import cidr_of, find_subnet
from nixops_proxmox.lab.refusals import Refused, die
from nixops_proxmox.lab.routes.sdn import CORE, SEES
from nixops_proxmox.lab.schema.types import integer, named, one_of, text

routes = Routes()
IP = {
    "zone": text(optional=False),
    "mac": named("mac-addr", optional=False),
    "ip": named("address", optional=False),
}
IPS = "/cluster/sdn/vnets/{vnet}/ips"
HOLD = needs("/sdn/zones/{zone}/{vnet}", "SDN.Allocate")


@routes.get("/nodes/{node}/sdn/zones")
async def zones(call: Call) -> Any:
    sdn = call.cluster.sdn
    return [
        {"zone": name, "status": sdn.status(call.node)}
        for name, zone in sorted(sdn.running["zones"].items())
        if sdn.has_node(zone, call.node)
    ]


@routes.get("/nodes/{node}/sdn/zones/{zone}/content", permission=needs("/sdn/zones/{zone}", "SDN.Audit"))
async def content(call: Call) -> Any:
    sdn, status = call.cluster.sdn, call.cluster.sdn.status(call.node)
    if not sdn.has_node(sdn.running["zones"].get(call.params["zone"], {}), call.node):
        return []
    message = "" if status == "available" else "local sdn network configuration is too old, please reload"
    return [
        {"vnet": name, "status": status, **({"statusmsg": message} if message else {})}
        for name in sdn.vnets_of(call.params["zone"], sdn.running)
    ]


@routes.get("/cluster/sdn/ipams", {"type": one_of("netbox", "phpipam", "pve")})
async def ipams(_: Call) -> Any:
    return [{"ipam": "pve", "type": "pve"}]


@routes.get("/cluster/sdn/ipams/{ipam}/status", since=CORE)
async def status(call: Call) -> Any:
    if call.params["ipam"] != "pve":
        die("Currently only PVE IPAM is supported!")
    sdn = call.cluster.sdn
    found = []
    for zone, cidr, ip, entry in call.cluster.ipam.entries():
        section = sdn.configured["zones"].get(zone, {})
        if section.get("ipam") != "pve" or not section.get("dhcp"):
            continue
        vnet = next(
            (one["vnet"] for name, one in sdn.running["subnets"].items() if name.startswith(f"{zone}-")
             and cidr_of(name) == cidr), "",
        )  # fmt: skip
        if vnet and call.allows(f"/sdn/zones/{zone}/{vnet}", *SEES, any_of=True):
            found.append({**entry, "zone": zone, "subnet": cidr, "ip": ip, "vnet": vnet})
    return found


@routes.post(IPS, IP, HOLD, since=CORE)
async def add_ip(call: Call) -> Any:
    zone, cidr = find_subnet(call.cluster.sdn, call.params["vnet"], call.params["ip"])
    call.cluster.ipam.add(zone, cidr, call.params["ip"], {"mac": call.params["mac"]})


@routes.put(IPS, {**IP, "vmid": integer(100)}, HOLD, since=CORE)
async def move_ip(call: Call) -> Any:
    """The old address is freed first, and taken again if the new one cannot be had."""
    ipam, ip, mac = call.cluster.ipam, call.params["ip"], call.params["mac"].upper()
    zone, cidr = find_subnet(call.cluster.sdn, call.params["vnet"], ip)
    entry = {"mac": mac, **({"vmid": call.params["vmid"]} if "vmid" in call.params else {})}
    old = [one for one in ipam.of_mac(zone, mac) if (":" in one[1]) == (":" in ip)]
    for its, address in old:
        ipam.remove(zone, its, address)
    try:
        ipam.add(zone, cidr, ip, entry)
    except Refused:
        for its, address in old:
            ipam.add(zone, its, address, entry)
        raise


@routes.delete(IPS, IP, HOLD, since=CORE)
async def remove_ip(call: Call) -> Any:
    zone, cidr = find_subnet(call.cluster.sdn, call.params["vnet"], call.params["ip"])
    call.cluster.ipam.remove(zone, cidr, call.params["ip"])
