"""Takes over VMs that somebody else made: describes each and proves with the ordinary planner that a deploy would do
nothing. Only then, it is recorded and marked."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nixops_proxmox.errors import ConfigError, DeployError, SpecError
from nixops_proxmox.model import Change, Endpoint, Machine, Phase
from nixops_proxmox.operations.recovery import RecoverySearch
from nixops_proxmox.pve.api.answers import GuestSeen
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor
from nixops_proxmox.pve.vm.adopting import describe_vm
from nixops_proxmox.pve.vm.drives import volumes_of
from nixops_proxmox.pve.vm.identity import Mark, find_mark, uuid_of
from nixops_proxmox.pve.vm.parking import is_parker
from nixops_proxmox.pve.wire.properties import macs_of
from nixops_proxmox.spec import MachineSpec, parse_machine
from nixops_proxmox.texts import is_machine_name, shown_name

MARKS = frozenset({"name", "description", "tags"})  # what the takeover itself writes
TYPES = {"proxmox_virtual_environment_vm": "vm_id", "proxmox_vm_qemu": "vmid"}  # of Terraform's providers


@dataclass(frozen=True)
class Target:
    """A VM that somebody asked for. `word`: how; `address`: what Terraform calls it, if it does."""

    word: str
    name: str = ""  # of the machine; empty: the VM's own
    address: str = ""


@dataclass(frozen=True)
class Adoption:
    """What taking over one VM comes to. `problem`: why it cannot be taken over. `options`: how it is described.
    `left`: what is left alone. `differences`: what a deploy would change all the same. `remarks`: what to know of the
    machine."""

    target: Target
    guest: GuestSeen | None = None
    machine: Machine | None = None
    options: Mapping[str, object] | None = None
    left: tuple[str, ...] = ()
    differences: tuple[Change, ...] = ()
    remarks: tuple[str, ...] = ()
    problem: str = ""

    @property
    def ready(self) -> bool:
        return not self.problem and self.machine is not None


class Examiner:
    """Looks at VMs of one hypervisor, for one deployment. It changes nothing."""

    def __init__(
        self,
        deployment: str,
        profile: str,
        hypervisor: PveHypervisor,
        search: RecoverySearch,
        recorded: Sequence[Machine],
    ) -> None:
        self._deployment, self._profile, self._hypervisor, self._search = deployment, profile, hypervisor, search
        self._recorded = {machine.name: machine for machine in recorded if machine.phase is not Phase.ABSENT}

    def in_pool(self, pool: str) -> list[Target]:
        guests = self._hypervisor.resources().guests.values()
        found = [Target(str(guest.vmid)) for guest in guests if guest.pool == pool and guest.kind == "qemu"]
        if not found:
            raise ConfigError(f"there is no VM in the pool {pool!r}, or none that we may see")
        return found

    def examine(self, target: Target) -> Adoption:
        guest = self._find(target.word)
        if guest is None:
            return Adoption(target, problem=self._why_none(target.word))
        try:
            return self._examine(target, guest)
        except DeployError as error:
            return Adoption(target, guest, problem=error.message)

    def _find(self, word: str) -> GuestSeen | None:
        found = self._called(word, "qemu")
        return found[0] if len(found) == 1 else None

    def _called(self, word: str, kind: str) -> list[GuestSeen]:
        guests = self._hypervisor.resources().guests.values()
        return [guest for guest in guests if guest.kind == kind and word in (str(guest.vmid), guest.name)]

    def _why_none(self, word: str) -> str:
        if not self._called(word, "qemu") and self._called(word, "lxc"):
            return "it is a container, and only VMs are taken over: nothing proves who answers in a container of others"
        return "no VM that we may see has this VMID or name, or several have it"

    def _examine(self, target: Target, guest: GuestSeen) -> Adoption:
        config = self._hypervisor.client.get_config(guest.node, guest.vmid).values
        name, uuid = target.name or guest.name, uuid_of(config)
        if problem := self._find_problem(name, guest, config, uuid):
            return Adoption(target, guest, problem=problem)
        described = describe_vm(config, guest.pool)
        options = {"profile": self._profile, **described.options} if self._profile != "default" else described.options
        spec = self._parse(name, options)
        machine, remarks = self._recognise(guest, Mark(self._deployment, name, uuid), config, spec)
        facts = replace(machine.facts, nameless=described.nameless, volumes=volumes_of(config))
        machine = machine.moved(machine.phase, facts)
        differences = self._compare(spec, machine)
        problem = "; ".join(f"{one.key} would change from {one.have} to {one.want}" for one in differences)
        return Adoption(
            target, guest, machine, options, tuple(described.left), differences, remarks,
            f"a deploy of this description would not leave it as it is: {problem}" if problem else "",
        )  # fmt: skip

    def _find_problem(self, name: str, guest: GuestSeen, config: Mapping[str, str], uuid: str) -> str:
        notes = config.get("description", "")
        if is_parker(notes):
            return "it keeps volumes, and never runs"
        mark = find_mark(notes)
        if mark is not None:
            return f"it has a mark: it is the machine {shown_name(mark.machine)} of {shown_name(mark.deployment)}"
        if guest.template:
            return "it is a template"
        if not uuid:
            return "it has no SMBIOS UUID, by which we tell machines"
        if not is_machine_name(name):
            return f"no machine can be called {shown_name(name)}: give it a name with --as"
        if name in self._recorded:
            return f"the deployment has a machine {name} already"
        return ""

    def _parse(self, name: str, options: Mapping[str, object]) -> MachineSpec:
        try:
            return parse_machine(name, {"proxmox": dict(options)})
        except SpecError as error:
            raise SpecError(f"it cannot be described: {'; '.join(error.message.splitlines())}") from error

    def _recognise(
        self, guest: GuestSeen, mark: Mark, config: Mapping[str, str], spec: MachineSpec
    ) -> tuple[Machine, tuple[str, ...]]:
        found = self._search.recognise(guest, mark, config, spec)
        if found.machine is None:
            raise SpecError(found.problem)
        facts = replace(found.machine.facts, installed_by="recovered", macs=macs_of(config))
        machine = found.machine.moved(found.machine.phase, facts)
        inside = self._search.tell_inside(machine) if facts.host_key and machine.phase is Phase.RUNNING else ()
        return machine, (*inside, *found.remarks)

    def _compare(self, spec: MachineSpec, machine: Machine) -> tuple[Change, ...]:
        """The ordinary planner's own comparison, apart from the mark."""
        vm = self._hypervisor.find_vm(machine.facts)
        if vm is None:
            raise SpecError("it has gone")
        return tuple(one for one in self._hypervisor.changes(vm, spec, machine) if one.key not in MARKS)


