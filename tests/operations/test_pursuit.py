"""What verbs mean for one machine, on the core's own stand-ins; and what verbs that only look may not do."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from typing_extensions import override

from nixops_proxmox.core.table import label
from nixops_proxmox.errors import BuildFailed, ConfigError, NeedsPermission, NoPath
from nixops_proxmox.kinds.machine.engine import carry_out
from nixops_proxmox.kinds.machine.plans import plan_deploy
from nixops_proxmox.kinds.machine.promises import Watched, find_promise, tell_broken
from nixops_proxmox.kinds.machine.shape import Permissions, World
from nixops_proxmox.kinds.machine.steps.system import find_reasons_to_restart
from nixops_proxmox.model import Change, Machine, Phase, When
from nixops_proxmox.operations.pursuit import Pursuit
from nixops_proxmox.operations.read_only import check_machine, plan_machine
from nixops_proxmox.spec import MachineSpec
from tests.kinds.machine.cluster import COPIES, SPEC, Bench, Builder, Fuse

MOVED = SPEC.model_copy(update={"profile": "another"})
MORE = SPEC.model_copy(update={"memory": 2048})
RAISED = SPEC.model_copy(update={"install": SPEC.install.model_copy(update={"asked": 1})})
Act = Callable[[Pursuit], Machine]


class Failing(Builder):
    @override
    def wanted_system(self, machine: Machine) -> str:
        raise BuildFailed("web: its system could not be built")


def world(bench: Bench, spec: MachineSpec = SPEC, builder: type[Builder] = Builder) -> World:
    fuse = Fuse()
    return replace(bench.world(fuse, spec=spec), builder=builder(fuse))


def pursuit(bench: Bench, spec: MachineSpec = SPEC, builder: type[Builder] = Builder) -> Pursuit:
    return Pursuit(bench.record.machine, world(bench, spec, builder), bench.record)


def deployed() -> Bench:
    bench = Bench()
    assert pursuit(bench).deploy().phase is Phase.READY
    return bench


@pytest.mark.parametrize("verb", ["deploy", "reinstall"])
def test_an_image_that_cannot_be_used_is_refused_before_anything_is_done(verb: str) -> None:
    bench = Bench()
    described = COPIES["file"]
    if verb == "reinstall":
        pursuit(bench, described).deploy()
    calls = list(bench.cluster.calls)
    absent = described.install.model_copy(update={"image": "./absent.raw"})
    with pytest.raises(ConfigError, match=r"there is no file absent\.raw"):
        VERBS[verb](pursuit(bench, described.model_copy(update={"install": absent})))
    assert bench.cluster.calls == calls
    if verb == "reinstall":  # what was made of an image does without it
        other = described.model_copy(update={"install": absent, "memory": 2048})
        assert pursuit(bench, other).deploy().phase is Phase.READY


VERBS: dict[str, Act] = {"deploy": lambda one: one.deploy(), "reinstall": lambda one: one.reinstall()}


@pytest.mark.parametrize("verb", VERBS)
def test_a_machine_stays_on_the_hypervisor_it_was_made_on(verb: str) -> None:
    bench = deployed()
    calls = list(bench.cluster.calls)
    with pytest.raises(NeedsPermission, match="the description says 'another'"):
        VERBS[verb](pursuit(bench, MOVED))
    assert bench.cluster.calls == calls


@pytest.mark.parametrize("verb", VERBS)
def test_a_build_that_fails_is_told_before_anything_is_made_or_taken_down(verb: str) -> None:
    for bench in (Bench(), deployed()):
        phase, calls = bench.record.machine.phase, list(bench.cluster.calls)
        with pytest.raises(BuildFailed):
            VERBS[verb](pursuit(bench, builder=Failing))
        assert (bench.record.machine.phase, bench.cluster.calls) == (phase, calls)


def test_a_vm_that_is_gone_is_made_anew_only_by_word() -> None:
    bench = deployed()
    before = bench.record.machine.facts.uuid
    bench.cluster.vms.clear()
    with pytest.raises(NoPath, match="lost"):
        pursuit(bench).deploy()
    assert not bench.cluster.vms
    assert bench.record.machine.phase is Phase.LOST, "what was seen is recorded though nothing could be done"
    after = pursuit(bench).deploy(allow_recreate=True)
    assert after.phase is Phase.READY and after.facts.uuid != before


def test_the_word_makes_nothing_anew_that_is_there() -> None:
    bench = deployed()
    before = bench.record.machine.facts
    assert pursuit(bench).deploy(allow_recreate=True).facts == before


def test_a_raised_generation_installs_anew_and_only_once() -> None:
    bench = deployed()
    assert pursuit(bench, RAISED).deploy().facts.round == 1
    boots = bench.vm.boots
    assert pursuit(bench, RAISED).deploy().facts.round == 1
    assert bench.vm.boots == boots


def test_a_reinstall_that_was_cut_short_goes_on() -> None:
    bench = deployed()
    one = pursuit(bench)
    one.to(Phase.DEFINED)
    one.to(Phase.READY, until=Phase.PARTITIONED)
    assert pursuit(bench).reinstall().facts.round == 1


def test_a_way_in_is_left_however_it_ends() -> None:
    bench, left = Bench(), []
    one = Pursuit(bench.record.machine, world(bench), bench.record, leave=lambda: left.append("left"))
    assert one.deploy(until=Phase.RESERVED).phase is Phase.RESERVED
    bench.cluster.vms.clear()
    one.to(Phase.READY)
    bench.cluster.vms.clear()
    with pytest.raises(NoPath):
        one.to(Phase.READY)
    assert left == ["left"] * 3


def test_a_plan_shows_the_way_and_changes_nothing() -> None:
    bench = Bench()
    planned = plan_machine(bench.record.machine, world(bench))
    assert planned.moves[0].startswith("Reserve") and planned.system
    assert not bench.cluster.calls and not bench.record.entries and bench.record.machine.phase is Phase.ABSENT
    bench = deployed()
    calls, entries = list(bench.cluster.calls), list(bench.record.entries)
    planned = plan_machine(bench.record.machine, world(bench))
    assert (planned.moves, planned.changes, planned.system, planned.error) == ((), (), "", None)
    planned = plan_machine(bench.record.machine, world(bench, MORE))
    assert [change.key for change in planned.changes] == ["memory"] and planned.moves
    assert plan_machine(bench.record.machine, world(bench, RAISED)).moves
    bench.cluster.vms.clear()
    assert isinstance(plan_machine(bench.record.machine, world(bench)).error, NoPath)
    assert (bench.cluster.calls, bench.record.entries) == (calls, entries)


GOT_TO: dict[str, Callable[[Pursuit], object]] = {
    "nothing": lambda one: None,
    "a VM without a system": lambda one: one.deploy(until=Phase.DEFINED),
    "half an installation": lambda one: one.deploy(until=Phase.PARTITIONED),
    "a machine": lambda one: one.deploy(),
    "a stopped machine": lambda one: (one.deploy(), one.to(Phase.STOPPED)),
    "a machine that runs but was not activated": lambda one: one.deploy(until=Phase.RUNNING),
}


@pytest.mark.parametrize("spec", [SPEC, MORE, RAISED], ids=["same", "more memory", "raised generation"])
@pytest.mark.parametrize("start", GOT_TO)
def test_a_deploy_does_what_its_plan_says(start: str, spec: MachineSpec) -> None:
    bench = Bench()
    GOT_TO[start](pursuit(bench))
    before = len(bench.record.entries)
    plan = plan_deploy(bench.record.machine, world(bench, spec))
    assert len(bench.record.entries) == before
    assert pursuit(bench, spec).deploy().phase is Phase.READY
    assert tuple(said for said, end in bench.record.entries[before:] if end == "done") == tuple(
        label(move.step) for move in plan.moves
    )


def test_a_plan_prints_no_boot_where_nothing_boots() -> None:
    bench = deployed()
    planned = plan_machine(bench.record.machine, world(bench, MORE))
    assert (planned.effect, planned.restart) == ("change", ())
    assert [one.when for one in planned.changes] == [When.RESTART]
    assert not [line for line in planned.moves if line.startswith("Boot")]
    allowed = plan_machine(bench.record.machine, allow_reboot(world(bench, MORE)))
    assert (allowed.effect, allowed.restart) == ("restart", ("memory",))
    assert [line for line in allowed.moves if line.startswith("Boot")]
    bench.vm.stop()
    stopped = plan_machine(bench.record.machine, world(bench, MORE))
    assert (stopped.effect, stopped.restart, [one.when for one in stopped.changes]) == ("change", (), [When.LIVE])


def allow_reboot(world: World) -> World:
    return replace(world, permissions=replace(world.permissions, allow_reboot=True))


EFFECTS: dict[str, tuple[Callable[[Bench], object], MachineSpec, str]] = {
    "nothing of it exists": (lambda bench: None, SPEC, "new"),
    "an earlier run was cut short": (lambda bench: pursuit(bench).deploy(until=Phase.DEFINED), SPEC, "go on"),
    "it is as described": (lambda bench: pursuit(bench).deploy(), SPEC, "nothing"),
    "a generation was raised": (lambda bench: pursuit(bench).deploy(), RAISED, "reinstall"),
}


@pytest.mark.parametrize("case", EFFECTS)
def test_a_plan_says_what_it_does_to_the_machine(case: str) -> None:
    prepare, spec, effect = EFFECTS[case]
    bench = Bench()
    prepare(bench)
    assert plan_machine(bench.record.machine, world(bench, spec)).effect == effect


def test_a_recreated_machine_loses_its_data_and_the_plan_says_so() -> None:
    bench = deployed()
    bench.cluster.vms.clear()
    given = world(bench)
    allowed = replace(given, permissions=replace(given.permissions, allow_recreate=True))
    assert plan_machine(bench.record.machine, allowed).effect == "recreate"


def test_what_was_pending_and_is_taken_back_needs_no_restart() -> None:
    undone = Change("memory", "4096", "2048")
    bench = deployed()
    found = world(bench).hypervisor.find_vm(bench.record.machine.facts)
    assert found is not None
    vm = replace(found, pending=("memory", "cores"))
    assert find_reasons_to_restart(allow_reboot(world(bench)), bench.record.machine, vm, (undone,)) == ("cores",)
    assert find_reasons_to_restart(world(bench), bench.record.machine, vm, (undone,)) == ()


@pytest.mark.parametrize("allowed", [True, False])
def test_a_restart_that_was_not_promised_is_recorded_as_a_defect(allowed: bool) -> None:
    bench = deployed()
    one = pursuit(bench, MORE)
    if allowed:
        one.world = allow_reboot(one.world)
    plan = plan_deploy(one.machine, one.world)
    one.world = one.world if allowed else allow_reboot(one.world)  # somebody else's will, after the promise
    watched, promised = Watched(bench.record), find_promise(plan, world(bench, MORE) if not allowed else one.world)
    machine = carry_out(plan, one.machine, one.world, watched)
    tell_broken(machine, one.world, watched, promised=promised)
    defects = [said for said, _ in bench.record.entries if said.startswith("defect: ")]
    assert defects == ([] if allowed else ["defect: the plan promised no restart, and the machine was restarted"])


def test_a_reinstall_that_was_asked_for_is_not_cut_short_before_it_begins() -> None:
    """Doors that activate by their own means deploy until the system runs, which it does when they begin."""
    bench = deployed()
    assert pursuit(bench, RAISED).deploy(until=Phase.RUNNING).facts.round == 1


def test_check_says_what_is_true_now() -> None:
    bench = deployed()
    machine = bench.record.machine

    def seen(spec: MachineSpec = SPEC) -> tuple[object, ...]:
        found = check_machine(machine, world(bench, spec), described=True)
        return found.exists, found.running, found.reachable, found.system_ok, [one.key for one in found.changes]

    assert seen() == (True, True, True, True, [])
    assert seen(MORE) == (True, True, True, True, ["memory"])
    bench.vm.active = "/nix/store/33333333333333333333333333333333-by-hand"
    assert seen() == (True, True, True, False, [])
    bench.vm.stop()
    assert seen()[:3] == (True, False, False)
    bench.cluster.vms.clear()
    assert seen()[:2] == (False, False)


def in_rescue() -> Bench:
    bench = deployed()
    assert pursuit(bench).to(Phase.RESCUE).phase is Phase.RESCUE
    return bench


def test_a_deploy_boots_nobody_out_of_rescue_without_a_word() -> None:
    bench = in_rescue()
    vms = dict(bench.cluster.vms)
    with pytest.raises(NeedsPermission, match="it is in rescue") as caught:
        pursuit(bench).deploy()
    assert "start web" in caught.value.hint and "--allow-reboot" in caught.value.hint
    assert (bench.record.machine.phase, bench.cluster.vms) == (Phase.RESCUE, vms)
    allowed = pursuit(bench)
    allowed.world = replace(allowed.world, permissions=Permissions(allow_reboot=True))
    assert allowed.deploy().phase is Phase.READY


def test_start_and_a_raised_generation_are_words_enough() -> None:
    assert pursuit(in_rescue()).to(Phase.READY).phase is Phase.READY
    assert pursuit(in_rescue(), RAISED).deploy().phase is Phase.READY


def test_what_is_gone_is_lost_and_not_in_rescue() -> None:
    bench = in_rescue()
    bench.cluster.vms.clear()
    with pytest.raises(NoPath, match="lost"):
        pursuit(bench).deploy()


def test_a_machine_that_ha_moved_is_recorded_where_it_is_and_nothing_is_done_to_it() -> None:
    bench = deployed()
    bench.vm.node = "pve2"
    before = list(bench.cluster.calls)
    assert pursuit(bench).deploy().facts.node == "pve2"
    assert bench.record.machine.facts.node == "pve2" and bench.record.machine.phase is Phase.READY
    assert bench.cluster.calls == before


MOVED_BY_HAND: dict[str, Act] = {
    "deploy": lambda one: one.deploy(),
    "start": lambda one: one.to(Phase.READY),
    "stop": lambda one: one.to(Phase.STOPPED),
    "reboot": lambda one: one.reboot(),
    "reboot --hard": lambda one: one.reboot(hard=True),
    "reinstall": lambda one: one.reinstall(),
}


@pytest.mark.parametrize("act", MOVED_BY_HAND.values(), ids=MOVED_BY_HAND)
def test_a_machine_that_somebody_moved_is_recorded_where_it_is_by_each_verb_that_changes_it(act: Act) -> None:
    bench = deployed()
    bench.vm.node = "pve2"
    assert act(pursuit(bench)).facts.node == "pve2"
    assert bench.record.machine.facts.node == "pve2"


def test_a_machine_that_is_destroyed_or_lost_has_no_new_place() -> None:
    bench = deployed()
    bench.vm.node = "pve2"
    assert pursuit(bench).to(Phase.ABSENT).phase is Phase.ABSENT
