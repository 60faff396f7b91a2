"""A disk that PVE made larger is taken into use by its guest, now or later."""

from dataclasses import replace
from typing import Any

import pytest
from typing_extensions import override

from nixops_proxmox.errors import NoEndpoint
from nixops_proxmox.kinds.machine.growth import find_outgrown
from nixops_proxmox.kinds.machine.shape import Permissions
from nixops_proxmox.model import Facts, GrownDisk, Machine, Phase
from nixops_proxmox.spec import MachineSpec
from tests.kinds.machine.cluster import SPEC, Bench, Guest


class AwayGuest(Guest):
    @override
    def meet_system(self, machine: Machine, spec: MachineSpec) -> Facts:
        raise NoEndpoint(f"{machine.name}: no address answered")


class HinderedGuest(Guest):
    @override
    def grow_disk(self, *_: Any) -> GrownDisk:
        return GrownDisk("scsi0", hindrance="partition 2 (swap) lies behind partition 1 (ext4)")


LARGER = SPEC.model_copy(update={"disks": (SPEC.disks[0].model_copy(update={"size": 9 << 30}),)})


def test_what_cannot_grow_in_the_guest_now_is_pending_until_it_can() -> None:
    bench = Bench()
    bench.run()
    with pytest.raises(NoEndpoint):
        bench.run(spec=LARGER, guest=AwayGuest)
    assert bench.vm.disk == 9 << 30 and bench.vm.filled == 8 << 30
    assert bench.reporter.warnings == [
        "scsi0 is larger in PVE, and not yet in the guest: the next deploy that reaches it goes on"
    ]
    assert bench.run(spec=LARGER, guest=HinderedGuest).phase is Phase.READY, "the system is fine"
    assert "scsi0 is not grown in the guest: partition 2 (swap) lies behind" in bench.reporter.warnings[-1]
    assert find_outgrown(bench.record.machine.facts, LARGER.disks) == LARGER.disks, "it stays to be done"
    bench.run(spec=LARGER)
    assert bench.vm.filled == 9 << 30 and find_outgrown(bench.record.machine.facts, LARGER.disks) == ()


def test_a_disk_that_is_kept_or_left_alone_grows_in_pve_only() -> None:
    for words in ({"keep": True}, {"grow": False}):
        alone = LARGER.model_copy(update={"disks": (LARGER.disks[0].model_copy(update=words),)})
        bench = Bench()
        bench.run(spec=SPEC)
        assert bench.run(spec=alone).phase is Phase.READY
        assert (bench.vm.disk, bench.vm.filled) == (9 << 30, 8 << 30)
        allowed = alone.model_copy(update={"disks": (alone.disks[0].model_copy(update={"grow": True}),)})
        assert bench.run(spec=allowed).phase is Phase.READY
        assert bench.vm.filled == 9 << 30, "it is still known that the guest does not use all of it"


def test_of_a_machine_whose_record_is_older_the_disk_grows_all_the_same() -> None:
    bench = Bench()
    machine = bench.run()
    bench.record.machine = machine.moved(machine.phase, replace(machine.facts, sizes={}))
    bench.run()
    assert bench.record.machine.facts.sizes == {}, "nothing is to be grown where nothing is known"
    bench.run(spec=LARGER)
    assert bench.vm.filled == 9 << 30


def test_a_start_grows_nothing() -> None:
    bench = Bench()
    bench.run()
    with pytest.raises(NoEndpoint):
        bench.run(spec=LARGER, guest=AwayGuest)
    bench.run(spec=LARGER, permissions=Permissions(adjust=False))
    assert bench.vm.filled == 8 << 30
