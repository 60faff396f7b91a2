"""Moves, turns, failures, refusals."""

import pytest
from typing_extensions import override

from nixops_proxmox.errors import NeedsPermission, NoPath, PveRefused, VmidTaken, WrongDisk
from nixops_proxmox.kinds.machine.shape import Permissions
from nixops_proxmox.model import Phase
from tests.kinds.machine.cluster import COPIES, SPEC, SYSTEM, Bench, FakeVm, Fuse, Hypervisor

OTHER = "/nix/store/11111111111111111111111111111111-system"


def test_a_machine_goes_from_nothing_to_ready() -> None:
    bench = Bench()
    machine = bench.run()
    assert machine.phase is Phase.READY
    assert machine.facts.system == SYSTEM
    assert machine.facts.endpoint is not None
    assert bench.vm.uuid == machine.facts.uuid
    assert machine.facts.macs and machine.facts.macs[0].startswith("bc:24:11:")


def test_deploying_a_ready_machine_again_does_nothing() -> None:
    bench = Bench()
    bench.run()
    calls, steps = list(bench.cluster.calls), list(bench.reporter.steps)
    bench.run()
    assert (bench.cluster.calls, bench.reporter.steps) == (calls, steps)


def test_a_taken_vmid_is_a_turn_and_another_one_is_chosen() -> None:
    bench = Bench()

    def steal(vmid: int) -> None:
        bench.cluster.vms[vmid] = FakeVm(vmid, "somebody-else", 512)

    bench.run(Phase.ABSENT)
    original = Hypervisor.choose_place
    stolen: list[int] = []

    class Thief(Hypervisor):
        @override
        def create_vm(self, spec, machine, note, keys=()):  # type: ignore[no-untyped-def]
            if not stolen:
                stolen.append(machine.facts.vmid)
                steal(machine.facts.vmid)
            super().create_vm(spec, machine, note)

    assert original is Hypervisor.choose_place
    machine = bench.run(hypervisor=Thief)
    assert machine.phase is Phase.READY
    assert machine.facts.vmid != stolen[0]
    assert bench.cluster.vms[stolen[0]].uuid == "somebody-else"


def test_a_vmid_that_is_always_taken_ends_with_an_error_and_not_in_a_loop() -> None:
    bench = Bench()

    class Full(Hypervisor):
        @override
        def create_vm(self, spec, machine, note, keys=()):  # type: ignore[no-untyped-def]
            raise VmidTaken("taken")

    with pytest.raises(NoPath, match="went back"):
        bench.run(hypervisor=Full)


def test_a_refusal_is_journaled_and_raised() -> None:
    bench = Bench()

    class Refuses(Hypervisor):
        @override
        def create_vm(self, spec, machine, note, keys=()):  # type: ignore[no-untyped-def]
            raise PveRefused("storage 'nope' does not exist")

    with pytest.raises(PveRefused, match="nope"):
        bench.run(hypervisor=Refuses)
    assert bench.record.machine.phase is Phase.RESERVED
    assert bench.record.entries[-1] == ("Create the VM and its disks", "failed: storage 'nope' does not exist")


def test_a_machine_that_was_switched_off_is_started_again() -> None:
    bench = Bench()
    bench.run()
    bench.vm.stop()
    assert bench.run().phase is Phase.READY
    assert bench.vm.running


def test_an_installer_that_was_restarted_partitions_again_because_the_record_accounts_for_the_data() -> None:
    bench = Bench()
    fuse = Fuse()
    bench.run(Phase.READY, fuse, enough=lambda m: m.phase is Phase.PARTITIONED)
    bench.vm.stop()
    bench.vm.start()
    assert bench.run().phase is Phase.READY


def test_a_disk_with_data_that_is_not_accounted_for_is_refused() -> None:
    bench = Bench()
    bench.run(enough=lambda m: m.phase is Phase.REACHABLE)
    bench.vm.partitioned = True
    with pytest.raises(WrongDisk):
        bench.run()


def test_a_claim_is_about_the_volume_that_was_claimed() -> None:
    """Whatever the record promised earlier: another volume in the slot is looked at for data."""
    bench = Bench()
    bench.run(enough=lambda m: m.phase is Phase.PARTITIONED)
    assert bench.record.machine.facts.volumes == {"scsi0": bench.vm.volume}
    bench.vm.stop()
    bench.vm.volume = "local-lvm:vm-100-disk-7"
    with pytest.raises(WrongDisk):
        bench.run()
    bench.vm.partitioned = False
    assert bench.run().phase is Phase.READY


def test_a_copy_is_not_made_anew_over_volumes_that_nobody_was_told_of() -> None:
    bench = Bench()
    spec = COPIES["image"]
    bench.run(spec=spec)
    bench.vm.lost = ("unused0: local-lvm:vm-100-disk-9",)
    with pytest.raises(NeedsPermission, match="unused0"):
        bench.run(Phase.RESERVED, spec=spec)
    assert bench.vm.lost
    bench.run(Phase.RESERVED, spec=spec, permissions=Permissions(lose_disks=True))
    assert not bench.cluster.vms


def test_another_system_is_only_activated() -> None:
    bench = Bench()
    bench.run()
    calls = list(bench.cluster.calls)
    machine = bench.run(system=OTHER)
    assert machine.facts.system == OTHER and bench.vm.active == OTHER
    assert bench.cluster.calls == calls


