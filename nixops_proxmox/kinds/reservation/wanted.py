"""Which entries a router is to have of a deployment: pure."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from nixops_proxmox.core.kind import Known
from nixops_proxmox.errors import StateError
from nixops_proxmox.kinds.resource import KnownNic
from nixops_proxmox.routers import Reservation
from nixops_proxmox.spec.reservations import ReservationsSpec

ENTRIES = "entries"  # known: what we have told the router last
UNSETTLED = "unsettled"  # known: it may not act yet, or not outlast a restart


@dataclass(frozen=True)
class Told:
    """What the router has of ours, what it should have, and whether all that we changed is settled."""

    entries: Sequence[Reservation]
    wanted: Sequence[Reservation]
    settled: bool
    agrees: Callable[[Reservation, Reservation], bool]

    @property
    def changed(self) -> list[Reservation]:
        """What is to be put."""
        return [one for one in self.wanted if not self._is_there(one)]

    def _is_there(self, one: Reservation) -> bool:
        """Is it there once, as it should be?"""
        there = [other for other in self.entries if other.owner == one.owner]
        return len(there) == 1 and self.agrees(there[0], one)

    @property
    def gone(self) -> list[Reservation]:
        """What is to be dropped."""
        wanted = {one.owner for one in self.wanted}
        return sorted(one for one in self.entries if one.owner not in wanted)


def reservation_of(deployment: str, nic: KnownNic, domain: str = "") -> Reservation | None:
    """None where the MAC or all addresses are unknown. A machine's first NIC has its name, or the one of its list; the
    others have the slot behind it."""
    if not nic.mac or not nic.addresses:
        return None
    ipv4 = next((address for address in nic.addresses if ":" not in address), "")
    ipv6 = next((address for address in nic.addresses if ":" in address), "")
    name = nic.host or (nic.machine if nic.slot == "net0" else f"{nic.machine}-{nic.slot}")
    one = Reservation(f"{deployment}/{nic.machine}.{nic.slot}", nic.mac.lower(), ipv4, ipv6, name)
    return Reservation(one.owner, one.mac, one.ipv4, one.ipv6, one.full_name(domain))


def router_of(spec: ReservationsSpec) -> str:
    return spec.router or spec.name


def covers(spec: ReservationsSpec, nic: KnownNic) -> bool:
    return spec.covers(nic.machine) and (not spec.networks or nic.network in spec.networks)


def entries_of(
    deployment: str,
    spec: ReservationsSpec,
    nics: Sequence[KnownNic],
    described: Collection[str],
    there: Collection[str],
    recorded: Sequence[Reservation],
) -> list[Reservation]:
    """The entries of the machines that are `there`. One that is no longer described keeps what was recorded of it."""
    found = [
        reservation_of(deployment, nic, spec.domain or "") for nic in nics if nic.machine in there and covers(spec, nic)
    ]
    kept = [one for one in recorded if machine_of(one) in there and machine_of(one) not in described]
    return sorted([*kept, *(one for one in found if one is not None)])


def claimed(there: Sequence[Reservation], ours: Sequence[Reservation]) -> list[Reservation]:
    """The same entries; those with a MAC of ours say so."""
    owners = {one.mac: one.owner for one in ours}
    return [replace(one, owner=owners.get(one.mac, "")) for one in there]


def machine_of(one: Reservation) -> str:
    return one.owner.partition("/")[2].rpartition(".")[0]


def differences(seen: Told) -> Iterator[str]:
    have = {one.owner: one for one in seen.entries}
    for one in seen.changed:
        before = have.get(one.owner)
        yield f"{_short(one)}: {one.title} is {'missing' if before is None else f'to be, and not {before.title}'}"
    yield from (f"{_short(one)}: {one.title} is no longer wanted" for one in seen.gone)
    if not seen.settled:
        yield "what was changed may not act yet"


def _short(one: Reservation) -> str:
    return one.owner.partition("/")[2]


def with_entries(facts: Known, entries: Sequence[Reservation], *, settled: bool) -> Known:
    values = {name: value for name, value in facts.values.items() if name != UNSETTLED}
    values[ENTRIES] = json.dumps([asdict(one) for one in entries])
    return Known({**values, **({} if settled else {UNSETTLED: "yes"})})


def recorded_entries(facts: Mapping[str, str]) -> list[Reservation]:
    """StateError for a record that cannot be read."""
    try:
        return [Reservation(**one) for one in json.loads(facts.get(ENTRIES, "[]"))]
    except (TypeError, ValueError) as error:
        raise StateError(
            f"the record of reservations cannot be read: {error}",
            hint="upgrade nixops-proxmox, or restore the state from a backup",
        ) from error
