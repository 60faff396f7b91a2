"""A command before and one after each change, at least once each, whatever becomes of the run."""

import contextlib
from dataclasses import dataclass, field, replace

import pytest

from nixops_proxmox.errors import HookFailed, Unwell
from nixops_proxmox.model import Facts, Machine, Phase
from nixops_proxmox.operations.hook_lines import find_hooks
from nixops_proxmox.operations.pursuit import Pursuit
from nixops_proxmox.spec import DeploySpec, HealthSpec, MachineSpec
from tests.kinds.machine.cluster import SPEC, SYSTEM, Bench, Crash, Fuse

NEW = "/nix/store/00000000000000000000000000000000-new"
ILL = SPEC.model_copy(update={"deploy": DeploySpec(probation=0, health=HealthSpec(tcp=(80,)))})


@dataclass
class Balancer:
    """What the commands change: `serving`, and which of them ran."""

    fuse: Fuse = field(default_factory=Fuse)
    which: tuple[str, ...] = ("before", "after")
    failing: str = ""
    serving: bool = False
    ran: list[str] = field(default_factory=list)

    def has(self, when: str) -> bool:
        return when in self.which

    def run(self, when: str, machine: Machine, spec: MachineSpec, system: str) -> None:
        self.fuse.boundary()
        self.ran.append(when)
        if when == self.failing:
            raise HookFailed(f"web: {when} failed")
        self.serving = when == "after"
        self.fuse.boundary()


def deploy(
    bench: Bench, balancer: Balancer, system: str = SYSTEM, *, fuse: Fuse | None = None, spec: MachineSpec = SPEC
) -> Machine:
    balancer.fuse = fuse or Fuse()
    world = replace(bench.world(fuse, system=system, spec=spec), hooks=balancer)
    one = Pursuit(bench.record.machine, world, bench.record)
    one.deploy(hooks=True)
    return one.end_with_hooks(prove=False)


def served() -> tuple[Bench, Balancer]:
    bench, balancer = Bench(), Balancer()
    deploy(bench, balancer)
    assert (balancer.ran, balancer.serving) == (["after"], True)  # nobody was served before
    balancer.ran.clear()
    return bench, balancer


def test_a_change_has_a_command_before_and_one_after_it_and_no_change_has_none() -> None:
    bench, balancer = served()
    assert deploy(bench, balancer, NEW).facts.system == NEW
    assert (balancer.ran, balancer.serving) == (["before", "after"], True)
    deploy(bench, balancer, NEW)
    assert balancer.ran == ["before", "after"]
    assert bench.record.machine.facts.hooks == {}


def test_a_command_before_that_fails_leaves_the_machine_as_it_was() -> None:
    bench, balancer = served()
    calls, balancer.failing = list(bench.cluster.calls), "before"
    with pytest.raises(HookFailed):
        deploy(bench, balancer, NEW)
    assert (bench.vm.active, bench.cluster.calls) == (SYSTEM, calls)
    assert bench.record.machine.phase is Phase.READY


def test_a_command_after_that_fails_is_run_by_the_next_deploy() -> None:
    bench, balancer = served()
    balancer.failing = "after"
    with pytest.raises(HookFailed):
        deploy(bench, balancer, NEW)
    assert find_hooks(bench.record.machine, balancer, changes=False) == (
        "run deploy.hooks.after at the end, which is due",
    )
    balancer.failing = ""
    deploy(bench, balancer, NEW)
    assert (balancer.ran, balancer.serving) == (["before", "after", "after"], True)


def test_a_machine_that_is_not_well_is_not_given_back() -> None:
    bench, balancer = served()
    with pytest.raises(Unwell, match="tcp 80: refused"):
        deploy(bench, balancer, NEW, spec=ILL)
    assert balancer.ran == ["before"]
    deploy(bench, balancer, NEW)
    assert (balancer.ran, balancer.serving) == (["before", "after"], True)


@pytest.mark.parametrize("which", [("before", "after"), ("after",)])
@pytest.mark.parametrize("there", [True, False], ids=["changed", "new"])
def test_after_a_break_anywhere_the_next_deploy_gives_the_machine_back(which: tuple[str, ...], there: bool) -> None:
    for at in range(10_000):
        bench, balancer = served() if there else (Bench(), Balancer())
        balancer.which, fuse = which, Fuse(at)
        with contextlib.suppress(Crash):
            deploy(bench, balancer, NEW, fuse=fuse)
        if fuse.count <= at:
            assert at >= 10, "the sweep did not walk the whole run"
            return
        changed = bench.cluster.vms and bench.vm.active == NEW
        assert not (changed and there and "before" in which) or "before" in balancer.ran, at
        machine = deploy(bench, balancer, NEW)
        assert (machine.phase, machine.facts.system, machine.facts.hooks) == (Phase.READY, NEW, {}), at
        assert balancer.serving and balancer.ran[-1] == "after", at


def test_what_is_due_survives_the_state() -> None:
    facts = Facts(uuid="u", hooks={"after": "due"})
    assert Facts.from_json(facts.to_json()) == facts
