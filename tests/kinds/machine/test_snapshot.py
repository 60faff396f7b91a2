"""A snapshot before a new system: taken before it, removed when it is confirmed, and never left over."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from typing_extensions import override

from nixops_proxmox.core.ports import NoteTask
from nixops_proxmox.errors import DeployError, NoPath, NotConfirmed
from nixops_proxmox.kinds.machine.no_volumes import NoVolumes
from nixops_proxmox.kinds.machine.plans import plan_deploy
from nixops_proxmox.kinds.machine.shape import Permissions
from nixops_proxmox.model import Facts, Machine, Phase
from nixops_proxmox.operations.read_only import plan_machine
from nixops_proxmox.spec import DeploySpec, HealthSpec
from tests.kinds.machine.cluster import SPEC, SYSTEM, Bench, Builder, Crash, FakeVm, Fuse, Hypervisor, Saves

NEW = "/nix/store/00000000000000000000000000000000-new"
KERNEL = "/nix/store/00000000000000000000000000000000-web-linux-2"
SAFE = SPEC.model_copy(update={"deploy": DeploySpec(snapshot=True)})
ILL = SPEC.model_copy(update={"deploy": DeploySpec(snapshot=True, health=HealthSpec(tcp=(80,)))})
ALLOWED = Permissions(allow_reboot=True)


def deployed() -> Bench:
    bench = Bench()
    bench.run(spec=SAFE)
    assert bench.vm.snapshots == {}, "nothing can be lost by a first system"
    return bench


class Careful(Builder):
    """A new system never meets disks that have no snapshot."""

    @override
    def begin_probation(self, system: str, shell: Any, number: str, *rest: Any) -> Any:
        vm: FakeVm = shell.vm
        assert [one.active for one in vm.snapshots.values()] == [vm.active]
        return super().begin_probation(system, shell, number, *rest)


class Counting(Hypervisor):
    @override
    def effect(self, name: str, act: Any, note: NoteTask | None = None) -> None:
        super().effect(name, act, note)
        assert all(len(vm.snapshots) <= 1 for vm in self.cluster.vms.values()), "one, and no more"


@pytest.mark.parametrize(("system", "permissions"), [(NEW, None), (KERNEL, ALLOWED)], ids=["live", "by a boot"])
def test_it_is_there_before_the_new_system_and_gone_when_that_is_confirmed(
    system: str, permissions: Permissions | None
) -> None:
    bench = deployed()
    machine = bench.run(system=system, spec=SAFE, permissions=permissions, builder=Careful, hypervisor=Counting)
    assert (machine.phase, machine.facts.system, machine.facts.snapshot) == (Phase.READY, system, {})
    assert bench.vm.snapshots == {}
    assert [one for one in bench.cluster.calls if "snapshot" in one] == ["take_snapshot", "delete_snapshot"]


@pytest.mark.parametrize(("system", "permissions"), [(NEW, None), (KERNEL, ALLOWED)], ids=["live", "by a boot"])
def test_it_is_kept_and_offered_while_the_new_system_did_not_stay(system: str, permissions: Permissions | None) -> None:
    bench = deployed()
    with pytest.raises(NotConfirmed) as failed:
        bench.run(system=system, spec=ILL, permissions=permissions)
    (name,) = bench.vm.snapshots
    assert bench.record.machine.facts.snapshot == {"name": name, "of": SYSTEM}
    assert f"snapshot-rollback {name} web" in failed.value.message
    bench.run(spec=ILL)
    assert bench.vm.snapshots == {} and bench.record.machine.facts.snapshot == {}


def test_another_try_begins_with_another_snapshot() -> None:
    bench = deployed()
    with pytest.raises(NotConfirmed):
        bench.run(system=NEW, spec=ILL)
    before = set(bench.vm.snapshots)
    with pytest.raises(NotConfirmed):
        bench.run(system=NEW, spec=ILL, hypervisor=Counting)
    assert len(bench.vm.snapshots) == 1 and not before & set(bench.vm.snapshots)


def test_one_that_a_verb_without_description_left_is_removed_by_the_next_deploy() -> None:
    bench = deployed()
    with pytest.raises(NotConfirmed):
        bench.run(system=NEW, spec=ILL)
    bench.run(system="")
    assert bench.record.machine.phase is Phase.READY and bench.vm.snapshots
    bench.run()
    assert bench.vm.snapshots == {}


def test_snapshots_of_others_are_left_alone() -> None:
    bench = deployed()
    bench.vm.snapshots["nixops-proxmox-mine"] = bench.vm.saved(ram=False)
    bench.run(system=NEW, spec=SAFE)
    assert list(bench.vm.snapshots) == ["nixops-proxmox-mine"]


class WithVolume(NoVolumes):
    @override
    def attached(self, machine: Machine) -> Sequence[str]:
        return ["data"]


@pytest.mark.parametrize("why", ["volume", "storage"])
def test_where_none_can_be_taken_a_deploy_refuses_before_it_does_anything(why: str) -> None:
    bench = deployed()
    bench.vm.thick = why == "storage"
    world = bench.world(spec=SAFE, system=NEW)
    world = replace(world, volumes=WithVolume()) if why == "volume" else world
    calls = list(bench.cluster.calls)
    told = "which outlive it" if why == "volume" else "a storage of its disks has none"
    with pytest.raises(NoPath, match=rf"web: deploy\.snapshot: .*{told}"):
        plan_deploy(bench.record.machine, world)
    assert bench.cluster.calls == calls
    assert plan_deploy(bench.record.machine, replace(world, spec=SPEC)).moves, "without the option it goes on"


def test_a_plan_says_that_one_is_taken() -> None:
    bench = deployed()
    assert plan_machine(bench.record.machine, bench.world(spec=SAFE, system=NEW)).snapshot
    assert not plan_machine(bench.record.machine, bench.world(spec=SAFE)).snapshot
    assert not plan_machine(bench.record.machine, bench.world(system=NEW)).snapshot


class SlowSaves(Saves):
    """Its tasks go on when nobody waits for them."""

    @override
    def take_snapshot(self, facts: Facts, name: str, note: NoteTask, *, description: str, ram: bool) -> None:
        vm = self.cluster.get(facts)

        def begin() -> None:
            assert not self.cluster.running, "VM is locked (snapshot)"

        self.hypervisor.task("qmsnapshot", begin, lambda: vm.snapshots.update({name: vm.saved(ram=ram)}), note)


class Slow(Counting):
    @property
    @override
    def saves(self) -> Saves:
        return SlowSaves(self)


@pytest.mark.parametrize(("system", "ends"), [(NEW, "well"), (KERNEL, "ill")], ids=["live", "by a boot"])
def test_after_a_break_anywhere_none_is_left_over_and_there_was_never_more_than_one(system: str, ends: str) -> None:
    how: dict[str, Any] = {"permissions": ALLOWED, "hypervisor": Slow, "builder": Careful}
    for at in range(1000):
        bench, fuse = deployed(), Fuse(at)
        with contextlib.suppress(Crash, NotConfirmed):
            bench.run(fuse=fuse, system=system, spec=SAFE if ends == "well" else ILL, **how)
        if fuse.count <= at:
            assert at >= 15
            return
        for _ in range(2):  # the first one may still have to say what became of the system
            with contextlib.suppress(NotConfirmed):
                bench.run(system=system if ends == "well" else SYSTEM, spec=SAFE, **how)
        assert (bench.vm.snapshots, bench.record.machine.facts.snapshot) == ({}, {}), at
        assert not bench.cluster.running


def test_what_cannot_be_removed_is_said_and_tried_again() -> None:
    bench = deployed()

    class Stubborn(Saves):
        @override
        def delete_snapshot(self, facts: Facts, name: str, note: NoteTask) -> None:
            raise DeployError("the storage is busy")

    class Busy(Hypervisor):
        @property
        @override
        def saves(self) -> Saves:
            return Stubborn(self)

    with pytest.raises(DeployError, match="the storage is busy"):
        bench.run(system=NEW, spec=SAFE, hypervisor=Busy)
    assert (bench.vm.installed, bench.record.machine.facts.system) == (NEW, NEW), "it is confirmed"
    assert bench.run(system=NEW, spec=SAFE).phase is Phase.READY and bench.vm.snapshots == {}
