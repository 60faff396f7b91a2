"""Which entry a NIC takes. Pure: the list, what is recorded, and which MACs the cluster's VMs have are passed in."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from nixops_proxmox.addresses.entry import PoolEntry, tell_users
from nixops_proxmox.addresses.pool import MacPool
from nixops_proxmox.errors import SpecError, StateError
from nixops_proxmox.spelling import Verb, command

Elsewhere = Mapping[
    str, str
]  # by MAC, upper case: the VM that has it, in words; our machine's own VM is not among them


@dataclass(frozen=True)
class Asked:
    """`mark`: of the NIC. `user`: who asks. `recorded`: the MAC that it has by our record. `keeps`: its VM exists with
    that MAC. `others`: the names of the network's other machines, whose entries are left for them."""

    machine: str
    mark: str
    user: str
    recorded: str = ""
    keeps: bool = False
    others: Collection[str] = ()


def choose(pool: MacPool, entries: Sequence[PoolEntry], asked: Asked, elsewhere: Elsewhere) -> PoolEntry:
    """The entry that it has by our record, else by the file; else the one that carries its name; else the first free
    one. StateError if there is none, SpecError for one that carries its name and is not to be had."""
    ours = next((entry for entry in entries if entry.mac == asked.recorded), None)
    if ours is not None and (asked.keeps or not ours.user or ours.mark == asked.mark):
        return ours
    if asked.keeps:
        raise StateError(
            f"{asked.machine}: its MAC {asked.recorded} is no longer in {pool.title}",
            hint="put the entry back, or write the MAC in the description instead of the pool",
        )
    marked = next((entry for entry in entries if entry.mark == asked.mark), None)
    if marked is not None:
        return _unused(pool, marked, asked, elsewhere)
    named = next((entry for entry in entries if entry.label == asked.machine.lower() and not entry.mark), None)
    if named is not None and asked.mark.endswith(f"/{asked.machine}"):
        if named.user and named.user.casefold() != asked.user.casefold():
            since = f" since {named.date}" if named.date else ""
            raise SpecError(
                f"{asked.machine}: {named.title} of {pool.title} carries its name, but {named.user} has it{since}",
                hint="empty the entry's user, or give the machine another name",
            )
        return _unused(pool, named, asked, elsewhere)
    others = {name.lower() for name in asked.others}
    free = [entry for entry in entries if not entry.user and entry.label not in others]
    found = next((entry for entry in free if entry.mac not in elsewhere), None)
    if found is None:
        raise _none_free(pool, entries, asked, elsewhere)
    return found


def _unused(pool: MacPool, entry: PoolEntry, asked: Asked, elsewhere: Elsewhere) -> PoolEntry:
    if entry.mac in elsewhere:
        raise StateError(
            f"{asked.machine}: the MAC {entry.mac} of {entry.title} in {pool.title}"
            f" is on {elsewhere[entry.mac]} already",
            hint="remove it there, or give the entry another MAC",
        )
    return entry


def _none_free(pool: MacPool, entries: Sequence[PoolEntry], asked: Asked, elsewhere: Elsewhere) -> StateError:
    taken = [entry for entry in entries if entry.user]
    used = [entry for entry in entries if not entry.user and entry.mac in elsewhere]
    left = len(entries) - len(taken) - len(used)
    parts = [
        f"{len(taken)} of {len(entries)} are taken ({tell_users(taken)})" if taken else f"it has {len(entries)} in all",
        *(f"{entry.title} is on {elsewhere[entry.mac]}" for entry in used),
        *([f"{left} carry the names of other machines of the network"] if left else []),
    ]
    return StateError(
        f"{asked.machine}: {pool.title} has no free entry: {'; '.join(parts)}",
        hint=f"add entries to it; {command(Verb.DESTROY, '--release')} gives one back",
    )
