"""Encrypted data disks: made, kept by a reinstall, and given new keys; their system opens them wherever it breaks."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from copy import deepcopy

import pytest

from nixops_proxmox.cli.spelling import spelled as spell
from nixops_proxmox.errors import ConfigError, NeedsPermission, PveOutcomeUnknown, StateError
from nixops_proxmox.kinds.machine.encrypted import (
    disks_in,
    foresee_installation,
    kept_record,
    part_of,
    recorded_volumes,
    with_part,
)
from nixops_proxmox.kinds.machine.encrypted_layout import layout
from nixops_proxmox.kinds.machine.encryption import digest_of, luks_uuid, volume_uuid
from nixops_proxmox.kinds.machine.engine import run_errand
from nixops_proxmox.kinds.machine.errands.rotating import Rotate
from nixops_proxmox.kinds.machine.plans import plan_deploy, plan_reinstall
from nixops_proxmox.model import Phase
from nixops_proxmox.operations.disk_keys import try_keys
from nixops_proxmox.operations.pursuit import Pursuit
from nixops_proxmox.operations.read_only import check_machine
from nixops_proxmox.spec import Disk, MachineSpec
from tests.kinds.machine.cluster import Bench, Crash, Fuse
from tests.kinds.machine.test_crash import BANGS, IDS, broken, fresh
from tests.kinds.machine.test_encryption import FACTS, THUMBPRINT, VAULT, encrypted, tang


def with_disk(spec: MachineSpec, *, keep: bool = False, encrypt: bool = True) -> MachineSpec:
    disk = Disk(slot="scsi1", storage="local-lvm", size=8 << 30, keep=keep, encrypt=encrypt)
    return spec.model_copy(update={"disks": (*spec.disks[:1], disk)})


DATA = with_disk(VAULT)
KEPT = with_disk(VAULT, keep=True)
WITH_HEADER = with_disk(encrypted(tang(THUMBPRINT), {"folder": "/vault"}, header=True))


def check_data(bench: Bench, spec: MachineSpec, at: object = "") -> None:
    """The system's key opens the disk, and so does the one in the sink; nothing else is left anywhere."""
    disk, part = bench.vm.data["scsi1"], part_of(bench.record.machine.facts.luks, "scsi1")
    assert set(disk.luks) == {1, 2} and bench.vm.files["scsi1"] == disk.luks[2], at
    assert part["uuid"] == disk.uuid and part["slots"] == "1 recovery, 2 system", at
    assert part["recovery"] == digest_of(disk.luks[1]) and bench.vault.held[disk.uuid] == disk.luks[1], at
    kept = {(disk.uuid, "system"): disk.luks[2]} if spec.disks[1].keep else {}
    assert bench.keys.disks == {(bench.vm.luks_uuid, "tool"): bench.vm.luks[3]} | kept, at
    assert bench.vm.luks[1] != disk.luks[1] and bench.vm.luks[2] != disk.luks[2], at


@pytest.mark.parametrize(("bang", "spec"), [(BANGS[0], DATA), (BANGS[1], KEPT)], ids=IDS)
def test_an_installation_that_broke_anywhere_ends_with_a_data_disk_that_its_system_opens(
    bang: Callable[[], BaseException], spec: MachineSpec
) -> None:
    for at, bench in broken(bang, fresh, Phase.READY, at_least=48, spec=spec):
        for disk in bench.vm.data.values() if bench.cluster.vms else ():
            assert bench.vault.held[disk.uuid] == disk.luks[1], "a disk without its recovery key"
        assert bench.run(spec=spec).phase is Phase.READY, at
        check_data(bench, spec, at)
        assert bench.vm.data["scsi1"].uuid == luks_uuid(bench.record.machine.facts, "scsi1")


def installed(spec: MachineSpec) -> Bench:
    bench = Bench()
    bench.run(spec=spec)
    bench.reporter.warnings.clear()
    return bench


