"""The four functions of an address. The record says which MAC it is before the list says who has it: the same run
again finishes what a killed one began."""

from collections.abc import Sequence
from dataclasses import replace

from nixops_proxmox.addresses import PoolEntry, choose
from nixops_proxmox.core.kind import Known, Thing, three_rows
from nixops_proxmox.core.table import Attempt
from nixops_proxmox.kinds.address.ports import World

NAME = "address"
ABOUT = "an entry in a list of MACs that people share"


class AddressKind:
    name = NAME

    def look(self, world: World, thing: Thing, /) -> tuple[PoolEntry, str] | None:
        """The entry that the list says is ours, and the recorded MAC."""
        entries = world.lists.read(world.pool)
        entry = next((entry for entry in entries if entry.mark == world.asked.mark), None)
        return None if entry is None else (entry, thing.facts.values.get("mac", ""))

    def diff(self, world: World, found: tuple[PoolEntry, str], /) -> Sequence[str]:
        del world
        entry, recorded = found
        return () if entry.mac == recorded else (f"the list says {entry.mac}, and the record {recorded or 'nothing'}",)

    def apply(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """Safe to repeat: an entry that is recorded, or marked as ours, is the one that is chosen again."""
        del thing
        elsewhere = world.elsewhere()
        with world.lists.locked(world.pool) as opened:
            asked = replace(world.asked, recorded=attempt.facts.values.get("mac", ""))
            entry = choose(world.pool, opened.entries, asked, elsewhere)
            known = known_of(world, entry)
            attempt.note(known)
            for other in opened.entries:
                if other.mark == asked.mark and other.mac != entry.mac:
                    opened.give_back(other.mac)
            if entry.mark != asked.mark:
                opened.take(entry.mac, world.user, world.today)
        return known

    def remove(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """Give back what the list says is ours, and nothing else."""
        del thing, attempt
        with world.lists.locked(world.pool) as opened:
            for entry in opened.entries:
                if entry.mark == world.asked.mark:
                    opened.give_back(entry.mac)
        return Known()


def known_of(world: World, entry: PoolEntry) -> Known:
    """What the record keeps of an entry."""
    values = {
        "pool": world.pool.name,
        "file": str(world.pool.path),
        "mac": entry.mac,
        "host": entry.host,
        "ipv4": str(entry.ipv4 or ""),
        "ipv6": str(entry.ipv6 or ""),
    }
    return Known({name: value for name, value in values.items() if value})


LIFECYCLE = three_rows(AddressKind())
