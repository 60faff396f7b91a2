"""The MACs that machines take from lists, and the MACs that they derive: who has which, and that no other VM has it."""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import ip_interface
from pathlib import Path
from typing import Any, Protocol

from nixops_proxmox.addresses import Asked, Elsewhere, MacPool, PoolEntry, choose, commit_command, mark_of
from nixops_proxmox.core.engine import pursue
from nixops_proxmox.core.kind import Known, Presence, Thing
from nixops_proxmox.core.ports import Clock, Journal
from nixops_proxmox.errors import DeployError, StateError
from nixops_proxmox.kinds.address import LIFECYCLE, NAME, OpenList, World, known_of
from nixops_proxmox.kinds.resource import KnownNic
from nixops_proxmox.model import Machine, Phase
from nixops_proxmox.operations.recorded import recorded_thing
from nixops_proxmox.options import Silent
from nixops_proxmox.paths import expanded
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor
from nixops_proxmox.pve.cluster.macs import find_macs
from nixops_proxmox.spec import IpSpec, MachineSpec, NetworkSpec, Nic
from nixops_proxmox.state import Stored
from nixops_proxmox.state.holder import this_process

NOT_MADE = (Phase.ABSENT, Phase.RESERVED)


class AddressRecord(Protocol):
    """As much of a deployment's record."""

    @property
    def name(self) -> str: ...
    def machine(self, name: str) -> Machine: ...
    def machines(self) -> list[Machine]: ...
    def stored(self, kind: str) -> Sequence[Stored]: ...
    def journal(self, lease: Any = None) -> Journal[Any]: ...
    def forget(self, name: str, lease: Any = None, *, kind: str = "machine") -> None: ...


class Files:
    """Lists are files."""

    def read(self, pool: MacPool) -> Sequence[PoolEntry]:
        return pool.read()

    def locked(self, pool: MacPool) -> AbstractContextManager[OpenList]:
        return pool.locked()


@dataclass(frozen=True)
class Taking:
    """An entry that a NIC has, or will have. `new`: it has not been taken before this run."""

    machine: str
    slot: str
    pool: MacPool
    mac: str
    host: str = ""
    addresses: tuple[str, ...] = ()
    new: bool = False

    @property
    def title(self) -> str:
        return f"{self.host or self.mac} for {self.machine}"


@dataclass(frozen=True)
class MacShown:
    """A NIC's MAC, and where it comes from. `mac` empty: it follows from the UUID of a machine that is not made yet.
    `elsewhere`: another VM of the cluster that has it, in words."""

    machine: str
    slot: str
    mac: str
    origin: str
    host: str = ""
    addresses: tuple[str, ...] = ()
    elsewhere: str = ""


