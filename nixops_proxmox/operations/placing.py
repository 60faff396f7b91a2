"""Places for machines that are new, with regard to those that exist."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from nixops_proxmox.errors import DeployError
from nixops_proxmox.model import Machine, Phase, Place
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor
from nixops_proxmox.pve.cluster.verdicts import Explanation
from nixops_proxmox.spec import MachineSpec

Described = tuple[Machine, MachineSpec]
HypervisorOf = Callable[[str], PveHypervisor]  # by profile


def place_new(
    asked: Iterable[Described], everything: Sequence[Described], hypervisor: HypervisorOf, *, warn: bool = False
) -> dict[str, DeployError]:
    """Places for all new machines of `asked` before the first is made, and errors by name. Whatever else is wrong with
    one of them is told when it is worked on. `warn`: also of clusters where there is nothing new."""
    new: dict[str, list[MachineSpec]] = {}
    begun: dict[str, list[tuple[MachineSpec, Place]]] = {}
    for machine, spec in asked:
        if warn and has_place(machine, spec.profile):
            new.setdefault(spec.profile, [])
        if machine.phase is Phase.ABSENT:
            new.setdefault(spec.profile, []).append(spec)
        elif machine.phase is Phase.RESERVED and machine.facts.profile == spec.profile:
            begun.setdefault(spec.profile, []).append((spec, _place_of(machine)))
    refused: dict[str, DeployError] = {}
    for profile, specs in new.items():
        with suppress(DeployError):  # no profile, no connection: each machine meets that itself
            there = standing(everything, profile)
            refused |= hypervisor(profile).place_all(specs, begun.get(profile, ()), there)
    return refused


def near_its_volumes(machine: Machine, spec: MachineSpec, find_node: Callable[[Sequence[str]], str]) -> MachineSpec:
    """A new machine goes where the local storage is that has its volumes, unless the description says where.
    `find_node`: of these volumes, empty for any."""
    if not spec.volumes or spec.node is not None or machine.phase is not Phase.ABSENT:
        return spec
    node = ""
    with suppress(DeployError):  # no profile, no connection: the machine meets that itself
        node = find_node(spec.volumes)
    return spec.model_copy(update={"node": node}) if node else spec


def explain_place(described: Described, everything: Sequence[Described], hypervisor: HypervisorOf) -> Explanation:
    """Explain for each node whether the machine fits there, why not, and what speaks for it."""
    machine, spec = described
    there = hypervisor(spec.profile)
    if has_place(machine, spec.profile):
        tell_standing(everything, spec.profile, there)
        return there.explain_place(spec, _place_of(machine))
    if there.find_chosen_place(spec.name) is None:
        place_new([described], everything, hypervisor)
    return there.explain_place(spec)


def tell_standing(everything: Iterable[Described], profile: str, hypervisor: PveHypervisor) -> None:
    """Where our machines are, for choices that regard them."""
    hypervisor.place_all((), standing=standing(everything, profile))


def standing(everything: Iterable[Described], profile: str) -> list[tuple[MachineSpec, Place]]:
    """The machines that have a place there, whether or not they are worked on now."""
    return [(spec, _place_of(machine)) for machine, spec in everything if has_place(machine, profile)]


def has_place(machine: Machine, profile: str) -> bool:
    return bool(machine.facts.vmid) and machine.facts.profile == profile and machine.phase is not Phase.ABSENT


def _place_of(machine: Machine) -> Place:
    return Place(machine.facts.node, machine.facts.vmid)
