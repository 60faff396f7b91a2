"""The header of an encrypted disk, held against the record."""

import pytest

from nixops_proxmox.kinds.machine.encryption import Header
from nixops_proxmox.kinds.machine.header import HeaderSeen, compare, find_slot_problems, parse_tried
from nixops_proxmox.messages.disk_keys import proof_json, proof_lines
from nixops_proxmox.model import Facts, Machine, Phase, recorded_slots
from nixops_proxmox.operations.read_only import check_machine
from tests.kinds.machine.cluster import Bench
from tests.kinds.machine.test_encryption import VAULT

UUID = "afd4f314-d3f3-5180-8c27-6076e7cd8947"
LUKS = {"uuid": UUID, "slots": "1 recovery, 2 tang 2 of AA BB, 3 tool"}
HALF = LUKS | {"pending": "17 18 19"}


def test_the_recorded_sentence_tells_what_each_slot_is_for() -> None:
    assert recorded_slots(LUKS) == {1: "recovery", 2: "tang 2 of AA BB", 3: "tool"}
    assert recorded_slots({}) == {}


@pytest.mark.parametrize(
    ("slots", "luks", "strange", "missing"),
    [
        ((1, 2, 3), LUKS, (), ()),
        ((0, 1, 2, 3), LUKS, (), ()),
        ((1, 2, 3, 4, 17), LUKS, (4, 17), ()),
        ((1, 3), LUKS, (), (2,)),
        ((1, 2, 3, 17, 18), HALF, (), ()),
        ((1, 3, 17, 18, 19), HALF, (), ()),
        ((1, 3, 17, 19), HALF, (), (2,)),
    ],
)
def test_slots_are_ours_the_users_or_strange(
    slots: tuple[int, ...], luks: dict[str, str], strange: tuple[int, ...], missing: tuple[int, ...]
) -> None:
    proof = compare(Header(UUID, slots), luks)
    assert (proof.strange, proof.missing) == (strange, missing)
    problems = find_slot_problems("web", proof, luks)
    assert len(problems) == len(strange) + len(missing) + ("pending" in luks)


@pytest.mark.parametrize(
    ("slot", "is_well", "said"),
    [
        (1, True, "the key opens the key slot 1 (recovery)"),
        (17, True, "the key opens the key slot 17 (new recovery)"),
        (3, False, "the key opens the key slot 3 (tool)"),
        (0, False, "the key opens the key slot 0 (yours)"),
        (9, False, "the key opens the key slot 9 (not ours)"),
        (None, False, "the key does not open its disk"),
    ],
)
def test_a_recovery_key_that_opens_its_own_slot_is_well(slot: int | None, is_well: bool, said: str) -> None:
    machine = Machine("demo", "web", Phase.READY, Facts(luks=HALF))
    proof = HeaderSeen(Header(UUID, (1, 2, 3)), slot)
    assert proof_lines(machine, proof)[0].startswith(f"web: {said}")
    told = proof_json(machine, proof)
    assert (told["slot"], told["ok"], told["slots"]) == (slot, is_well, [1, 2, 3])
    assert not HeaderSeen(proof.header, slot, strange=(9,)).is_well


@pytest.mark.parametrize("end", ["", "x", "1 2", "123", "-1"])
def test_what_does_not_tell_a_slot_is_refused(end: str) -> None:
    told = f'nixops-proxmox-luks {UUID}\n{{"keyslots": {{}}}}\n'
    with pytest.raises(ValueError, match=r"."):
        parse_tried(told + (f"nixops-proxmox-luks-opened {end}\n" if end else ""))


def test_check_names_key_slots_that_are_not_as_recorded() -> None:
    bench = Bench()
    machine = bench.run(spec=VAULT)
    assert check_machine(machine, bench.world(spec=VAULT), described=True).problems == ()
    bench.vm.luks[7] = bench.vm.luks.pop(3)
    first, second = check_machine(machine, bench.world(spec=VAULT), described=True).problems
    assert "the key slot 7, which is not ours" in first and "no key slot 3 any more, which was for tool" in second
    bench.vm.luks[3] = bench.vm.luks.pop(7)
    bench.vm.first_stage = "that of before"
    (stale,) = check_machine(machine, bench.world(spec=VAULT), described=True).problems
    assert "its first stage lacks the sealed key" in stale and "/boot/initrd" in stale
    bench.vm.sealed = ""
    (none,) = check_machine(machine, bench.world(spec=VAULT), described=True).problems
    assert "its system has no sealed key" in none
    bench.vm.luks_uuid = "another"
    checked = check_machine(machine, bench.world(spec=VAULT), described=True)
    assert checked.reachable and "cannot be looked at" in checked.problems[0]
