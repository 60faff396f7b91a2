"""Verbs beside the table, broken at every boundary in turn; then the same verb, a deploy or a destroy must end well."""

import contextlib
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace

import pytest

from nixops_proxmox.errors import NoPath, PveOutcomeUnknown
from nixops_proxmox.kinds.machine.errands.marking import TakeOver
from nixops_proxmox.kinds.machine.errands.restoring import Restore
from nixops_proxmox.kinds.machine.shape import Permissions
from nixops_proxmox.model import RESTORING, Archive, Phase
from nixops_proxmox.operations.backups import back_up, delete_backup, delete_snapshot, return_to_snapshot, take_snapshot
from nixops_proxmox.operations.generations import return_to
from nixops_proxmox.operations.migrating import migrate
from nixops_proxmox.operations.pursuit import Pursuit
from tests.kinds.machine.cluster import SYSTEM, Bench, Crash, Fuse, Hypervisor
from tests.kinds.machine.test_crash import BANGS, IDS

OLDEST = "/nix/store/33333333333333333333333333333333-oldest"
NEWER = "/nix/store/44444444444444444444444444444444-newer"
STRANGER = "00000000-0000-4000-8000-00000000beef"

Act = Callable[[Pursuit], object]
Check = Callable[[Bench], None]


@dataclass(frozen=True)
class Verb:
    """`prepared`: what was there before; `done`: what is true once the verb came to its end."""

    act: Act
    prepared: Check
    done: Check
    at_least: int = 0  # boundaries in the whole of it
    once: bool = False  # asked for again after its end, it is refused, or does more


def pursuit(bench: Bench, fuse: Fuse | None = None, permissions: Permissions | None = None) -> Pursuit:
    return Pursuit(bench.record.machine, bench.world(fuse, permissions=permissions), bench.record)


def act(bench: Bench, verb: Verb, fuse: Fuse | None = None) -> None:
    verb.act(pursuit(bench, fuse, Permissions(adjust=False)))


def ready(bench: Bench) -> None:
    bench.run(Phase.READY)


def is_marked(bench: Bench) -> None:
    assert bench.vm.bears == ("demo", "web")
    is_up(bench)


def rescue(bench: Bench) -> None:
    bench.run(Phase.READY)
    bench.run(Phase.RESCUE)


def is_up(bench: Bench) -> None:
    assert bench.record.machine.phase is Phase.READY
    assert bench.vm.running and bench.vm.system == "installed"


def runs(bench: Bench) -> None:
    assert bench.vm.running and bench.vm.boots > 2


def old(bench: Bench) -> None:
    """Ready, and saved in every way; then another system was activated."""
    ready(bench)
    act(bench, Verb(lambda one: take_snapshot(one, "disks"), ready, is_up))
    act(bench, Verb(lambda one: take_snapshot(one, "ram", ram=True), ready, is_up))
    act(bench, Verb(lambda one: back_up(one), ready, is_up))
    bench.run(Phase.READY, system=NEWER)
    assert bench.vm.active == NEWER


def old_and_off(bench: Bench) -> None:
    old(bench)
    bench.run(Phase.STOPPED)


def activated_twice(bench: Bench) -> None:
    ready(bench)
    for system in (OLDEST, SYSTEM, NEWER):
        bench.run(Phase.READY, system=system)


def is_one_generation_back(bench: Bench) -> None:
    assert bench.record.machine.phase in (Phase.RUNNING, Phase.READY)  # a look finds that the bench wants SYSTEM
    assert bench.record.machine.facts.system == bench.vm.active == SYSTEM
    assert bench.record.machine.facts.generation == bench.vm.generation == 3


def gone(bench: Bench) -> None:
    old(bench)
    bench.cluster.vms.clear()


def of_another(bench: Bench) -> None:
    """Its newest backup is of a machine that had its VMID once."""
    old(bench)
    stranger = replace(bench.vm.saved(ram=False), uuid=STRANGER, installed=SYSTEM)
    bench.cluster.archives.append((Archive("local:backup/99", "pve1", 1 << 20, 99, ours=False), stranger))


