"""A volume that was made larger, wherever it was then: the machine that has it grows what is on it, once."""

import contextlib
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest
from typing_extensions import override

from nixops_proxmox.errors import PveOutcomeUnknown
from nixops_proxmox.model import GrownDisk, Machine, Phase
from nixops_proxmox.operations.growing import find_growth
from nixops_proxmox.spec import Disk, MachineSpec
from tests.kinds.machine.cluster import SPEC, Crash, Fuse, Guest
from tests.kinds.machine.test_volumes import BANGS, DATA, IDS, WITH, Both

LARGER = DATA.model_copy(update={"size": 12 << 30})
SLOT = "volume data"


@dataclass
class Inside:
    """What is on the volume, as guests see it: it stays when the machine goes."""

    filled: int = DATA.size
    mounted: bool = True
    asked: list[str] = field(default_factory=list)  # what a guest was asked to do, in order


def guest_of(inside: Inside) -> type[Guest]:
    class Mounting(Guest):
        @override
        def grow_disk(
            self, shell: Any, machine: Machine, spec: MachineSpec, disk: Disk, tell: Callable[[str], None]
        ) -> GrownDisk:
            assert disk.slot == SLOT, "nothing else grew"
            inside.asked.append(f"grow {disk.slot}")
            if not inside.mounted:
                return GrownDisk(disk.slot, hindrance="ext4 on /dev/sdb is not mounted")
            self.fuse.boundary()
            inside.filled = disk.size
            self.fuse.boundary()
            return GrownDisk(disk.slot, ("ext4 /data",), inside.filled)

    return Mounting


def deploy(both: Both, inside: Inside, fuse: Fuse | None = None, **more: Any) -> Machine:
    return both.run(Phase.READY, fuse, guest=guest_of(inside), **more)


def grows_in_the_plan(both: Both) -> tuple[str, ...]:
    return find_growth(both.record.machine, both.world(), (), "running")


def attached(both: Both, inside: Inside) -> None:
    deploy(both, inside)


def parked_by_a_destroy(both: Both, inside: Inside) -> None:
    deploy(both, inside)
    both.run(Phase.ABSENT)


def parked_beside_a_running_machine(both: Both, inside: Inside) -> None:
    deploy(both, inside, spec=SPEC)


def by_its_verb(both: Both, fuse: Fuse) -> None:
    both.data = LARGER
    both.keeper(fuse).grow("data")


def by_hand(both: Both, fuse: Fuse) -> None:
    """In PVE, and then in the description."""
    both.data = LARGER
    ((_, _, disk),) = both.shelves.disks()
    disk.size = LARGER.size


WHERE: Mapping[str, Callable[[Both, Inside], None]] = {
    "attached": attached,
    "parked by a destroy": parked_by_a_destroy,
    "parked beside a running machine": parked_beside_a_running_machine,
}
OFTEN = ("parked beside a running machine", "crash")  # the others are swept once a week
HOW: Mapping[str, Callable[[Both, Fuse], None]] = {"by its verb": by_its_verb, "by hand": by_hand}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("where", WHERE)
def test_a_deploy_alone_grows_what_is_on_it(where: str, how: str) -> None:
    both, inside = Both(), Inside()
    WHERE[where](both, inside)
    HOW[how](both, Fuse())
    assert inside.asked == []
    if where == "attached":
        assert grows_in_the_plan(both) == (
            f"{SLOT}: 10 GiB → 12 GiB; in the guest, partition 1 and ext4 / then grow, live",
        )
    assert deploy(both, inside).phase is Phase.READY
    assert inside.filled == LARGER.size
    deploy(both, inside)
    assert inside.asked == [f"grow {SLOT}"], "done once"
    assert grows_in_the_plan(both) == ()


BREAKS = [
    pytest.param(where, bang, id=f"{where}, {name}", marks=() if (where, name) == OFTEN else pytest.mark.weekly)
    for where in WHERE
    for bang, name in zip(BANGS, IDS, strict=True)
]


@pytest.mark.parametrize(("where", "bang"), BREAKS)
def test_after_a_break_anywhere_the_next_deploy_grows_it(where: str, bang: Callable[[], BaseException]) -> None:
    before = Both(), Inside()
    WHERE[where](*before)
    for at in range(1000):
        fuse = Fuse(at, bang)
        both, inside = deepcopy(before)
        with contextlib.suppress(Crash, PveOutcomeUnknown):
            by_its_verb(both, fuse)
            deploy(both, inside, fuse)
        if fuse.count <= at:
            assert at >= 8, "the sweep must have walked a whole run"
            return
        both.data = LARGER
        assert deploy(both, inside).phase is Phase.READY
        both.check()
        assert inside.filled == LARGER.size, at
        assert grows_in_the_plan(both) == (), at


def test_what_one_machine_could_not_grow_another_one_does() -> None:
    both, inside = Both(), Inside(mounted=False)
    deploy(both, inside)
    by_its_verb(both, Fuse())
    deploy(both, inside)
    assert "ext4 on /dev/sdb is not mounted" in both.reporter.warnings[-1]
    assert grows_in_the_plan(both) != (), "it stays to be done"
    both.run(Phase.ABSENT)
    inside.mounted = True
    deploy(both, inside)  # the same name, and nothing known of the machine before it
    assert inside.filled == LARGER.size and grows_in_the_plan(both) == ()


def test_a_volume_grows_after_the_new_system_that_may_mount_it() -> None:
    both, inside = Both(), Inside(mounted=False)
    deploy(both, inside, spec=SPEC)
    by_its_verb(both, Fuse())

    class Mounting(guest_of(inside)):  # type: ignore[misc]
        @override
        def grow_disk(self, *words: Any) -> GrownDisk:
            inside.mounted = both.vm.active == "/nix/store/new"
            return super().grow_disk(*words)  # type: ignore[no-any-return]

    both.run(Phase.READY, spec=WITH, guest=Mounting, system="/nix/store/new")
    assert inside.filled == LARGER.size and both.reporter.warnings == []
