"""A tenant: a network of its own, and rules that keep the others out. It is short for a network and for firewalls."""

from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from itertools import combinations

from nixops_proxmox.spec import values as v
from nixops_proxmox.spec.firewall import MachineFirewall, Rule, RuleAddress
from nixops_proxmox.spec.machine import MachineSpec
from nixops_proxmox.spec.resource import ResourceSpec
from nixops_proxmox.spec.tree import Mistakes
from nixops_proxmox.spec.virtual_network import Subnet, VirtualNetwork

TENANTS = "resources.tenants"


class TenantSpec(ResourceSpec):
    """One of `resources.tenants`. The fields of its network are those of `resources.networks`."""

    kind = "tenant"  # of no kind of its own: it is taken apart when the network is parsed
    option = "tenants"

    bridge: v.Bridge | None = None
    vlan: v.Vlan | None = None
    vnet: v.SdnId | None = None
    zone: v.SdnId | None = None
    nodes: tuple[v.NodeName, ...] = ()
    subnet: Subnet
    gateway: v.IpAddress | None = None
    dhcp_from: v.IpAddress | None = None
    dhcp_to: v.IpAddress | None = None
    dns: v.IpAddress | None = None
    snat: bool = False
    admins: tuple[RuleAddress, ...] = ()  # who may log in to its machines, beside its own
    open: tuple[Rule, ...] = ()  # what others may reach on its machines

    @property
    def network(self) -> VirtualNetwork:
        fields = {name: getattr(self, name) for name in VirtualNetwork.model_fields if hasattr(self, name)}
        return VirtualNetwork.model_validate(fields)

    def has(self, machine: MachineSpec) -> bool:
        """Is it a machine of this tenant?"""
        return any(nic.network == self.name for nic in machine.network)

    def rules(self, others: "Sequence[TenantSpec]", port: int) -> Iterator[Rule]:
        """The rules of each of its machines. `others`: the tenants that it must not see."""
        if others:
            names = tuple(f"network:{other.name}" for other in others)
            yield Rule(direction="out", action="DROP", to=names, comment="other tenants")
            yield Rule(action="DROP", sources=names, comment="other tenants")
        yield Rule(sources=(f"network:{self.name}",), comment=f"tenant {self.name}")
        if self.admins:
            yield Rule(proto="tcp", port=str(port), sources=self.admins, comment="who may log in")
        yield from self.open


def with_tenants(
    resources: list[ResourceSpec], tenants: Sequence[TenantSpec], machines: Sequence[MachineSpec], mistakes: Mistakes
) -> list[ResourceSpec]:
    """All resources, with the networks and the firewalls that tenants stand for. A machine's own rules come first."""
    _check(tenants, resources, machines, mistakes)
    own = {one.name: one for one in resources if isinstance(one, MachineFirewall)}
    made: dict[str, MachineFirewall] = {}
    for machine in machines:
        theirs = [one for one in tenants if one.has(machine)]
        if not theirs:
            continue
        before = own.get(machine.name) or MachineFirewall(name=machine.name, profile=machine.profile)
        rules = [rule for one in theirs for rule in one.rules(_others(one, theirs, tenants), machine.ssh.port)]
        made[machine.name] = before.model_copy(update={"rules": (*before.rules, *rules)})
    kept = [one for one in resources if not (isinstance(one, MachineFirewall) and one.name in made)]
    return [*kept, *(one.network for one in tenants), *made.values()]


def _others(one: TenantSpec, theirs: Sequence[TenantSpec], tenants: Sequence[TenantSpec]) -> list[TenantSpec]:
    """A machine with a NIC in two tenants is between them, and sees both."""
    return [other for other in tenants if other not in theirs and other.profile == one.profile]


def _check(
    tenants: Sequence[TenantSpec],
    resources: Sequence[ResourceSpec],
    machines: Sequence[MachineSpec],
    mistakes: Mistakes,
) -> None:
    networks = {one.name for one in resources if isinstance(one, VirtualNetwork)}
    for one in tenants:
        if one.name in networks:
            mistakes.add(f"{TENANTS}.{one.name}", f"resources.networks.{one.name} is described, too: a tenant makes it")
        inside = [machine for machine in machines if one.has(machine)]
        if not one.admins and any(machine.endpoint.jump is None for machine in inside):
            mistakes.warn(
                f"{TENANTS}.{one.name}.admins", "is not set: only its own machines may log in to its machines"
            )
        if not inside:
            mistakes.warn(f"{TENANTS}.{one.name}", f'no machine is in it: network = [ {{ network = "{one.name}"; }} ];')
    for one, other in combinations(tenants, 2):
        if ip_network(one.subnet).overlaps(ip_network(other.subnet)):
            text = (
                f"{other.subnet} overlaps {one.subnet} of the tenant {one.name}: rules tell tenants by their addresses"
            )
            mistakes.add(f"{TENANTS}.{other.name}.subnet", text)
        same = (one.profile, one.bridge, one.vlan) == (other.profile, other.bridge, other.vlan)
        if same and one.bridge is not None:
            mistakes.add(f"{TENANTS}.{other.name}.vlan", f"it is the VLAN of the tenant {one.name}")
