"""Rebuilds a lost record from the marks on the cluster and what the guests' agents tell. It touches no VM."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from nixops_proxmox.errors import DeployError
from nixops_proxmox.guest.agent import Agent
from nixops_proxmox.guest.system import read_boot_id, read_host_key, tell_system
from nixops_proxmox.model import Facts, Machine, Phase, Power
from nixops_proxmox.pve.api.answers import GuestSeen
from nixops_proxmox.pve.cluster.guest_kinds import CONTAINERS
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor
from nixops_proxmox.pve.vm.boot import boots_cd
from nixops_proxmox.pve.vm.identity import TAG, Mark, find_mark, is_unfinished
from nixops_proxmox.pve.wire.properties import drives_of, macs_of
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.spec.serials import derived_serial, serials_of
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.ssh.keys import KeyStore
from nixops_proxmox.texts import is_machine_name, shown_name

AGENT_TIME = 5.0  # seconds; a guest that is up answers at once
NEVER = 1 << 31  # more than any `install.generation`: a lost record is no reason to reinstall


@dataclass(frozen=True)
class Recoverable:
    """A VM with a mark. `machine`: what it is to be recorded as. None: it is not, and `problem` says why."""

    mark: Mark
    vmid: int
    node: str
    machine: Machine | None = None
    problem: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Marked:
    guest: GuestSeen
    mark: Mark
    config: Mapping[str, str]


class RecoverySearch:
    """Finds the VMs of one deployment on one hypervisor."""

    def __init__(
        self,
        deployment: str,
        profile: str,
        hypervisor: PveHypervisor,
        keys: KeyStore,
        agents: Callable[[Machine], Agent],
        identity: str = "",
    ) -> None:
        """`identity`: what new machines have the serials of their disks from; the deployment's name, if empty."""
        self._deployment, self._profile = deployment, profile
        self._identity = identity or deployment
        self._hypervisor, self._keys, self._agents = hypervisor, keys, agents
        self._kind, self._uuid_of = hypervisor.kind, hypervisor.kind.uuid_of

    def run(self, recorded: Mapping[str, Machine], specs: Mapping[str, MachineSpec]) -> list[Recoverable]:
        """By deployment and machine. `recorded`: what the state has already. `specs`: what is described."""
        marked = self._find_marked()
        same: dict[str, list[_Marked]] = {}
        for one in marked:
            same.setdefault(self._uuid_of(one.config), []).append(one)
        found = []
        for one in marked:
            others = [other for other in same[self._uuid_of(one.config)] if other is not one]
            problem = self._find_problem(one, recorded, others)
            if problem:
                found.append(Recoverable(one.mark, one.guest.vmid, one.guest.node, problem=problem))
            else:
                found.append(self.recognise(one.guest, one.mark, one.config, specs.get(one.mark.machine)))
        return refuse_ambiguous(found)

    def _find_marked(self) -> list[_Marked]:
        """By our tag first, so that a large cluster need not be read whole. An unfinished clone has no tag yet."""
        guests = self._hypervisor.resources().guests.values()
        tagged = [guest for guest in guests if guest.kind == self._kind.type and self._may_be_ours(guest)]
        marked = []
        for guest in tagged:
            config = self._hypervisor.client.get_config(guest.node, guest.vmid).values
            mark = find_mark(config.get("description", ""))
            if mark is not None and not guest.template:
                marked.append(_Marked(guest, mark, config))
        return marked

    def _may_be_ours(self, guest: GuestSeen) -> bool:
        """A container is made with our tag."""
        return TAG in guest.tags or (not guest.tags and self._kind is not CONTAINERS)

    def _find_problem(self, one: _Marked, recorded: Mapping[str, Machine], others: Sequence[_Marked]) -> str:
        if one.mark.deployment != self._deployment:
            return f"it is of the deployment {shown_name(one.mark.deployment)}"
        if not is_machine_name(one.mark.machine):
            return f"no machine can be called {shown_name(one.mark.machine)}: its notes were changed by somebody"
        if is_unfinished(one.config.get("description", "")):
            again = command(Verb.DEPLOY)
            return f"it is an unfinished clone: destroy it in PVE, or let {again} make the machine and destroy it then"
        if self._uuid_of(one.config) != one.mark.uuid.lower():
            return "its SMBIOS UUID is not the one in its notes: it is a copy of the machine"
        if others:
            where = ", ".join(f"VM {other.guest.vmid} on {other.guest.node}" for other in others)
            return f"{where} has the same mark and UUID: remove them from the VM that is not the machine"
        have = recorded.get(one.mark.machine)
        if have is not None:
            same = have.facts.uuid.lower() == one.mark.uuid.lower()
            return "it is recorded already" if same else f"the record has another VM by that name: {have.facts.vmid}"
        return ""

    def recognise(
        self, guest: GuestSeen, mark: Mark, config: Mapping[str, str], spec: MachineSpec | None
    ) -> Recoverable:
        """What the VM is to be recorded as, by a look at it and into it."""
        facts = Facts(
            uuid=mark.uuid.lower(),
            profile=self._profile,
            vmid=guest.vmid,
            node=guest.node,
            serials_from=self._serials_from(mark, config),
            macs=macs_of(config),
            asked=spec.install.asked if spec is not None else NEVER,
            container=self._kind is CONTAINERS,
        )
        machine = Machine(self._deployment, mark.machine, Phase.ABSENT, facts)
        remarks = [] if spec is not None else ["it is not described here"]
        vm = self._hypervisor.find_vm(facts)
        if vm is None:
            return Recoverable(mark, guest.vmid, guest.node, problem="it no longer exists")
        installed = replace(
            facts, installed_by=spec.install.source.value if spec is not None else "recovered", claimed=0
        )
        if vm.power is Power.STOPPED and boots_cd(vm.config):
            machine = machine.moved(Phase.DEFINED, facts)
            remarks.append("it would boot the installer, which will not write to disks with data")
        elif vm.power is Power.STOPPED:
            machine = machine.moved(Phase.STOPPED, installed)
        elif facts.container:  # there is no agent to ask: our host key proves it, if we have it
            machine = machine.moved(Phase.RUNNING, installed)
        else:
            machine, told = self._ask_guest(machine.moved(Phase.RUNNING, installed))
            remarks += told
        machine, told = self._with_host_key(machine)
        return Recoverable(mark, guest.vmid, vm.node, machine, remarks=(*remarks, *told))

    def _serials_from(self, mark: Mark, config: Mapping[str, str]) -> str:
        """What the serials of its disks follow from, as they show. Empty: from its UUID, or nothing shows it."""
        base = serials_of(self._identity, mark.machine)
        drives = drives_of(config).items()
        return base if any(drive.get("serial") == derived_serial(base, slot) for slot, drive in drives) else ""

    def _ask_guest(self, machine: Machine) -> tuple[Machine, list[str]]:
        """Which system runs, and its public host key, which the agent's channel vouches for."""
        try:
            agent = self._agents(machine)
            agent.wait_for_agent(AGENT_TIME)
            installer = agent.osinfo().get("variant-id") == "installer"
            key, boot = read_host_key(agent.read_file), read_boot_id(agent.read_file)
        except DeployError as error:
            return machine, [f"its agent did not tell what runs: {error.message}"]
        if not installer:
            return machine.moved(machine.phase, replace(machine.facts, host_key=key)), []
        facts = replace(machine.facts, boot_id=boot, installer_keys=(key,))
        remark = (
            f"the installer runs in it: {command(Verb.START, machine.name)} boots its disk;"
            f" if it never was installed, {command(Verb.DESTROY, machine.name)} removes it"
        )
        return machine.moved(Phase.RESCUE, facts), [remark]

    def tell_inside(self, machine: Machine) -> tuple[str, ...]:
        """What runs in a machine, if its agent tells: a line, or none."""
        try:
            agent = self._agents(machine)
            agent.wait_for_agent(AGENT_TIME)
            return (f"inside: {tell_system(agent.osinfo(), agent.read_file)}",)
        except DeployError:
            return ()

    def _with_host_key(self, machine: Machine) -> tuple[Machine, list[str]]:
        if self._keys.has_host_key(machine.facts.uuid):
            _, ours = self._keys.host_key(machine.facts.uuid)
            told = machine.facts.host_key
            remarks = ["it shows another host key than ours"] if told and told != " ".join(ours.split()[:2]) else []
            return machine.moved(machine.phase, replace(machine.facts, host_key=ours)), remarks
        if machine.facts.host_key:
            return machine, ["its private keys are not here: let `ssh.identityFile` name a key that it lets in"]
        if machine.phase is Phase.DEFINED:
            _, ours = self._keys.host_key(machine.facts.uuid)
            return machine.moved(machine.phase, replace(machine.facts, host_key=ours)), []
        return machine, [f"its host key is not known: start it in PVE; {command(Verb.RECOVER)} finds it then"]


def refuse_ambiguous(found: Sequence[Recoverable]) -> list[Recoverable]:
    """Sort by deployment, machine and VMID. If several VMs, perhaps of several hypervisors, would be recorded as one
    machine, none is, and each names the others."""
    claims: dict[tuple[str, str], list[Recoverable]] = {}
    for one in found:
        if one.machine is not None:
            claims.setdefault((one.mark.deployment, one.mark.machine), []).append(one)
    told = []
    for one in found:
        others = [other for other in claims.get((one.mark.deployment, one.mark.machine), ()) if other is not one]
        if one.machine is not None and others:
            one = replace(one, machine=None, problem=_ambiguous(others), remarks=())
        told.append(one)
    return sorted(told, key=lambda one: (one.mark.deployment, one.mark.machine, one.vmid))


def _ambiguous(others: Sequence[Recoverable]) -> str:
    where = ", ".join(f"VM {other.vmid} on {other.node} (UUID {other.mark.uuid})" for other in others)
    return f"{where} says that it is this machine, too: remove the lines from the notes of the VM that is not"