class Addressing:
    """The MACs of one deployment's machines."""

    def __init__(
        self,
        record: AddressRecord,
        network: NetworkSpec | None,
        base: Path,
        hypervisor: Callable[[str], PveHypervisor],
        clock: Clock,
    ) -> None:
        """`base`: the folder that files of the description are relative to. `hypervisor` of a profile."""
        self._record, self._base, self._hypervisor, self._clock = record, base, hypervisor, clock
        self._machines = {} if network is None else {machine.name: machine for machine in network.machines}
        self._files = {} if network is None else {pool.name: pool.file for pool in network.mac_pools}
        self._foreseen: dict[str, Known] = {}
        self._elsewhere: dict[str, Elsewhere] = {}
        self._lock = threading.Lock()

    # What there is.

    def recorded(self) -> dict[str, Known]:
        """What NICs have taken, by `MACHINE.SLOT`."""
        things = [recorded_thing(self._record.name, NAME, one.name, one) for one in self._record.stored(NAME)]
        return {one.name: one.facts for one in things if one.phase is not Presence.ABSENT or one.facts.values}

    def filled(self, spec: MachineSpec) -> MachineSpec:
        """The machine with the MACs and addresses that its NICs have taken from lists, or would take."""
        if not any(nic.pool for nic in spec.network):
            return spec
        known = self._foreseen | self.recorded()
        nics = [filled_nic(nic, known.get(f"{spec.name}.{nic.slot}")) for nic in spec.network]
        return spec.model_copy(update={"network": tuple(nics)})

    def pooled(self, names: Sequence[str]) -> list[tuple[MachineSpec, Nic]]:
        """The NICs of these machines that take a MAC from a list."""
        machines = [self._machines[name] for name in names if name in self._machines]
        return [(machine, nic) for machine in machines for nic in machine.network if nic.pool]

    def table(self, *, look: bool) -> list[MacShown]:
        """All MACs of the described machines. `look`: ask the clusters, too, which other VMs have one of them."""
        shown = []
        for name in sorted(self._machines):
            spec = self._machines[name]
            elsewhere = self._find_elsewhere(spec.profile) if look else {}
            for nic, known in zip(spec.network, self.nics(name), strict=True):
                mac = known.mac.upper()
                title = elsewhere.get(mac, "")
                shown.append(MacShown(name, nic.slot, mac, origin_of(nic), known.host, known.addresses, title))
        return shown

    def nics(self, name: str = "") -> list[KnownNic]:
        """What is known of the described machine's NICs, or of all; nothing is asked."""
        found, taken = [], self.recorded()
        for described in [self._machines[name]] if name else [self._machines[one] for one in sorted(self._machines)]:
            machine, spec = self._record.machine(described.name), self.filled(described)
            made = machine.facts.macs if machine.phase is not Phase.ABSENT else ()
            for index, nic in enumerate(spec.network):
                mac = (nic.mac or (made[index] if index < len(made) else "")).lower()
                host = taken.get(f"{spec.name}.{nic.slot}", Known()).values.get("host", "")
                addresses = tuple(map(str, nic.addresses))
                found.append(KnownNic(spec.name, nic.slot, mac, host, addresses, nic.network or ""))
        return found

    # Taking, and giving back.

    def foresee(self, names: Sequence[str]) -> tuple[list[Taking], dict[str, DeployError]]:
        """What a deploy of these machines would take, and errors by name. Writes nothing."""
        takings, errors, used = [], {}, set[str]()
        for machine, nic in self.pooled(names):
            world, key = self._world(machine, nic), f"{machine.name}.{nic.slot}"
            before = self.recorded().get(key, Known()).values.get("mac", "")
            try:
                entries = [one for one in world.lists.read(world.pool) if one.mac not in used]
                entry = choose(world.pool, entries, replace(world.asked, recorded=before), world.elsewhere())
            except DeployError as error:
                errors[machine.name] = error
                continue
            used.add(entry.mac)
            known = known_of(world, entry)
            if (lacking := lacks_address(machine.name, nic, known)) is not None:
                errors[machine.name] = lacking
                continue
            self._foreseen[key] = known
            takings.append(taking_of(machine.name, nic.slot, world.pool, self._foreseen[key], before))
        return takings, errors

    def take(self, names: Sequence[str], lease: Any) -> tuple[list[Taking], dict[str, DeployError]]:
        """Take an entry for each NIC that has none, and write that down in the lists. Returns errors by machine."""
        takings, errors = [], {}
        for machine, nic in self.pooled(names):
            world, thing = self._world(machine, nic), self._thing(machine.name, nic.slot)
            before = thing.facts.values.get("mac", "")
            try:
                after = pursue(LIFECYCLE, Presence.PRESENT, thing, world, self._record.journal(lease))
            except DeployError as error:
                errors[machine.name] = error
                continue
            takings.append(taking_of(machine.name, nic.slot, world.pool, after.facts, before))
            if (lacking := lacks_address(machine.name, nic, after.facts)) is not None:
                errors[machine.name] = lacking
        return takings, errors

    def lacking(self, names: Sequence[str]) -> list[str]:
        """Those of the machines that are still to take something."""
        taken = self.recorded()
        return sorted(
            {machine.name for machine, nic in self.pooled(names) if f"{machine.name}.{nic.slot}" not in taken}
        )

    def for_systems(self) -> dict[str, dict[str, Mapping[str, str]]]:
        """What the described machines' systems should know of what NICs have taken, or would take, by slot."""
        known, found = self._foreseen | self.recorded(), dict[str, dict[str, Mapping[str, str]]]()
        for machine, nic in self.pooled(sorted(self._machines)):
            if (one := known.get(f"{machine.name}.{nic.slot}")) is not None:
                found.setdefault(machine.name, {})[nic.slot] = for_system(one)
        return found

    def give_back(self, machine: str, lease: Any) -> list[Taking]:
        """Give back all that a machine has taken. StateError while it exists."""
        if self._record.machine(machine).phase is not Phase.ABSENT:
            raise StateError(f"{machine}: its VM has the MAC, so the list's entry cannot be given back")
        takings = []
        for name, known in self.recorded().items():
            owner, _, slot = name.rpartition(".")
            if owner != machine:
                continue
            pool = MacPool(known.values.get("pool", ""), Path(known.values.get("file", "")))
            world = self._world_of(pool, machine, slot, lambda: {})
            pursue(LIFECYCLE, Presence.ABSENT, self._thing(machine, slot), world, self._record.journal(lease))
            self._record.forget(name, lease, kind=NAME)
            takings.append(taking_of(machine, slot, pool, known, ""))
        return takings

    def kept(self, machine: str) -> list[str]:
        """What a machine keeps in lists of MACs after its end, a line each."""
        return [
            f"{known.values.get('host') or known.values.get('mac')} of the pool {known.values.get('pool')}"
            for name, known in self.recorded().items()
            if name.rpartition(".")[0] == machine
        ]

    def refuse_doubles(self, names: Sequence[str]) -> dict[str, DeployError]:
        """Errors by name: of machines that are not made yet, and whose MAC another VM of the cluster has."""
        errors: dict[str, DeployError] = {}
        for name in names:
            spec = self._machines.get(name)
            if spec is None or self._record.machine(name).phase not in NOT_MADE:
                continue
            for nic in self.filled(spec).network:
                if nic.mac is None or not (nic.pool or nic.mac_scheme):
                    continue
                title = self._find_elsewhere(spec.profile).get(nic.mac.upper())
                if title:
                    errors[name] = StateError(
                        f"{name}: its MAC {nic.mac} ({origin_of(nic)}) is on {title} already",
                        hint="remove it there, or describe another MAC",
                    )
        return errors

    # How.

    def _thing(self, machine: str, slot: str) -> Thing:
        name = f"{machine}.{slot}"
        stored = next((one for one in self._record.stored(NAME) if one.name == name), None)
        return recorded_thing(self._record.name, NAME, name, stored)

    def _world(self, machine: MachineSpec, nic: Nic) -> World:
        assert nic.pool is not None
        pool = MacPool(nic.pool, self._base / expanded(self._files[nic.pool]))
        return self._world_of(pool, machine.name, nic.slot, lambda: self._find_elsewhere(machine.profile))

    def _world_of(self, pool: MacPool, machine: str, slot: str, elsewhere: Callable[[], Elsewhere]) -> World:
        there = self._record.machine(machine)
        recorded = self.recorded().get(f"{machine}.{slot}", Known()).values.get("mac", "")
        keeps = there.phase not in NOT_MADE and recorded.lower() in there.facts.macs
        asked = Asked(
            machine,
            mark_of(self._record.name, machine, slot),
            this_process().user,
            keeps=keeps,
            others=[name for name in self._machines if name != machine],
        )
        today = datetime.fromtimestamp(self._clock.now(), UTC).astimezone().date().isoformat()
        return World(pool, asked, Files(), elsewhere, today, self._clock, Silent())

    def _find_elsewhere(self, profile: str) -> Elsewhere:
        """Asked once: who has which MAC, besides the machines of this deployment, and what they have reserved."""
        with self._lock:
            if profile not in self._elsewhere:
                ours = [machine.facts.uuid for machine in self._record.machines() if machine.facts.uuid]
                hypervisor = self._hypervisor(profile)
                guests = hypervisor.resources().guests.values()
                self._elsewhere[profile] = find_macs(hypervisor.client, list(guests), ours)
            return self._elsewhere[profile]


