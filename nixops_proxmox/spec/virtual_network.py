"""A network that machines name instead of a bridge and a VLAN: a bridge of the nodes, or a vnet of PVE's SDN."""

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator
from typing_extensions import override

from nixops_proxmox.spec import values as v
from nixops_proxmox.spec.names import option_name
from nixops_proxmox.spec.resource import Objection, ResourceSpec

if TYPE_CHECKING:
    from nixops_proxmox.spec.machine import MachineSpec

OF_VNETS = ("zone", "nodes", "subnet", "gateway", "dhcp_from", "dhcp_to", "dns", "snat", "isolate_ports")
OF_SUBNETS = ("gateway", "dhcp_from", "dhcp_to", "dns", "snat")


def _subnet(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise ValueError("expected a subnet such as 10.20.0.0/24, with no bits beyond the prefix") from error


Subnet = Annotated[str, AfterValidator(_subnet)]


class VirtualNetwork(ResourceSpec):
    """A network that machines name. Without `vnet` nothing is made: it is another name of a bridge and a VLAN."""

    kind = "network"
    option = "networks"

    bridge: v.Bridge | None = None  # of the nodes; with a vnet: the bridge that its VLAN is on
    vlan: v.Vlan | None = None
    vnet: v.SdnId | None = None  # PVE's name of it
    zone: v.SdnId | None = (
        None  # one that exists, and is not ours; None: the vnet gets one of its own, of the same name
    )
    nodes: Annotated[tuple[v.NodeName, ...], v.Unique] = ()  # of its zone; none: all
    subnet: Subnet | None = None  # of a bridge: only told, for rules of the firewall that name the network
    gateway: v.IpAddress | None = None
    dhcp_from: v.IpAddress | None = None
    dhcp_to: v.IpAddress | None = None
    dns: v.IpAddress | None = None
    snat: bool = False
    isolate_ports: bool = False

    @property
    @override
    def given_name(self) -> str:
        return self.nic_bridge

    @property
    @override
    def identity(self) -> tuple[str, ...]:
        if self.vnet is None:
            return (self.profile, "", self.name)
        return (self.profile, self.vnet, self.zone or "", "" if self.zone else self.bridge or "", self.subnet or "")

    @property
    def zone_id(self) -> str:
        return self.zone or self.vnet or ""

    @property
    def nic_bridge(self) -> str:
        """What a NIC is connected to."""
        return self.vnet or self.bridge or ""

    @property
    def nic_tag(self) -> int | None:
        return self.vlan if self.vnet is None else None

    @property
    def has_dhcp(self) -> bool:
        return self.dhcp_from is not None

    @classmethod
    @override
    def references(cls, machine: "MachineSpec") -> Mapping[str, str]:
        return {f"network[{place}].network": nic.network for place, nic in enumerate(machine.network) if nic.network}

    @override
    def objections(self, machines: "Sequence[MachineSpec]", others: "Sequence[ResourceSpec]") -> Iterable[Objection]:
        del others
        yield from self._about_kind()
        if self.vnet is not None:
            yield from self._about_vnet()
            yield from self._about_subnet()
        for machine in machines:
            if self.is_wanted_by(machine):
                yield from self._about_machine(machine)

    def _about_machine(self, machine: "MachineSpec") -> Iterable[Objection]:
        if machine.profile != self.profile:
            text = f"{machine.name} names it, and is on the hypervisor {machine.profile}, not {self.profile}"
            yield Objection("profile", text)
        wanted = {machine.node} if machine.node else set(machine.placement.nodes)
        if self.nodes and wanted and not wanted & set(self.nodes):
            yield Objection("nodes", f"{machine.name} names it, and may be on {', '.join(sorted(wanted))} only")

    def _about_kind(self) -> Iterable[Objection]:
        if self.vnet is None and self.bridge is None:
            yield Objection("bridge", "must be set, or vnet: the machines' NICs need something to be connected to")
        for field in OF_VNETS if self.vnet is None else ():
            if getattr(self, field) and field != "subnet":
                yield Objection(field, "has no meaning without vnet: of a bridge, nothing is made")

    def _about_vnet(self) -> Iterable[Objection]:
        if self.bridge is not None and self.vlan is None:
            yield Objection("vlan", f"must be set: the vnet is a VLAN of {self.bridge}")
        if self.bridge is None and self.vlan is not None and self.zone is None:
            yield Objection("vlan", "has no meaning without bridge: a zone without one has no VLANs")
        for field in ("bridge", "nodes") if self.zone else ():
            if getattr(self, field):
                yield Objection(field, f"has no meaning with zone: the zone {self.zone} has its own")

    def _about_subnet(self) -> Iterable[Objection]:
        if self.subnet is None:
            for field in OF_SUBNETS:
                if getattr(self, field):
                    yield Objection(field, "has no meaning without subnet")
            return
        net = ip_network(self.subnet)
        for field in ("gateway", "dhcp_from", "dhcp_to"):
            address = getattr(self, field)
            if address is not None and ip_address(address) not in net:
                yield Objection(field, f"{address} is not in {self.subnet}")
        yield from self._about_dhcp()

    def _about_dhcp(self) -> Iterable[Objection]:
        first, last = self.dhcp_from, self.dhcp_to
        if first is None and last is None:
            return
        for field in ("dhcp_from", "dhcp_to", "gateway"):
            if getattr(self, field) is None:
                yield Objection(
                    field, f"must be set: PVE serves DHCP only with gateway, dhcpFrom and {option_name('dhcp_to')}"
                )
        if first and last and int(ip_address(first)) > int(ip_address(last)):
            yield Objection("dhcp_to", f"expected an address behind {first}, got {last}")
        if self.bridge is not None:
            text = "PVE serves DHCP in simple zones only, and with a bridge this is a VLAN"
            yield Objection("dhcp_from", text, hint="leave bridge and vlan out, or let a router serve DHCP there")


def connected(machine: "MachineSpec", resources: "Sequence[ResourceSpec]") -> "MachineSpec":
    """The machine with the bridge and the VLAN of each network that a NIC of it names."""
    known = {spec.name: spec for spec in resources if isinstance(spec, VirtualNetwork)}
    named = [known.get(nic.network or "") for nic in machine.network]
    if not any(named):
        return machine
    nics = tuple(
        nic if network is None else nic.model_copy(update={"bridge": network.nic_bridge, "tag": network.nic_tag})
        for nic, network in zip(machine.network, named, strict=True)
    )
    placement = machine.placement.model_copy(update={"nodes": _nodes(machine, [one for one in named if one])})
    return machine.model_copy(update={"network": nics, "placement": placement})


def _nodes(machine: "MachineSpec", networks: "Sequence[VirtualNetwork]") -> tuple[str, ...]:
    """Where the machine may be: a vnet is only on the nodes of its zone."""
    allowed = machine.placement.nodes
    for nodes in (network.nodes for network in networks if network.nodes):
        allowed = tuple(node for node in allowed if node in nodes) if allowed else nodes
    return allowed
