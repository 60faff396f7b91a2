"""What a recovery key opens, in words."""

from typing import TYPE_CHECKING, Any

from nixops_proxmox.kinds.machine.header import SPARE, YOURS, find_slot_problems, spare_slots
from nixops_proxmox.model import Machine, recorded_slots

if TYPE_CHECKING:
    from nixops_proxmox.kinds.machine.header import HeaderSeen


def use_of(slot: int, machine: Machine) -> str:
    luks = machine.facts.luks
    known = {YOURS: "yours", **recorded_slots(luks)}
    if slot in spare_slots(luks):
        return f"new {known.get(slot - SPARE, 'key')}"
    return known.get(slot, "not ours")


def proof_lines(machine: Machine, proof: "HeaderSeen") -> list[str]:
    volume = machine.facts.luks["uuid"]
    if proof.slot is None:
        first = f"the key does not open its disk {volume}"
    else:
        first = f"the key opens the key slot {proof.slot} ({use_of(proof.slot, machine)}) of its disk {volume}"
    problems = find_slot_problems(machine.name, proof, machine.facts.luks)
    return [f"{machine.name}: {line}" for line in (first, *problems)]


def proof_json(machine: Machine, proof: "HeaderSeen") -> dict[str, Any]:
    return {
        "machine": machine.name,
        "uuid": proof.header.uuid,
        "slot": proof.slot,
        "use": None if proof.slot is None else use_of(proof.slot, machine),
        "slots": list(proof.header.slots),
        "strange": list(proof.strange),
        "missing": list(proof.missing),
        "ok": proof.is_well,
    }