def filled_nic(nic: Nic, known: Known | None) -> Nic:
    """With DHCP, an address of the list is what we expect: it is tried first, and reserved where the NIC says so. A
    static address without one of its own is the list's."""
    if nic.pool is None or known is None:
        return nic
    values = known.values

    def ip(spec: IpSpec, text: str) -> IpSpec:
        if not text or spec.method == "none" or (spec.method == "static" and spec.address is not None):
            return spec
        return spec.model_copy(update={"address": ip_interface(text).ip})

    return nic.model_copy(
        update={
            "mac": values.get("mac"),
            "ipv4": ip(nic.ipv4, values.get("ipv4", "")),
            "ipv6": ip(nic.ipv6, values.get("ipv6", "")),
        }
    )


def lacks_address(machine: str, nic: Nic, known: Known) -> DeployError | None:
    """The error for a static address that the list's entry does not have."""
    for family, ip in (("ipv4", nic.ipv4), ("ipv6", nic.ipv6)):
        if ip.method == "static" and ip.address is None and not known.values.get(family):
            entry = known.values.get("host") or known.values.get("mac")
            return StateError(
                f"{machine}: its {nic.slot} is to have a static {family.replace('ip', 'IP')} address, and the entry"
                f" {entry} of the pool {nic.pool} has none",
                hint="write it into the list, or describe another method",
            )
    return None