def is_back(bench: Bench) -> None:
    is_up(bench)
    assert bench.vm.active == bench.vm.installed == SYSTEM
    assert bench.record.machine.facts.system == SYSTEM


def is_back_and_off(bench: Bench) -> None:
    assert bench.record.machine.phase is Phase.STOPPED and not bench.vm.running
    assert bench.vm.installed == SYSTEM


def is_ours(bench: Bench) -> None:
    is_back(bench)
    facts = bench.record.machine.facts
    assert bench.vm.uuid == facts.uuid and facts.host_key == "ssh-ed25519 READ" and RESTORING not in facts.extra


def has_snapshot(bench: Bench) -> None:
    is_up(bench)
    assert list(bench.vm.snapshots) == ["one"]
    assert bench.cluster.calls.count("take_snapshot") == 1


def has_backup(bench: Bench) -> None:
    is_up(bench)
    assert bench.cluster.calls.count("back_up") == len(bench.cluster.archives) == 1


def has_one_snapshot_less(bench: Bench) -> None:
    assert list(bench.vm.snapshots) == ["ram"] and bench.vm.active == NEWER


def has_one_backup_less(bench: Bench) -> None:
    assert not bench.cluster.archives


def has_moved(bench: Bench) -> None:
    is_up(bench)
    assert bench.cluster.calls.count("qmigrate") == 1
    facts = bench.record.machine.facts
    assert bench.vm.node == facts.node == "pve2"
    assert facts.volumes in ({}, {"scsi0": bench.vm.volume})


def has_moved_off(bench: Bench) -> None:
    assert bench.record.machine.phase is Phase.STOPPED and not bench.vm.running
    assert bench.vm.node == bench.record.machine.facts.node == "pve2"


def restore(pursuit: Pursuit, number: int = 0) -> None:
    """As the verb does it, which needs a real hypervisor to look what is in the backup."""
    hypervisor = pursuit.world.hypervisor
    assert isinstance(hypervisor, Hypervisor)
    archive, saved = hypervisor.cluster.archives[number]
    pursuit.machine = pursuit.as_seen()
    machine = pursuit.run(Restore(archive, saved.uuid, read_key=lambda _: "ssh-ed25519 READ"))
    if machine.phase is Phase.RUNNING:
        pursuit.to(Phase.READY)


VERBS = {
    "reboot --hard": Verb(lambda one: one.reboot(hard=True), ready, is_up, 12),
    "reboot --hard, in rescue": Verb(lambda one: one.reboot(hard=True), rescue, is_up, 12),
    "reset": Verb(lambda one: one.reset(), ready, runs, 9),
    "reset, in rescue": Verb(lambda one: one.reset(), rescue, runs, 9),
    "snapshot create": Verb(lambda one: take_snapshot(one, "one"), ready, has_snapshot, 6, once=True),
    "snapshot delete": Verb(lambda one: delete_snapshot(one, "disks"), old, has_one_snapshot_less, 6, once=True),
    "snapshot rollback": Verb(lambda one: return_to_snapshot(one, "disks"), old, is_back, 12),
    "snapshot rollback, with RAM": Verb(lambda one: return_to_snapshot(one, "ram"), old, is_back, 8),
    "snapshot rollback, off": Verb(lambda one: return_to_snapshot(one, "disks"), old_and_off, is_back_and_off, 6),
    "rollback": Verb(return_to, activated_twice, is_one_generation_back, 5, once=True),
    "rollback to": Verb(lambda one: return_to(one, 3), activated_twice, is_one_generation_back, 5),
    "backup": Verb(back_up, ready, has_backup, 6, once=True),
    "remove-backup": Verb(
        lambda one: delete_backup(one, "pve1", "local:backup/1"), old, has_one_backup_less, 6, once=True
    ),
    "adopt": Verb(lambda one: one.run(TakeOver()), ready, is_marked, 4),
    "migrate": Verb(lambda one: migrate(one, ""), ready, has_moved, 6, once=True),
    "migrate --to": Verb(lambda one: migrate(one, "pve2"), ready, has_moved, 6),
    "migrate, off": Verb(lambda one: migrate(one, "pve2"), old_and_off, has_moved_off, 6),
    "restore": Verb(restore, old, is_back, 15),
    "restore, off": Verb(restore, old_and_off, is_back_and_off, 7),
    "restore, lost": Verb(restore, gone, is_back_and_off, 7),
    "restore --foreign": Verb(lambda one: restore(one, 1), of_another, is_ours, 18),
}