def reinstalls(ready: Bench, spec: MachineSpec) -> Iterator[tuple[int, Bench]]:
    for at in range(1000):
        bench = deepcopy(ready)
        fuse = Fuse(at)
        with contextlib.suppress(Crash, PveOutcomeUnknown):
            bench.run(Phase.DEFINED, fuse, spec=spec)
            bench.run(spec=spec, fuse=fuse)
        if fuse.count <= at:
            assert at >= 50, f"the sweep walked only {at} boundaries"
            return
        yield at, bench


def forget(bench: Bench) -> None:
    """Another operator, or another computer."""
    bench.keys.disks.clear()


@pytest.mark.parametrize("prepare", [lambda bench: None, forget], ids=["own store", "another store"])
def test_a_reinstall_that_broke_anywhere_keeps_the_disk_and_its_system_opens_it(
    prepare: Callable[[Bench], object],
) -> None:
    ready = installed(KEPT)
    first = deepcopy(ready.vm)
    prepare(ready)
    for at, bench in reinstalls(ready, KEPT):
        if bench.record.machine.phase is Phase.READY:
            bench.run(Phase.DEFINED, spec=KEPT)
        assert bench.run(spec=KEPT).phase is Phase.READY, at
        check_data(bench, KEPT, at)
        assert bench.vm.data == first.data, f"{at}: it was made again"
        assert bench.vm.luks_uuid != first.luks_uuid and not set(bench.vm.luks.values()) & set(first.luks.values())
        assert bench.reporter.warnings == [], at


def test_a_disk_that_is_not_kept_is_made_again_with_other_keys() -> None:
    bench = installed(DATA)
    before = bench.vm.data["scsi1"]
    bench.run(Phase.DEFINED, spec=DATA)
    assert bench.record.machine.facts.luks == {}
    bench.run(spec=DATA)
    after = bench.vm.data["scsi1"]
    assert after.uuid != before.uuid and not set(after.luks.values()) & set(before.luks.values())
    check_data(bench, DATA)


def test_without_the_store_and_the_system_the_recovery_key_opens_a_kept_disk_and_is_told() -> None:
    bench = installed(KEPT)
    forget(bench)
    bench.run(Phase.STOPPED, spec=KEPT)
    bench.run(Phase.DEFINED, spec=KEPT)
    bench.run(spec=KEPT)
    disk = bench.vm.data["scsi1"]
    assert bench.vm.files["scsi1"] == disk.luks[1] == bench.vault.held[disk.uuid]
    (warning,) = bench.reporter.warnings
    assert "scsi1 is opened with its recovery key" in warning and "recovery rotate web" in spell(warning)
    assert (disk.uuid, "system") not in bench.keys.disks, "a recovery key is in no store"
    run_errand(Rotate(), bench.record.machine, bench.world(spec=KEPT), bench.record)
    check_data(bench, KEPT)


def test_nothing_is_erased_where_no_key_opens_the_disk_to_keep() -> None:
    bench = installed(KEPT)
    forget(bench)
    bench.run(Phase.STOPPED, spec=KEPT)
    bench.vault.is_readable = False
    before, made = bench.record.machine, deepcopy(bench.vm)
    with pytest.raises(StateError, match=r"no key for its disk scsi1 .* is known here") as refused:
        bench.run(Phase.DEFINED, spec=KEPT)
    assert bench.vm.data == made.data and bench.record.machine.facts.luks == before.facts.luks
    assert "vault" in refused.value.hint and not bench.vm.running


