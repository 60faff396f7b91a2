"""New keys for a disk in use: at no moment is there none that opens it, wherever a rotation breaks."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy

import pytest

from nixops_proxmox.cli.spelling import spelled as spell
from nixops_proxmox.errors import CommandFailed, ConfigError, NoPath, PveOutcomeUnknown, StateError
from nixops_proxmox.kinds.machine.encryption import Use, digest_of
from nixops_proxmox.kinds.machine.engine import run_errand
from nixops_proxmox.kinds.machine.errands.rotating import Rotate
from nixops_proxmox.model import Machine, Phase
from nixops_proxmox.operations.read_only import check_machine
from nixops_proxmox.spec import MachineSpec
from tests.kinds.machine.cluster import SPEC, Bench, Crash, Fuse
from tests.kinds.machine.test_crash import BANGS
from tests.kinds.machine.test_encryption import OTHER, REGISTERS, THUMBPRINT, VAULT, encrypted, tang

NONE = encrypted(tang(THUMBPRINT), {"none": True})
BY_HAND = encrypted({"typed": True}, {"folder": "/vault"})
WITH_HEADER = encrypted(tang(THUMBPRINT) | {"tool": True}, {"folder": "/vault"}, header=True)
CHANGES: Mapping[str, tuple[MachineSpec, MachineSpec]] = {
    "the same again": (VAULT, VAULT),
    "another server": (VAULT, encrypted(tang(OTHER) | {"tool": True}, {"folder": "/vault"})),
    "no tool any more": (VAULT, encrypted(tang(THUMBPRINT), {"folder": "/vault"})),
    "a recovery key at last": (NONE, VAULT),
    "no recovery key any more": (VAULT, NONE),
    "tang at last": (BY_HAND, VAULT),
    "with the header": (WITH_HEADER, WITH_HEADER),
}


def installed(spec: MachineSpec) -> Bench:
    bench = Bench()
    bench.run(spec=spec)
    bench.reporter.warnings.clear()
    return bench


def rotate(bench: Bench, spec: MachineSpec = VAULT, fuse: Fuse | None = None, given: str = "") -> Machine:
    return run_errand(Rotate(given), bench.record.machine, bench.world(fuse, spec=spec), bench.record)


def broken(bang: Callable[[], BaseException], before: MachineSpec, after: MachineSpec) -> Iterator[tuple[int, Bench]]:
    ready = installed(before)
    for at in range(1000):
        bench = deepcopy(ready)
        fuse = Fuse(at, bang)
        with contextlib.suppress(Crash, PveOutcomeUnknown):
            rotate(bench, after, fuse)
        if fuse.count <= at:
            assert at >= 18, f"the sweep walked only {at} boundaries"
            return
        yield at, bench


def check_opens(bench: Bench, spec: MachineSpec = VAULT, at: object = "") -> None:
    """What must be true at every moment: of the recovery key, of the tool's, and of the first stage."""
    assert spec.encryption is not None
    held, recorded = list(bench.vault.held.values()), bench.record.machine.facts.luks.get("recovery")
    if recorded is not None:
        assert held[-1] in bench.vm.luks.values(), f"{at}: the sink's key opens nothing"
        assert recorded in map(digest_of, bench.vm.luks.values()), f"{at}: no recorded recovery key opens the disk"
    for sealed in filter(None, (bench.vm.sealed, bench.vm.first_stage)):
        assert sealed in bench.vm.luks.values(), f"{at}: it would not open by itself"
    for (_, use), key in bench.keys.disks.items() if spec.encryption.unlock.tool else ():
        assert use != Use.TOOL or key in bench.vm.luks.values(), f"{at}: the store's key opens nothing"


def check_ended(bench: Bench, spec: MachineSpec, old: set[str]) -> None:
    assert spec.encryption is not None
    luks = bench.record.machine.facts.luks
    wanted = {
        1: not spec.encryption.recovery.sink.none,
        2: spec.encryption.unlock.sealed,
        3: spec.encryption.unlock.tool,
    }
    assert set(bench.vm.luks) == {slot for slot, is_wanted in wanted.items() if is_wanted}
    assert not set(bench.vm.luks.values()) & old, "an old key still opens it"
    assert "pending" not in luks and luks["rotations"] == "1"
    assert {use for _, use in bench.keys.disks} == ({"tool"} if spec.encryption.unlock.tool else set())
    assert ("recovery" in luks) is not spec.encryption.recovery.sink.none
    assert not bench.vm.brought, "keys are left in the guest"
    check_opens(bench, spec)


EACH = [("the same again", BANGS[1]), *((name, Crash) for name in CHANGES)]


