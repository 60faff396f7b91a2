"""What a recovery key opens, in words."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nixops_proxmox.kinds.machine.encrypted import ROOT, part_of, told_as
from nixops_proxmox.kinds.machine.header import SPARE, YOURS, find_slot_problems, spare_slots
from nixops_proxmox.messages.shapes.setup import KeyProofJson, KeyProofsJson
from nixops_proxmox.model import Machine, recorded_slots

if TYPE_CHECKING:
    from nixops_proxmox.kinds.machine.header import HeaderSeen


def use_of(slot: int, luks: Mapping[str, str]) -> str:
    """`luks`: what the record knows of the volume."""
    known = {YOURS: "yours", **recorded_slots(luks)}
    if slot in spare_slots(luks):
        return f"new {known.get(slot - SPARE, 'key')}"
    return known.get(slot, "not ours")


def proof_lines(machine: Machine, proof: "HeaderSeen", volume: str = ROOT) -> list[str]:
    part = part_of(machine.facts.luks, volume)
    disk = told_as(volume, part)
    if proof.slot is None:
        first = f"the key does not open its {disk}"
    else:
        first = f"the key opens the key slot {proof.slot} ({use_of(proof.slot, part)}) of its {disk}"
    problems = find_slot_problems(machine.name, proof, part, volume)
    return [f"{machine.name}: {line}" for line in (first, *problems)]


def proof_json(machine: Machine, proof: "HeaderSeen", volume: str = ROOT) -> KeyProofJson:
    part = part_of(machine.facts.luks, volume)
    return {
        "machine": machine.name,
        "volume": volume,
        "uuid": proof.header.uuid,
        "slot": proof.slot,
        "use": None if proof.slot is None else use_of(proof.slot, part),
        "slots": list(proof.header.slots),
        "strange": list(proof.strange),
        "missing": list(proof.missing),
        "ok": proof.is_well,
    }


def proofs_json(machine: Machine, proofs: "Mapping[str, HeaderSeen]") -> KeyProofsJson:
    """The proof of the first volume, and those of the others below `disks`, if there are others."""
    first, *others = [proof_json(machine, proof, volume) for volume, proof in proofs.items()]
    found = KeyProofsJson(**first, disks=others)
    if not others:
        del found["disks"]
    return found
