"""What a router is told of the machines: their MACs, addresses and names."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from typing_extensions import override

from nixops_proxmox.spec import values as v
from nixops_proxmox.spec.resource import Objection, ResourceSpec

if TYPE_CHECKING:
    from nixops_proxmox.spec.machine import MachineSpec, Nic


class ReservationsSpec(ResourceSpec):
    """One of `resources.reservations`: the entries of this deployment on one router."""

    kind = "reservation"
    option = "reservations"
    follows: ClassVar[bool] = True

    profile: Literal[""] = ""  # no hypervisor has it
    router: v.ProfileName | None = None  # in routers.toml; None: called as this is
    machines: Annotated[tuple[v.DnsName, ...], v.Unique] = ()  # none: all
    networks: Annotated[tuple[v.DnsName, ...], v.Unique] = ()  # of resources.networks; none: NICs on any
    domain: v.DnsName | None = None  # behind names that have none

    @property
    @override
    def given_name(self) -> str:
        return self.router or self.name

    @property
    @override
    def identity(self) -> tuple[str, ...]:
        return (self.router or self.name,)

    @override
    def covers(self, machine: str) -> bool:
        return not self.machines or machine in self.machines

    @override
    def is_wanted_by(self, machine: "MachineSpec") -> bool:
        return self.covers(machine.name)

    @override
    def objections(self, machines: "Sequence[MachineSpec]", others: "Sequence[ResourceSpec]") -> Iterable[Objection]:
        networks = {other.name for other in others if other.option == "networks"}
        nics: Mapping[str, Sequence[Nic]] = {machine.name: machine.network for machine in machines}
        for name in self.machines:
            if name not in nics:
                yield Objection("machines", f"there is no machine {name}")
            elif self.networks and not any(nic.network in self.networks for nic in nics[name]):
                yield Objection("machines", f"no NIC of {name} is on one of these networks")
        for name in self.networks:
            if name not in networks:
                yield Objection("networks", f"there is no {name} in resources.networks")
