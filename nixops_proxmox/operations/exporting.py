"""What other tools are told of the machines: from the record, and from the description where there is one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nixops_proxmox.errors import DeployError
from nixops_proxmox.kinds.machine.steps.hardware import DIGEST, brief
from nixops_proxmox.kinds.volume.facts import NAME as VOLUME
from nixops_proxmox.model import Address, Endpoint, Machine, Phase
from nixops_proxmox.pve.wire.properties import parse_nic
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.ssh.argv import Access, parse_jump
from nixops_proxmox.state import Stored
from nixops_proxmox.state.record import DeploymentRecord
from nixops_proxmox.texts import is_machine_name, shown_name

NOTHING_THERE = (Phase.ABSENT, Phase.RESERVED, Phase.LOST)
_HOST = re.compile(r"\[?[A-Za-z0-9:][A-Za-z0-9.:_%-]*\]?")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*\$?")


@dataclass(frozen=True)
class Wire:
    """A NIC, and the bridge that it is on."""

    slot: str
    bridge: str
    tag: str = ""  # a VLAN
    mac: str = ""


@dataclass(frozen=True)
class Exported:
    """One machine. `access`: how to log in. It is None without a way in, and where `problem` says what is wrong."""

    name: str
    deployment: str
    phase: str
    profile: str = ""
    node: str = ""
    vmid: int = 0
    uuid: str = ""
    pool: str = ""
    tags: tuple[str, ...] = ()
    wires: tuple[Wire, ...] = ()
    volumes: tuple[str, ...] = ()
    addresses: tuple[Address, ...] = ()
    host_keys: tuple[str, ...] = ()
    access: Access | None = None
    problem: str = ""

    @property
    def endpoint(self) -> Endpoint | None:
        return None if self.access is None else self.access.endpoint


class Recorded(Protocol):
    """As much of an open deployment as this needs."""

    @property
    def record(self) -> DeploymentRecord: ...
    def machines(self) -> list[Machine]: ...
    def described(self) -> list[str]: ...
    def spec(self, name: str) -> MachineSpec: ...
    def believed_access(self, name: str) -> Access | None: ...


def export_machines(deployed: Recorded, names: Sequence[str]) -> tuple[list[Exported], list[str]]:
    """The machines that exist or are described, and a line for each one of which other tools must not be told."""
    volumes = deployed.record.stored(VOLUME)
    found, left_out = [], []
    for machine in deployed.machines():
        described = machine.name in deployed.described()
        if machine.name not in names or (machine.phase in NOTHING_THERE and not described):
            continue
        if not is_machine_name(machine.name):
            left_out.append(f"{shown_name(machine.name)}: left out, because no machine can have that name")
            continue
        one = export_machine(deployed, machine, volumes)
        found.append(one)
        if one.problem:
            left_out.append(f"{machine.name}: {one.problem}")
    return found, left_out


def export_machine(deployed: Recorded, machine: Machine, volumes: Sequence[Stored] = ()) -> Exported:
    facts = machine.facts
    spec = deployed.spec(machine.name) if machine.name in deployed.described() else None
    access, problem = _find_access(deployed, machine)
    return Exported(
        machine.name,
        machine.deployment,
        machine.phase.value,
        profile=facts.profile or (spec.profile if spec is not None else ""),
        node=facts.node,
        vmid=facts.vmid,
        uuid=facts.uuid,
        pool=(spec.pool or "") if spec is not None else "",
        tags=_tags(machine, spec),
        wires=_wires(machine, spec),
        volumes=_volumes(machine, spec, volumes),
        addresses=facts.addresses,
        host_keys=facts.shown_keys if access is not None else (),
        access=access,
        problem=problem,
    )


def _find_access(deployed: Recorded, machine: Machine) -> tuple[Access | None, str]:
    """The access, or why there is none. An address from an old record is text that anybody may have written."""
    if machine.phase in NOTHING_THERE or machine.facts.endpoint is None:
        return None, ""
    endpoint = machine.facts.endpoint
    if not _HOST.fullmatch(endpoint.host) or not _USER.fullmatch(endpoint.user):
        return None, "its address or user in the record is none that a program can be given"
    try:
        hops = parse_jump(endpoint.jump)
        if not all(_HOST.fullmatch(hop.host) and (not hop.user or _USER.fullmatch(hop.user)) for hop in hops):
            return None, "its jump host in the record is none that a program can be given"
        return deployed.believed_access(machine.name), ""
    except DeployError as error:
        return None, error.message


def _tags(machine: Machine, spec: MachineSpec | None) -> tuple[str, ...]:
    if spec is not None:
        return tuple(sorted(spec.tags))
    return tuple(sorted(filter(None, re.split(r"[;, ]+", _applied(machine, "tags")))))


def _wires(machine: Machine, spec: MachineSpec | None) -> tuple[Wire, ...]:
    if spec is not None:
        macs = machine.facts.macs
        return tuple(
            Wire(
                nic.slot, nic.bridge, str(nic.tag or ""), (macs[index] if index < len(macs) else nic.mac or "").lower()
            )
            for index, nic in enumerate(spec.network)
        )
    nics = {key: parse_nic(_applied(machine, key)) for key in machine.facts.applied if re.fullmatch(r"net\d+", key)}
    return tuple(
        Wire(slot, nic["bridge"], nic.get("tag", ""), nic.get("macaddr", "").lower())
        for slot, nic in sorted(nics.items())
        if nic.get("bridge")
    )


def _applied(machine: Machine, key: str) -> str:
    """A value of the VM's configuration, as the last deploy left it. Empty where only what tells it was kept."""
    value = machine.facts.applied.get(key, "")
    return "" if value.startswith(DIGEST) or value != brief(value) else value


def _volumes(machine: Machine, spec: MachineSpec | None, recorded: Sequence[Stored]) -> tuple[str, ...]:
    theirs = {one.name for one in recorded if one.facts.get("machine") == machine.name and one.phase == "attached"}
    return tuple(sorted({*theirs, *(spec.volumes if spec is not None else ())}))
