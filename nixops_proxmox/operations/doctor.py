"""What a deploy needs, here and on the clusters: what is there, what is missing, and how to supply it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field

from nixops_proxmox.errors import DeployError
from nixops_proxmox.model import Finding, Level
from nixops_proxmox.operations.deployed import Deployed
from nixops_proxmox.operations.sinks import find_sinks
from nixops_proxmox.pve.api.connection import connect
from nixops_proxmox.pve.cluster.doctor import Rights, examine
from nixops_proxmox.pve.wire.networks import enter_networks
from nixops_proxmox.pve.wire.profiles import load_profile
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.spec.pool import PoolSpec


@dataclass
class Wanted:
    """What one hypervisor is to have. `rights`: what other things than machines need there. `pools`: those that a
    deploy makes."""

    machines: list[MachineSpec] = field(default_factory=list)
    rights: list[Rights] = field(default_factory=list)
    pools: set[str] = field(default_factory=set)


Needs = Mapping[str, Wanted]  # by hypervisor


@dataclass
class Diagnosis:
    """The findings, in the order in which they were looked for, and the errors among them."""

    findings: list[Finding]
    errors: list[DeployError] = field(default_factory=list)

    @contextmanager
    def attempt(self, subject: str) -> Iterator[None]:
        try:
            yield
        except DeployError as error:
            self.errors.append(error)
            self.findings.append(Finding(Level.PROBLEM, subject, error.message, error.hint))


def diagnose(
    tools: Sequence[Finding],
    find_needs: Callable[[Diagnosis], Needs],
    usual: Callable[[], str],
    busy: Callable[[str], AbstractContextManager[None]] = lambda _what: nullcontext(),
) -> Diagnosis:
    """`usual`: the hypervisor that is looked at where nothing is described."""
    found, needs = Diagnosis(list(tools)), dict[str, Wanted]()
    with found.attempt("network"):
        needs.update(find_needs(found))
    for name, wanted in (needs or {usual(): Wanted()}).items():
        with found.attempt(name):
            profile = load_profile(name)
            enter_networks([name])
            with busy(f"looking at {name}"), closing(connect(profile)) as client:
                found.findings += examine(client, profile, wanted.machines, wanted.rights, wanted.pools)
    return found


def needs_of(deployed: Deployed) -> Needs:
    """What is described, by hypervisor."""
    needs: dict[str, Wanted] = {}
    for spec in map(deployed.spec, deployed.described()):
        needs.setdefault(spec.profile, Wanted()).machines.append(spec)
    for profile, rights in deployed.resources.rights():
        needs.setdefault(profile, Wanted()).rights.append(rights)
    for resource in () if deployed.network is None else deployed.network.resources:
        if isinstance(resource, PoolSpec):
            needs.setdefault(resource.profile, Wanted()).pools.add(resource.poolid)
    return needs


def look_beside(deployed: Deployed, found: Diagnosis) -> None:
    """Look at what is needed beside the hypervisors' rights, such as a router that answers, and folders for keys."""
    found.findings += find_sinks([deployed.spec(name) for name in deployed.described()])
    for subject, look in deployed.resources.examinations():
        with found.attempt(subject):
            found.findings += look()