def test_a_key_that_does_not_open_the_kept_disk_stops_it_before_anything_is_written() -> None:
    bench = installed(KEPT)
    bench.run(Phase.DEFINED, spec=KEPT)
    disk = bench.vm.data["scsi1"]
    bench.keys.disks[disk.uuid, "system"] = "another"
    bench.vault.held[disk.uuid] = "another, too"
    root = dict(bench.vm.luks)
    with pytest.raises(StateError, match="no key for its disk scsi1"):
        bench.run(spec=KEPT)
    assert bench.vm.luks == root and not bench.vm.mounted and bench.vault.held[disk.uuid] == "another, too"


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (with_disk(VAULT, encrypt=False), DATA, "has `encrypt` for scsi1, which the installation did not"),
        (DATA, with_disk(VAULT, encrypt=False), "scsi1 is encrypted, and the description has no `encrypt`"),
    ],
)
def test_a_system_that_could_not_open_its_data_disks_is_not_activated(
    before: MachineSpec, after: MachineSpec, why: str
) -> None:
    bench = installed(before)
    with pytest.raises(NeedsPermission, match=why) as refused:
        plan_deploy(bench.record.machine, bench.world(spec=after))
    assert "reinstall web" in spell(refused.value.hint)
    assert plan_reinstall(bench.record.machine, bench.world(spec=after)).legs
    kept = after.model_copy(update={"disks": (after.disks[0], after.disks[1].model_copy(update={"keep": True}))})
    with pytest.raises(StateError, match=why):
        plan_reinstall(bench.record.machine, bench.world(spec=kept))
    again = kept.model_copy(update={"install": kept.install.model_copy(update={"asked": 1})})
    with pytest.raises(StateError, match=why):
        plan_deploy(bench.record.machine, bench.world(spec=again))


def test_a_disk_that_is_not_described_any_more_is_nobodys_hindrance() -> None:
    bench = installed(DATA)
    assert plan_deploy(bench.record.machine, bench.world(spec=VAULT)).blocked is None
    assert recorded_volumes(bench.record.machine.facts.luks, VAULT) == ("root",)


def test_a_rotation_that_broke_anywhere_gives_every_disk_new_keys_in_the_end() -> None:
    ready = installed(KEPT)
    old = {*ready.vm.luks.values(), *ready.vm.data["scsi1"].luks.values()}
    for at in range(1000):
        bench = deepcopy(ready)
        fuse = Fuse(at)
        with contextlib.suppress(Crash):
            run_errand(Rotate(), bench.record.machine, bench.world(fuse, spec=KEPT), bench.record)
        disk = bench.vm.data["scsi1"]
        assert bench.vm.files["scsi1"] in disk.luks.values(), f"{at}: its system does not open it"
        assert bench.vault.held[disk.uuid] in disk.luks.values(), f"{at}: the sink's key opens nothing"
        assert bench.keys.disks.get((disk.uuid, "system")) in disk.luks.values(), f"{at}: the store's key opens nothing"
        if fuse.count <= at:
            assert at >= 36, f"the sweep walked only {at} boundaries"
            break
        luks = bench.record.machine.facts.luks
        if not luks.get("scsi1 rotations") or bench.record.machine.facts.errand:
            run_errand(Rotate(), bench.record.machine, bench.world(spec=KEPT), bench.record)
        check_data(bench, KEPT, at)
        assert not {*bench.vm.luks.values(), *disk.luks.values()} & old and not bench.vm.brought, at
        assert "pending" not in str(bench.record.machine.facts.luks), at


def test_the_headers_of_all_disks_go_to_the_sink() -> None:
    bench = installed(WITH_HEADER)
    disk, luks = bench.vm.data["scsi1"], bench.record.machine.facts.luks
    assert luks["header"] == luks["scsi1 header"] == "vault"
    assert disk.luks[1].encode() in bench.vault.headers[disk.uuid] and len(bench.vault.headers) == 2


def test_a_sink_that_fails_stops_it_before_any_disk_is_written() -> None:
    bench = Bench()
    bench.vault.refuses = True
    with pytest.raises(ConfigError, match="the sink is full"):
        bench.run(spec=DATA)
    assert not bench.vm.partitioned and not bench.vm.keys and not bench.vm.data