def with_ssh_witness(one: Adoption, explain: Callable[[Machine], tuple[list[str], Endpoint | None]]) -> Adoption:
    """The same, with what SSH says of the host key that the agent told. `explain`: tries the machine's addresses: a
    line for each, and the one that has this key."""
    machine = one.machine
    if machine is None or one.problem or not machine.facts.host_key or machine.phase is not Phase.RUNNING:
        return one
    try:
        lines, endpoint = explain(machine)
    except DeployError as error:
        lines, endpoint = [error.message], None
    if endpoint is not None:
        told = f"its host key is the same through the agent and through SSH ({endpoint.host})"
    else:
        why = "; ".join(lines) or "it has no address"
        told = f"its host key is known through the agent alone, SSH could not be asked: {why}"
    return replace(one, remarks=(*one.remarks, told))


def find_terraformed(path: Path) -> list[Target]:
    """The VMs of a Terraform state, by the providers of bpg and Telmate. ConfigError for a file that is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        found = [target for resource in data["resources"] for target in _targets_of(resource)]
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path} is no Terraform state (version 4): {error!r}") from error
    if not found:
        raise ConfigError(f"{path} has no VMs of Proxmox VE")
    return found


def _targets_of(resource: Mapping[str, object]) -> list[Target]:
    kind = str(resource.get("type"))
    instances = resource.get("instances")
    if kind not in TYPES or resource.get("mode") != "managed" or not isinstance(instances, list):
        return []
    module = f"{resource['module']}." if resource.get("module") else ""
    found = []
    for instance in instances:
        key = instance.get("index_key")
        index = "" if key is None else f"[{json.dumps(key)}]"
        vmid = int(instance["attributes"][TYPES[kind]])
        found.append(Target(str(vmid), address=f"{module}{kind}.{resource['name']}{index}"))
    return found