@pytest.mark.parametrize(("change", "bang"), EACH)
def test_a_rotation_that_broke_anywhere_is_finished_by_the_same_command(
    change: str, bang: Callable[[], BaseException]
) -> None:
    before, after = CHANGES[change]
    old = set(installed(before).vm.luks.values())
    for at, bench in broken(bang, before, after):
        check_opens(bench, after, at)
        luks = bench.record.machine.facts.luks
        if not luks.get("rotations") or bench.record.machine.facts.errand:
            rotate(bench, after)
        check_ended(bench, after, old)
        assert bench.vault.given <= 4, at
        assert bench.record.machine.phase is Phase.READY


def test_after_a_rotation_that_broke_anywhere_a_deploy_and_a_destroy_do_what_they_always_do() -> None:
    for at, bench in broken(Crash, VAULT, VAULT):
        assert bench.run(spec=VAULT).phase is Phase.READY
        check_opens(bench, VAULT, at)
        rotate(bench)  # once more at the worst
        check_opens(bench, VAULT, at)
        assert set(bench.vm.luks) == {1, 2, 3}, at
        bench.run(Phase.ABSENT, spec=VAULT)
        assert not bench.keys.disks, at


def test_a_rotation_gives_every_key_another_and_records_what_the_description_says_now() -> None:
    bench = installed(VAULT)
    facts = rotate(bench, CHANGES["another server"][1]).facts
    assert facts.luks["slots"] == f"1 recovery, 2 tang {OTHER}, 3 tool"
    assert facts.luks["recovery"] == digest_of(bench.vm.luks[1]) and bench.vm.sealed == bench.vm.luks[2]
    assert not [key for key in bench.vm.luks.values() if key in str(facts.to_json())]


def test_the_header_in_the_sink_is_of_the_keys_that_open_the_disk_now() -> None:
    bench = installed(WITH_HEADER)
    first = next(iter(bench.vault.headers.values()))
    assert bench.record.machine.facts.luks["header"] == "vault" and bench.vm.luks[1].encode() in first
    rotate(bench, WITH_HEADER)
    (second,) = bench.vault.headers.values()
    assert all(key.encode() in second for key in bench.vm.luks.values()) and first != second
    bench.vault.headers.clear()
    bench.run(spec=WITH_HEADER)
    assert not bench.vault.headers, "a deploy makes no keys"


def test_when_the_sink_fails_the_old_keys_stay_and_the_next_try_goes_on() -> None:
    bench = installed(VAULT)
    before = dict(bench.vm.luks)
    bench.vault.refuses = True
    with pytest.raises(ConfigError, match="the sink is full"):
        rotate(bench)
    assert before.items() <= bench.vm.luks.items()
    check_opens(bench)
    bench.vault.refuses = False
    rotate(bench)
    check_ended(bench, VAULT, set(before.values()))


def test_a_server_that_does_not_answer_ends_it_before_anything_is_taken_away() -> None:
    bench = installed(VAULT)
    before = dict(bench.vm.luks)
    bench.vm.tang = False
    with pytest.raises(CommandFailed, match="does not seal") as failed:
        rotate(bench)
    assert before.items() <= bench.vm.luks.items() and "recovery rotate web" in spell(failed.value.hint)


def test_a_boot_loader_that_keeps_the_old_sealed_key_ends_it_before_anything_is_taken_away() -> None:
    """A real guest showed it: the program ended well, and the first stage had the key of before."""
    bench = installed(VAULT)
    before = dict(bench.vm.luks)
    bench.vm.loader = False
    with pytest.raises(StateError, match=r"first stage has no new sealed key \(/boot/initrd\)") as refused:
        rotate(bench)
    assert before.items() <= bench.vm.luks.items() and "recovery rotate web" in spell(refused.value.hint)
    check_opens(bench)
    bench.vm.loader = True
    rotate(bench)
    check_ended(bench, VAULT, set(before.values()))
    assert bench.vm.first_stage == bench.vm.luks[2]


def test_where_no_known_key_opens_the_disk_the_recovery_key_is_asked_for_and_nothing_is_noted() -> None:
    bench = installed(BY_HAND)
    bench.vault.is_readable = False
    with pytest.raises(StateError, match="no key that is known here") as refused:
        rotate(bench, BY_HAND)
    assert "--key-file -" in spell(refused.value.hint) and "pending" not in bench.record.machine.facts.luks
    old = bench.vm.luks[1]
    rotate(bench, BY_HAND, given=old)
    check_ended(bench, BY_HAND, {old})


def test_a_slot_of_somebody_else_is_never_taken() -> None:
    bench = installed(VAULT)
    bench.vm.luks[17] = "theirs"
    with pytest.raises(StateError, match=r"key slot 17 of its disk \S+ is not ours"):
        rotate(bench)
    assert bench.vm.luks[17] == "theirs"
    del bench.vm.luks[17]
    bench.vm.luks |= {0: "the user's", 5: "theirs"}
    rotate(bench)
    assert set(bench.vm.luks) == {0, 1, 2, 3, 5}
    assert ["key slot 5" in text for text in bench.reporter.warnings] == [True]