def test_no_key_of_a_data_disk_is_in_the_record_or_in_a_script() -> None:
    bench = installed(KEPT)
    facts = bench.record.machine.facts
    keys = [*bench.vm.luks.values(), *bench.vm.data["scsi1"].luks.values()]
    scripts = layout(KEPT, facts) + layout(KEPT, facts, ["scsi1"])
    assert not [key for key in keys if key in str(facts.to_json()) or key in scripts]


def test_every_disk_is_proven_before_the_keys_are_overwritten_and_a_kept_one_is_not_touched() -> None:
    made, kept = layout(DATA, FACTS), layout(KEPT, FACTS, ["scsi1"])
    for script in (made, kept):
        subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    uuid = volume_uuid(FACTS, "scsi1")
    assert made.index('empty "$DISK_scsi1"') < made.index(f"--uuid {uuid} --label nixos-scsi1")
    assert (
        made.rindex("--test-passphrase")
        < made.index("/etc/nixops-proxmox/encryption/scsi1.key")
        < made.index("shred -u")
    )
    assert "$DISK_scsi1" not in kept and "scsi1.key" in kept and kept.count("luksFormat") == 1


def test_check_and_the_recovery_test_look_at_every_disk() -> None:
    bench = installed(DATA)
    machine, world = bench.record.machine, bench.world(spec=DATA)
    assert check_machine(machine, world, described=True).problems == ()
    proofs = try_keys(Pursuit(machine, world, bench.record))
    assert {volume: (proof.slot, proof.is_well) for volume, proof in proofs.items()} == {
        "root": (1, True),
        "scsi1": (1, True),
    }
    bench.vm.data["scsi1"].luks[7] = bench.vm.data["scsi1"].luks.pop(1)
    strange, missing = check_machine(machine, world, described=True).problems
    assert "disk scsi1" in strange and "key slot 7" in strange and "disk scsi1" in missing and "recovery" in missing
    (proof,) = try_keys(Pursuit(machine, world, bench.record), volume="scsi1").values()
    assert proof.slot == 7 and not proof.is_well
    given = try_keys(Pursuit(machine, world, bench.record), given=bench.vm.luks[1])
    assert list(given) == ["root"]
    with pytest.raises(ConfigError, match="no encrypted disk scsi9"):
        try_keys(Pursuit(machine, world, bench.record), volume="scsi9")


def test_a_plan_says_which_disks_are_encrypted_and_which_are_kept() -> None:
    luks = installed(KEPT).record.machine.facts.luks
    (made,) = foresee_installation(KEPT, {})
    assert made == "encryption: LUKS is made on the first disk and scsi1; a recovery key for each goes to /vault"
    first, kept = foresee_installation(KEPT, luks)
    assert "on the first disk; a" in first and "scsi1 is kept as it is" in kept
    assert "no recovery key" in foresee_installation(encrypted(tang(THUMBPRINT), {"none": True}), {})[0]
    assert foresee_installation(with_disk(VAULT).model_copy(update={"encryption": None}), luks) == ()


def test_what_is_known_of_one_volume_is_apart_from_the_others() -> None:
    luks = {"uuid": "a", "tang keeper": "http://x y", "scsi1 uuid": "b", "scsi11 uuid": "c", "virtio0 slots": "d"}
    assert disks_in(luks) == ("scsi1", "scsi11", "virtio0")
    assert part_of(luks, "root") == {"uuid": "a", "tang keeper": "http://x y"} and part_of(luks, "scsi1") == {
        "uuid": "b"
    }
    changed = with_part(luks, "scsi1", {"slots": "e"})
    assert part_of(changed, "scsi1") == {"slots": "e"} and part_of(changed, "scsi11") == {"uuid": "c"}
    assert part_of(with_part(luks, "root", {}), "root") == {}
    assert kept_record(luks, ["scsi11"]) == {"scsi11 uuid": "c"}
