"""A layout that changes after the installation: the plan and the check say so, and nothing is laid out again."""

from dataclasses import replace

import pytest

from nixops_proxmox.errors import NeedsPermission
from nixops_proxmox.kinds.machine.laid_out import LayoutChange, find_layout_change, with_layout
from nixops_proxmox.kinds.machine.plans import plan_reinstall
from nixops_proxmox.messages.checks import check_json, check_remarks, is_well
from nixops_proxmox.messages.plans import describe, plan_json
from nixops_proxmox.model import Effect, Facts, Phase
from nixops_proxmox.operations.read_only import check_machine, describe_plan, plan_machine
from nixops_proxmox.spec import Encryption, InstallSpec, MachineSpec
from nixops_proxmox.spec.layouts import EMPTY
from tests.kinds.machine.cluster import SPEC, Bench

STORE = "/nix/store/{}-jq-1.7/bin/jq; lay-out"


def install(**words: str) -> InstallSpec:
    return InstallSpec.model_validate({"from": "iso", "iso": "local:iso/nixos.iso", **words})


def spec(**words: str) -> MachineSpec:
    return SPEC.model_copy(update={"install": install(**words)})


def installed(**words: str) -> Bench:
    bench = Bench()
    bench.run(spec=spec(**words))
    return bench


@pytest.mark.parametrize(
    ("before", "now", "have", "want"),
    [
        ({}, {"layout": "ext4"}, "", ""),
        ({"layout": "lvm"}, {"layout": "lvm"}, "", ""),
        ({"partition": "one"}, {"partition": "one"}, "", ""),
        ({"partition": STORE.format("a" * 32)}, {"partition": STORE.format("b" * 32)}, "", ""),
        ({"partition": f"set -eu\n{EMPTY}one"}, {"partition": "set -eu\none"}, "", ""),
        ({}, {"layout": "lvm"}, "ext4", "lvm"),
        ({"layout": "btrfs"}, {}, "btrfs", "ext4"),
        ({"partition": "one"}, {"partition": "two"}, "script", "script"),
        ({"partition": "one"}, {"layout": "lvm"}, "script", "lvm"),
        ({}, {"partition": "one"}, "ext4", "script"),
    ],
)
def test_another_layout_is_found_and_the_same_one_is_not(
    before: dict[str, str], now: dict[str, str], have: str, want: str
) -> None:
    facts = with_layout(Facts(), spec(**before))
    known_by_digest_alone = replace(facts, layout="")  # as an earlier version left it, which had no layouts by name
    for known in (facts, *([known_by_digest_alone] if "layout" not in before else [])):
        change = find_layout_change(known, spec(**now))
        assert (change.have, change.want) == (have, want) if change is not None else not have


ENCRYPTED = Encryption.model_validate({"unlock": {"tool": True}, "recovery": {"sink": {"none": True}}})


@pytest.mark.parametrize(
    ("have", "want"),
    [
        ("ext4", "encrypted"),
        ("encrypted", "ext4"),
        ("encrypted", "encrypted lvm"),
        ("encrypted lvm", "lvm"),
        ("encrypted lvm", "encrypted btrfs"),
    ],
)
def test_a_system_does_not_boot_from_disks_that_are_encrypted_and_should_not_be_or_the_other_way(
    have: str, want: str
) -> None:
    assert LayoutChange(have, want).breaks_boot
    assert not LayoutChange(want, want).breaks_boot


def test_an_encrypted_layout_is_known_by_the_layout_that_is_on_it() -> None:
    encrypted = spec(layout="lvm").model_copy(update={"encryption": ENCRYPTED})
    facts = with_layout(Facts(), encrypted)
    assert facts.layout == "encrypted lvm" and find_layout_change(facts, encrypted) is None
    change = find_layout_change(facts, encrypted.model_copy(update={"install": install(layout="btrfs")}))
    assert change == LayoutChange("encrypted lvm", "encrypted btrfs")
    assert change.to_stay == '`encryption` with `install.layout = "lvm"`'
    assert LayoutChange("encrypted", "lvm").to_stay == '`encryption` with `install.layout = "ext4"`'


def test_disks_that_were_encrypted_before_layouts_had_names_are_known_by_their_header() -> None:
    before = replace(with_layout(Facts(), spec()), layout="", luks={"root": "header"})
    change = find_layout_change(before, spec())
    assert (change and change.have) == "encrypted"


def test_nothing_is_said_of_disks_that_we_did_not_lay_out() -> None:
    assert find_layout_change(Facts(), spec(layout="lvm")) is None


def test_a_changed_script_is_said_in_the_plan_and_by_check_and_is_no_fault() -> None:
    bench = installed(partition="one")
    world = bench.world(spec=spec(partition="two"))
    planned = plan_machine(bench.record.machine, world)
    said = "the partition script has changed since the installation; the disks stay as they are"
    assert planned.effect is Effect.NOTHING
    assert any(said in line for line in describe(planned))
    assert plan_json(planned)["layout"] == {"have": "script", "want": "script"}
    checked = check_machine(bench.record.machine, world, described=True)
    assert any(said in line for line in check_remarks(checked))
    assert check_json(checked)["layout"] == {"have": "script", "want": "script"}
    assert is_well(checked)
    assert plan_json(plan_machine(bench.record.machine, bench.world(spec=spec(partition="one"))))["layout"] is None


def test_a_layout_from_which_the_new_system_does_not_boot_is_refused_before_anything_is_done() -> None:
    bench = installed(layout="btrfs")
    with pytest.raises(NeedsPermission, match="have the layout btrfs, and a system for ext4 does not boot") as refused:
        plan_machine(bench.record.machine, bench.world(spec=spec()))
    assert '`install.layout = "btrfs"`' in refused.value.hint
    assert bench.record.machine.phase is Phase.READY


def test_a_reinstall_lays_the_disks_out_as_they_are_described_by_now() -> None:
    bench = installed(layout="btrfs")
    world = bench.world(spec=spec(layout="lvm"))
    planned = describe_plan(plan_reinstall(bench.record.machine, world), world)
    assert (planned.effect, planned.layout) == (Effect.REINSTALL, None)
    bench.run(Phase.DEFINED, spec=spec(layout="lvm"))
    bench.run(spec=spec(layout="lvm"))
    assert bench.record.machine.facts.layout == "lvm"
    assert plan_machine(bench.record.machine, world).layout is None
