"""What a plan says of a deploy that is refused, and of one that finds all as described."""

from collections.abc import Sequence

import pytest
from typing_extensions import override

from nixops_proxmox.errors import NeedsPermission
from nixops_proxmox.kinds.machine.shape import Permissions
from nixops_proxmox.messages.plans import describe, footer
from nixops_proxmox.model import Change, Effect, Machine, Phase, Vm
from nixops_proxmox.operations.read_only import Planned, plan_machine
from nixops_proxmox.spec import MachineSpec
from tests.kinds.machine.cluster import Bench, Hypervisor

FORBIDDEN = Change("scsi0", "9G", "8G", forbidden="PVE cannot shrink a disk")
UNSURE = Change("scsi1", "", "local-lvm:1", permission="unused0 may be this disk")


def hypervisor_with(*changes: Change) -> type[Hypervisor]:
    class Differing(Hypervisor):
        @override
        def changes(self, vm: Vm, spec: MachineSpec, machine: Machine) -> Sequence[Change]:
            return (*changes, Change("memory", "512", "640", restart=True))

    return Differing


def plan(bench: Bench, hypervisor: type[Hypervisor] = Hypervisor, *, allow_recreate: bool = False) -> Planned:
    permissions = Permissions(allow_reboot=True, allow_recreate=allow_recreate)
    return plan_machine(bench.record.machine, bench.world(hypervisor=hypervisor, permissions=permissions))


@pytest.mark.parametrize("change", [FORBIDDEN, UNSURE], ids=["forbidden", "without permission"])
def test_a_plan_of_what_a_deploy_refuses_promises_nothing(change: Change) -> None:
    bench = Bench()
    bench.run()
    found = plan(bench, hypervisor_with(change))
    assert (found.effect, found.moves, found.restart) == (Effect.REFUSED, (), ())
    said = describe(found)
    assert said[0] == "web: drifted, it cannot be changed like this; a deploy changes nothing and says why"
    assert footer([found], []) == "1 that cannot be deployed. Downtime: none."
    with pytest.raises(NeedsPermission, match="cannot be changed in place"):
        bench.run(hypervisor=hypervisor_with(change))


def test_what_is_permitted_is_not_refused() -> None:
    bench = Bench()
    bench.run()
    assert plan(bench, hypervisor_with(UNSURE), allow_recreate=True).effect is Effect.RESTART
    assert plan(bench, hypervisor_with(FORBIDDEN), allow_recreate=True).effect is Effect.REFUSED


def test_a_machine_that_is_as_described_after_a_refusal_is_only_looked_at() -> None:
    bench = Bench()
    bench.run()
    with pytest.raises(NeedsPermission):
        bench.run(hypervisor=hypervisor_with(FORBIDDEN))
    found = plan(bench)
    assert (found.phase, found.effect) == (Phase.DRIFTED, Effect.GO_ON)
    assert describe(found)[0] == "web: drifted, nothing differs; a deploy looks whether it is ready"
    boots = bench.vm.boots
    assert bench.run().phase is Phase.READY and bench.vm.boots == boots
    assert plan(bench).effect is Effect.NOTHING