@pytest.mark.parametrize(
    ("before", "phase", "why"), [(SPEC, Phase.READY, "no encrypted"), (VAULT, Phase.STOPPED, "stopped")]
)
def test_only_an_encrypted_machine_that_runs_gets_new_keys(before: MachineSpec, phase: Phase, why: str) -> None:
    bench = installed(before)
    bench.run(phase, spec=before)
    with pytest.raises(NoPath, match=why):
        rotate(bench)
    assert not bench.keys.disks or {use for _, use in bench.keys.disks} == {"tool"}


def test_a_tpm_that_opens_nothing_yet_gets_no_key() -> None:
    """The first stage of the next boot would not ask it."""
    bench = installed(VAULT)
    with pytest.raises(NoPath, match="no TPM opens its disk now"):
        rotate(bench, BY_TPM)
    assert set(bench.vm.luks) == {1, 2, 3}


BY_TPM = encrypted(REGISTERS | {"tool": True}, {"folder": "/vault"})


def reboot(bench: Bench, *, asked: bool = False) -> None:
    bench.run(Phase.STOPPED, spec=BY_TPM)
    bench.vm.opened = bench.vm.boots + 1 if asked else 0
    bench.run(spec=BY_TPM)


def test_with_a_tpm_the_old_keys_stay_until_a_boot_has_shown_that_it_unseals_the_new_one() -> None:
    bench = installed(BY_TPM)
    before = dict(bench.vm.luks)
    rotate(bench, BY_TPM)
    (told,) = bench.reporter.warnings
    assert "reboot web" in spell(told) and "recovery rotate web" in spell(told)
    assert before.items() <= bench.vm.luks.items() and bench.vm.first_stage == bench.vm.luks[18] != before[2]
    assert bench.vault.held[bench.vm.luks_uuid] == bench.vm.luks[17] and not bench.vm.brought
    check_opens(bench, BY_TPM)
    (waits,) = check_machine(bench.record.machine, bench.world(spec=BY_TPM), described=True).problems
    assert "wait for a boot at which its TPM opens it" in waits
    with pytest.raises(StateError, match="wait for a boot") as refused:
        rotate(bench, BY_TPM)
    assert "reboot web" in spell(refused.value.hint)
    reboot(bench)
    rotate(bench, BY_TPM)
    check_ended(bench, BY_TPM, set(before.values()))
    assert bench.vm.first_stage == bench.vm.luks[2] and "waits" not in bench.record.machine.facts.luks


def test_a_tpm_that_did_not_unseal_the_new_key_gets_it_once_more() -> None:
    bench = installed(BY_TPM)
    before = dict(bench.vm.luks)
    rotate(bench, BY_TPM)
    new = bench.vm.luks[18]
    reboot(bench, asked=True)
    rotate(bench, BY_TPM)
    assert any("did not open its disk at this boot" in text for text in bench.reporter.warnings)
    assert before.items() <= bench.vm.luks.items() and bench.vm.first_stage == new
    reboot(bench)
    rotate(bench, BY_TPM)
    check_ended(bench, BY_TPM, set(before.values()))


def test_keys_that_wait_for_a_boot_are_made_again_where_the_description_says_others_by_then() -> None:
    bench = installed(BY_TPM)
    before = dict(bench.vm.luks)
    rotate(bench, BY_TPM)
    reboot(bench)
    without = encrypted(REGISTERS, {"folder": "/vault"})
    rotate(bench, without)
    assert before.items() <= bench.vm.luks.items() and "waits" in bench.record.machine.facts.luks
    reboot(bench)
    rotate(bench, without)
    check_ended(bench, without, set(before.values()))
    assert bench.record.machine.facts.luks["slots"] == "1 recovery, 2 tpm2 7+15"
    assert "handed" not in bench.record.machine.facts.luks


def test_a_rotation_with_a_tpm_that_broke_anywhere_is_finished_after_a_boot() -> None:
    first = installed(BY_TPM)
    old = set(first.vm.luks.values())
    second = deepcopy(first)
    rotate(second, BY_TPM)
    third = deepcopy(second)
    reboot(second)
    reboot(third, asked=True)
    for ready, least in ((first, 16), (second, 16), (third, 8)):
        for at in range(1000):
            bench = deepcopy(ready)
            fuse = Fuse(at)
            with contextlib.suppress(Crash):
                rotate(bench, BY_TPM, fuse)
            check_opens(bench, BY_TPM, at)
            if fuse.count <= at:
                assert at >= least, f"the sweep walked only {at} boundaries"
                break
            luks = bench.record.machine.facts.luks
            if bench.record.machine.facts.errand or not (luks.get("waits") or luks.get("rotations")):
                rotate(bench, BY_TPM)
            if bench.record.machine.facts.luks.get("waits"):
                reboot(bench)
                check_opens(bench, BY_TPM, at)
                rotate(bench, BY_TPM)
            check_ended(bench, BY_TPM, old)
