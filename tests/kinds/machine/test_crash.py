"""The sweeps: a run that broke at every boundary in turn, and what the next run makes of it."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from nixops_proxmox.errors import PveOutcomeUnknown
from nixops_proxmox.model import Machine, Phase
from nixops_proxmox.spec import MachineSpec
from tests.kinds.machine.cluster import COPIES, SPEC, Bench, Crash, Fuse

BANGS: list[Callable[[], BaseException]] = [Crash, lambda: PveOutcomeUnknown("the answer was lost")]
IDS = ["crash", "unknown-outcome"]
Prepare = Callable[[Bench], object]


def deployed(bench: Bench) -> Machine:
    return bench.run(Phase.READY)


def broken(
    bang: Callable[[], BaseException], prepare: Prepare, goal: Phase, at_least: int, spec: MachineSpec = SPEC
) -> Iterator[tuple[int, Bench]]:
    """Benches whose run to `goal` broke at its first boundary, at its second, … until one does not break."""
    for at in range(10_000):
        bench = Bench()
        prepare(bench)
        fuse = Fuse(at, bang)
        with contextlib.suppress(Crash, PveOutcomeUnknown):
            bench.run(goal, fuse, spec=spec)
        if fuse.count <= at:
            assert at >= at_least, f"the sweep walked only {at} boundaries: it must have walked the whole run"
            return
        yield at, bench


def fresh(bench: Bench) -> None:
    """Nothing is there yet."""


@pytest.mark.parametrize("bang", BANGS, ids=IDS)
def test_deploying_again_after_a_break_anywhere_finishes_the_job(bang: Callable[[], BaseException]) -> None:
    for at, bench in broken(bang, fresh, Phase.READY, at_least=40):
        assert bench.run(Phase.READY).phase is Phase.READY, at
        assert bench.cluster.calls.count("create_vm") == 1, at
        assert bench.vm.running and bench.vm.active, at
        assert len(bench.keys.keys) <= 2, at


@pytest.mark.parametrize("bang", BANGS, ids=IDS)
def test_destroying_after_a_break_anywhere_leaves_nothing(bang: Callable[[], BaseException]) -> None:
    for at, bench in broken(bang, fresh, Phase.READY, at_least=40):
        assert bench.run(Phase.ABSENT).phase is Phase.ABSENT, at
        assert not bench.cluster.vms, at
        assert bench.cluster.calls.count("destroy_vm") <= 1, at


@pytest.mark.parametrize("bang", BANGS, ids=IDS)
def test_a_vm_that_vanished_after_a_break_is_lost_and_never_silently_made_again(
    bang: Callable[[], BaseException],
) -> None:
    for at, bench in broken(bang, fresh, Phase.READY, at_least=40):
        if not bench.cluster.vms or bench.record.machine.phase in (Phase.ABSENT, Phase.RESERVED):
            continue
        bench.cluster.vms.clear()
        with pytest.raises(Exception, match="lost") as refused:
            bench.run(Phase.READY)
        assert type(refused.value).__name__ == "NoPath", at
        assert not bench.cluster.vms, at
        assert bench.run(Phase.ABSENT).phase is Phase.ABSENT, at


@pytest.mark.parametrize("bang", BANGS, ids=IDS)
def test_nothing_destructive_happens_twice_in_one_boot_of_the_installer(bang: Callable[[], BaseException]) -> None:
    for at, bench in broken(bang, fresh, Phase.READY, at_least=40):
        bench.run(Phase.READY)
        finished = [label for label, how in bench.record.entries if how == "done"]
        assert finished.count("Install the system") == 1, at
        assert finished.count("Partition the disks") == 1, at


@pytest.mark.parametrize("bang", BANGS, ids=IDS)
@pytest.mark.parametrize(
    ("goal", "at_least"), [(Phase.ABSENT, 4), (Phase.STOPPED, 4), (Phase.RESCUE, 10), (Phase.DEFINED, 4)]
)
def test_every_other_goal_survives_a_break_anywhere(
    bang: Callable[[], BaseException], goal: Phase, at_least: int
) -> None:
    for at, bench in broken(bang, deployed, goal, at_least):
        if goal is Phase.DEFINED and bench.record.machine.phase is Phase.DEFINED:
            continue  # cleared for the reinstall already: asking for it again would be asking twice
        assert bench.run(goal).phase is goal, at
        if goal is not Phase.ABSENT:
            assert bench.run(Phase.READY).phase is Phase.READY, at
            assert bench.vm.running and bench.vm.active, at
            assert bench.cluster.calls.count("create_vm") == 1, at


@pytest.mark.parametrize("bang", BANGS, ids=IDS)
def test_a_change_of_the_description_survives_a_break_anywhere(bang: Callable[[], BaseException]) -> None:
    more = SPEC.model_copy(update={"memory": 2048})
    for at in range(1000):
        bench = Bench()
        deployed(bench)
        fuse = Fuse(at, bang)
        with contextlib.suppress(Crash, PveOutcomeUnknown):
            bench.run(Phase.READY, fuse, spec=more)
        if fuse.count <= at:
            assert at >= 8
            return
        assert bench.run(Phase.READY, spec=more).phase is Phase.READY, at
        assert bench.vm.memory == 2048, at
        assert bench.cluster.calls.count("apply_changes") <= 2, at


LARGER = SPEC.model_copy(update={"disks": (SPEC.disks[0].model_copy(update={"size": 9 << 30}),)})


@pytest.mark.parametrize("bang", BANGS, ids=IDS)
def test_a_disk_that_grows_is_grown_in_the_guest_too_after_a_break_anywhere(bang: Callable[[], BaseException]) -> None:
    for at, bench in broken(bang, deployed, Phase.READY, at_least=12, spec=LARGER):
        machine = bench.run(Phase.READY, spec=LARGER)
        assert (machine.phase, bench.vm.disk, bench.vm.filled) == (Phase.READY, 9 << 30, 9 << 30), at
        assert machine.facts.sizes == {"scsi0": str(9 << 30)}, at
        assert bench.vm.boots == 2, "nothing was restarted for it"


@pytest.mark.parametrize("bang", BANGS, ids=IDS)
@pytest.mark.parametrize("way", COPIES)
def test_a_copy_that_broke_anywhere_is_finished_by_the_next_deploy(way: str, bang: Callable[[], BaseException]) -> None:
    for at, bench in broken(bang, fresh, Phase.READY, at_least=20, spec=COPIES[way]):
        assert bench.run(spec=COPIES[way]).phase is Phase.READY, at
        assert bench.cluster.calls.count("create_vm") == 1, at
        assert bench.vm.running and bench.vm.active and bench.vm.host_key, at
        assert bench.vm.boots == 1, at
        assert not bench.vm.tray and not bench.cluster.files, f"{at}: a secret lies around"


@pytest.mark.parametrize("bang", BANGS, ids=IDS)
@pytest.mark.parametrize("way", COPIES)
def test_a_copy_that_broke_anywhere_can_be_destroyed(way: str, bang: Callable[[], BaseException]) -> None:
    for at, bench in broken(bang, fresh, Phase.READY, at_least=20, spec=COPIES[way]):
        assert bench.run(Phase.ABSENT, spec=COPIES[way]).phase is Phase.ABSENT, at
        assert not bench.cluster.vms and not bench.cluster.files, at


@pytest.mark.parametrize("bang", BANGS, ids=IDS)
@pytest.mark.parametrize("way", COPIES)
def test_a_copy_that_vanished_after_a_break_is_lost_and_never_silently_made_again(
    way: str, bang: Callable[[], BaseException]
) -> None:
    for at, bench in broken(bang, fresh, Phase.READY, at_least=20, spec=COPIES[way]):
        if not bench.cluster.vms or bench.record.machine.phase in (Phase.ABSENT, Phase.RESERVED):
            continue
        bench.cluster.vms.clear()
        with pytest.raises(Exception, match="lost") as refused:
            bench.run(spec=COPIES[way])
        assert type(refused.value).__name__ == "NoPath", at
        assert not bench.cluster.vms, at


@pytest.mark.parametrize("bang", BANGS, ids=IDS)
def test_a_copy_that_is_made_anew_keeps_its_identity_wherever_it_broke(bang: Callable[[], BaseException]) -> None:
    spec = COPIES["template"]

    def ready(bench: Bench) -> None:
        bench.run(spec=spec)

    for at, bench in broken(bang, ready, Phase.RESERVED, at_least=4, spec=spec):
        before = bench.record.machine.facts
        asked_again = bench.record.machine.phase is Phase.RESERVED
        cleared = bench.record.machine if asked_again else bench.run(Phase.RESERVED, spec=spec)
        assert cleared.phase is Phase.RESERVED and not bench.cluster.vms, at
        after = bench.run(spec=spec).facts
        assert (after.vmid, after.uuid, after.macs, after.host_key) == (
            before.vmid,
            before.uuid,
            before.macs,
            before.host_key,
        ), at
        assert after.round == 1 and bench.cluster.calls.count("create_vm") == 2, at