def broken(bang: Callable[[], BaseException], verb: Verb) -> Iterator[tuple[int, Bench]]:
    """Benches on which the verb broke at its first boundary, at its second, … until one does not break."""
    before = Bench()
    verb.prepared(before)
    before.cluster.calls.clear()
    before.record.entries.clear()
    for at in range(1000):
        bench = deepcopy(before)
        fuse = Fuse(at, bang)
        with contextlib.suppress(Crash, PveOutcomeUnknown):
            act(bench, verb, fuse)
        if fuse.count <= at:
            assert at >= verb.at_least, f"the sweep walked only {at} boundaries"
            return
        yield at, bench


EACH = [
    pytest.param(verb, bang, id=f"{name}-{kind}")
    for name, verb in VERBS.items()
    for kind, bang in zip(IDS, BANGS, strict=True)
]


@pytest.mark.parametrize(("verb", "bang"), EACH)
def test_the_same_verb_finishes_the_job(verb: Verb, bang: Callable[[], BaseException]) -> None:
    for at, bench in broken(bang, verb):
        if not (verb.once and ended(bench)):
            act(bench, verb)
        verb.done(bench)
        facts = bench.record.machine.facts
        assert (facts.errand, facts.task) == ({}, ""), at


def ended(bench: Bench) -> bool:
    """Was that recorded, before it broke?"""
    return [how for _, how in bench.record.entries] == ["done"] and not bench.record.machine.facts.errand


@pytest.mark.parametrize(("verb", "bang"), EACH)
def test_a_deploy_finds_the_truth(verb: Verb, bang: Callable[[], BaseException]) -> None:
    for at, bench in broken(bang, verb):
        if verb.prepared is gone and not bench.cluster.vms and not bench.cluster.running:
            with pytest.raises(NoPath, match="lost"):
                deploy(bench)
            continue
        if left_unmarked(bench):
            with pytest.raises(NoPath, match="lost"):
                deploy(bench)
            act(bench, verb)
        assert deploy(bench) is Phase.READY, at
        assert bench.vm.running and bench.vm.system == "installed", at
        assert bench.record.machine.facts.system == bench.vm.active, at
        assert len(bench.cluster.vms) == 1 and not bench.cluster.running, at


def deploy(bench: Bench) -> Phase:
    return pursuit(bench, permissions=Permissions(allow_reboot=True)).deploy().phase


def left_unmarked(bench: Bench) -> bool:
    """A foreign backup is there, or comes, and is not made the machine's yet."""
    for end in bench.cluster.running.values():
        return RESTORING in bench.record.machine.facts.extra and bool(end)
    return any(vm.uuid == STRANGER for vm in bench.cluster.vms.values())


@pytest.mark.parametrize(("verb", "bang"), EACH)
def test_a_destroy_leaves_nothing(verb: Verb, bang: Callable[[], BaseException]) -> None:
    for at, bench in broken(bang, verb):
        assert bench.run(Phase.ABSENT).phase is Phase.ABSENT, at
        assert not bench.cluster.vms and not bench.cluster.running, at


@pytest.mark.parametrize("name", ["reboot --hard", "reset"])
def test_a_machine_is_not_switched_off_twice_for_one_reboot(name: str) -> None:
    for at, bench in broken(Crash, VERBS[name]):
        over = ("Switch the machine off", "done") in [(label[:22], how) for label, how in bench.record.entries]
        act(bench, VERBS[name])
        assert bench.cluster.calls.count("stop_vm") == (2 if over else 1), at