def test_more_memory_waits_for_a_restart_unless_that_is_allowed() -> None:
    bench = Bench()
    bench.run()
    more = SPEC.model_copy(update={"memory": 2048})
    bench.run(spec=more)
    assert bench.vm.pending == {"memory"}
    assert any("--allow-reboot" in warning for warning in bench.reporter.warnings)
    boots = bench.vm.boots
    bench.run(spec=more, permissions=Permissions(allow_reboot=True))
    assert not bench.vm.pending and bench.vm.boots == boots + 1


def test_a_pending_boot_order_restarts_nothing_by_itself() -> None:
    """PVE makes one itself whenever a CD drive joins or a boot device leaves."""
    bench = Bench()
    bench.run()
    bench.vm.pending, boots = {"boot"}, bench.vm.boots
    machine = bench.run(spec=SPEC.model_copy(update={"memory": 2048}))
    assert (machine.phase, bench.vm.boots, bench.vm.pending) == (Phase.READY, boots, {"boot", "memory"})


def test_an_installer_that_would_boot_next_is_taken_back_without_a_restart() -> None:
    bench = Bench()
    bench.run()
    bench.vm.boot, boots = "installer", bench.vm.boots
    machine = bench.run(spec=SPEC.model_copy(update={"memory": 2048}))
    assert (machine.phase, bench.vm.boots, bench.vm.boot) == (Phase.READY, boots, "disk")


def test_a_machine_without_a_described_device_is_not_ready_until_it_is_there() -> None:
    bench = Bench()
    bench.run()
    bench.vm.pending = {"net1", "memory"}
    with pytest.raises(NeedsPermission, match="the running VM does not have net1") as told:
        bench.run()
    assert "--allow-reboot" in str(told.value.hint)
    assert any(warning.startswith("memory: this takes effect") for warning in bench.reporter.warnings)
    assert bench.run(permissions=Permissions(allow_reboot=True)).phase is Phase.READY
    assert not bench.vm.pending
    bench.vm.pending = {"memory"}
    assert bench.run().phase is Phase.READY


def test_a_change_that_cannot_be_made_in_place_changes_nothing_and_says_so() -> None:
    bench = Bench()
    bench.run()

    class Shrinks(Hypervisor):
        @override
        def changes(self, vm, spec, machine):  # type: ignore[no-untyped-def]
            from nixops_proxmox.model import Change

            return [Change("scsi0", "8G", "4G", forbidden="a disk cannot shrink")]

    with pytest.raises(NeedsPermission, match="scsi0 from 8G to 4G"):
        bench.run(hypervisor=Shrinks)
    assert "apply_changes" not in bench.cluster.calls


def test_a_reinstall_keeps_vmid_uuid_macs_and_host_key() -> None:
    bench = Bench()
    before = bench.run().facts
    bench.run(Phase.DEFINED)
    after = bench.run().facts
    assert (after.vmid, after.uuid, after.macs, after.host_key) == (
        before.vmid,
        before.uuid,
        before.macs,
        before.host_key,
    )
    assert after.round == before.round + 1
    assert bench.cluster.calls.count("create_vm") == 1


def test_rescue_boots_the_installer_beside_the_system_and_back() -> None:
    bench = Bench()
    bench.run()
    machine = bench.run(Phase.RESCUE)
    assert bench.vm.system == "installer" and machine.facts.installer_keys
    assert bench.run().phase is Phase.READY
    assert bench.vm.system == "installed"


def test_a_changed_partition_script_is_told_and_not_run() -> None:
    bench = Bench()
    bench.run()
    changed = SPEC.model_copy(update={"install": SPEC.install.model_copy(update={"partition": "other"})})
    bench.run(spec=changed, system=OTHER)
    assert any("reinstall web" in warning for warning in bench.reporter.warnings)
    assert bench.vm.boots == 2


@pytest.mark.parametrize("way", COPIES)
def test_a_copied_machine_goes_from_nothing_to_ready_without_an_installer(way: str) -> None:
    bench = Bench()
    machine = bench.run(spec=COPIES[way])
    assert machine.phase is Phase.READY and machine.facts.installed_by == COPIES[way].install.source.value
    assert machine.facts.system == SYSTEM and machine.facts.endpoint is not None
    uuid = machine.facts.uuid
    by_disc = f"told by local:iso/{uuid}.iso"  # which holds that key
    assert bench.vm.host_key == (by_disc if way == "cloud-init" else bench.keys.host_key(uuid)[0])
    assert bench.vm.boots == 1 and not bench.vm.partitioned
    calls, steps = list(bench.cluster.calls), list(bench.reporter.steps)
    bench.run(spec=COPIES[way])
    assert (bench.cluster.calls, bench.reporter.steps) == (calls, steps)


def test_a_copy_with_a_disk_to_be_kept_is_not_made_anew() -> None:
    bench = Bench()
    bench.run(spec=COPIES["image"])
    kept = tuple(disk.model_copy(update={"keep": True}) for disk in SPEC.disks)
    with pytest.raises(NeedsPermission, match="scsi0 must be kept"):
        bench.run(Phase.RESERVED, spec=COPIES["image"].model_copy(update={"disks": kept}))
    assert bench.vm.running


def test_a_copy_whose_discarding_was_cut_short_goes_on_when_asked_again() -> None:
    bench = Bench()
    before = bench.run(spec=COPIES["image"]).facts
    bench.cluster.vms.clear()
    machine = bench.run(Phase.RESERVED, spec=COPIES["image"])
    assert (machine.facts.uuid, machine.facts.vmid) == (before.uuid, before.vmid)
    assert bench.run(spec=COPIES["image"]).phase is Phase.READY