def for_system(known: Known) -> Mapping[str, str]:
    """What a system should know of what a NIC has taken."""
    values = {name: known.values.get(name, "") for name in ("mac", "host", "ipv4", "ipv6")}
    return {name: value.partition("/")[0] for name, value in values.items() if value}


def recorded_for_systems(record: AddressRecord) -> dict[str, dict[str, Mapping[str, str]]]:
    """The same for all machines of the record."""
    found: dict[str, dict[str, Mapping[str, str]]] = {}
    for stored in record.stored(NAME):
        machine, _, slot = stored.name.rpartition(".")
        facts = recorded_thing(record.name, NAME, stored.name, stored).facts
        if facts.values.get("mac"):
            found.setdefault(machine, {})[slot] = for_system(facts)
    return found


def origin_of(nic: Nic) -> str:
    """Where its MAC comes from."""
    if nic.pool:
        return f"pool {nic.pool}"
    if nic.mac_scheme:
        return f"scheme {nic.mac_scheme}"
    return "described" if nic.mac else "the machine's UUID"


def taking_of(machine: str, slot: str, pool: MacPool, known: Known, before: str) -> Taking:
    """`before`: the MAC that the NIC had until now, by the record."""
    values = known.values
    addresses = tuple(values[name].partition("/")[0] for name in ("ipv4", "ipv6") if values.get(name))
    mac = values.get("mac", "")
    return Taking(machine, slot, pool, mac, values.get("host", ""), addresses, mac != before)


def describe_taking(taking: Taking) -> str:
    """The line of a plan."""
    host = f"{taking.host}, " if taking.host else ""
    return f"take {host}{taking.mac} from the pool {taking.pool.name}"


def commits(takings: Collection[Taking], word: str) -> list[str]:
    """The commands that commit the changed lists, where they are in git work trees. `word`: `takes` or `gives back`."""
    changed: dict[Path, list[Taking]] = {}
    for taking in takings:
        if taking.new:
            changed.setdefault(taking.pool.path, []).append(taking)
    found = [commit_command(path, [f"{word} {one.title}" for one in ones]) for path, ones in changed.items()]
    return [command for command in found if command]
