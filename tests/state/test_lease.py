import os
import signal
import threading
from dataclasses import replace

import pytest

from nixops_proxmox.core.kind import Thing
from nixops_proxmox.errors import Locked
from nixops_proxmox.model import Facts, Machine, Phase
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.state import AttemptOutcome, Holder, State, open_state
from nixops_proxmox.state.holder import find_start, is_provably_gone, this_process
from nixops_proxmox.state.lease import hold
from nixops_proxmox.state.right import Right
from tests.pace import patience

from .conftest import start_python

US = Holder("ann", "desk", "m1", "boot1", "pid:[1]", 4711, "100")


def test_a_held_deployment_is_refused_with_who_since_when_and_how_to_break_it(state: State) -> None:
    deployment = state.deployment("net")
    with deployment.lease(), pytest.raises(Locked) as caught, deployment.lease():
        pytest.fail("two at once")
    assert f"process {os.getpid()}" in caught.value.message
    assert "since 20" in caught.value.message
    assert "sign of life" in caught.value.message
    assert command(Verb.BREAK_LOCK) in caught.value.hint


def test_it_is_free_again_afterwards_even_after_an_error(state: State) -> None:
    deployment = state.deployment("net")
    with pytest.raises(ZeroDivisionError), deployment.lease():
        raise ZeroDivisionError
    assert deployment.held() is None
    with deployment.lease() as lease:
        assert lease.took_over is None


def test_another_deployment_is_not_held(state: State) -> None:
    with state.deployment("one").lease(), state.deployment("two").lease():
        assert state.deployment("one").held() is not None


def test_runs_on_different_machines_hold_one_deployment_side_by_side(state: State) -> None:
    deployment = state.deployment("net")
    with deployment.only("web").lease(), deployment.only("db").lease():
        for other in (deployment.only("web"), deployment):
            with pytest.raises(Locked, match="'web' of deployment 'net'"), other.lease():
                pytest.fail("two at once")
    with deployment.lease(), pytest.raises(Locked, match="deployment 'net'"), deployment.only("web").lease():
        pytest.fail("two at once")
    assert deployment.held() is None


def test_a_run_apart_holds_all_of_its_machines_or_none_and_no_others(state: State) -> None:
    deployment = state.deployment("net")
    with deployment.lease(machines=["a", "c"]) as lease, deployment.lease(machines=["b", "d"]):
        assert {held.scope.name for held in deployment.holders()} == {"a", "b", "c", "d"}
        for other in (deployment, deployment.only("c")):
            with pytest.raises(Locked, match=r"'[ac]' of deployment 'net'"), other.lease():
                pytest.fail("two at once")
        with pytest.raises(Locked, match="'c' of deployment"), deployment.lease(machines=["c", "e"]):
            pytest.fail("two at once")
        assert "e" not in {held.scope.name for held in deployment.holders()}
        deployment.prove(lease)
        with deployment.only("c").lease(break_lock=True), pytest.raises(Locked, match="taken over"):
            deployment.prove(lease)  # it had two, and has one
    assert deployment.holders() == []


def test_a_run_about_nothing_special_holds_the_whole_deployment(state: State) -> None:
    """The doors say it so: `only` is empty."""
    deployment = state.deployment("net")
    with (
        deployment.only("").lease(),
        pytest.raises(Locked, match="deployment 'net'"),
        deployment.only("web").lease(),
    ):
        pytest.fail("two at once")


def test_whoever_takes_one_machine_leaves_the_attempts_of_the_others_alone(state: State) -> None:
    deployment = state.deployment("net")
    for name in ("web", "db"):
        deployment.journal().begin(Machine("net", name), "Reserve", Phase.RESERVED)
    with deployment.only("web").lease():
        assert {entry.name: entry.outcome for entry in deployment.history()} == {
            "web": AttemptOutcome.INTERRUPTED,
            "db": AttemptOutcome.RUNNING,
        }


def test_two_kinds_of_things_may_have_one_name(state: State) -> None:
    deployment = state.deployment("net")
    deployment.journal().begin(Machine("net", "data"), "Reserve", Phase.RESERVED)
    deployment.journal().begin(Thing("volume", "net", "data"), "Make it as described", "present")
    volume = deployment.only("data", "volume")
    with volume.lease() as lease, deployment.only("data").lease():
        deployment.journal(lease).record(Thing("volume", "net", "data"), "Found")
        for other in (volume, deployment):
            with pytest.raises(Locked, match="the volume 'data' of deployment 'net'"), other.lease():
                pytest.fail("two at once")


def test_whoever_takes_one_thing_leaves_the_attempts_of_another_kind_alone(state: State) -> None:
    deployment = state.deployment("net")
    deployment.journal().begin(Machine("net", "data"), "Reserve", Phase.RESERVED)
    deployment.journal().begin(Thing("volume", "net", "data"), "Make it as described", "present")
    with deployment.only("data", "volume").lease():
        assert {entry.kind: entry.outcome for entry in deployment.history()} == {
            "machine": AttemptOutcome.RUNNING,
            "volume": AttemptOutcome.INTERRUPTED,
        }


def test_breaking_one_machines_lease_leaves_the_others_alone(state: State) -> None:
    deployment = state.deployment("net")
    web, db = deployment.only("web"), deployment.only("db")
    with web.lease() as first, db.lease() as second, web.lease(break_lock=True):
        with pytest.raises(Locked, match="taken over"):
            deployment.journal(first).record(Machine("net", "web"), "Found")
        deployment.journal(second).record(Machine("net", "db"), "Found")


def test_a_dead_holder_is_replaced_and_its_open_attempts_are_interrupted(state: State) -> None:
    deployment = state.deployment("net")
    gone = replace(this_process(), pid_started="1")  # our PID, but of a process that started at another time
    with deployment.lease(who=lambda: gone):
        deployment.journal().begin(Machine("net", "web"), "Reserve", Phase.RESERVED)
        with deployment.lease() as lease:
            assert lease.took_over is not None
            assert lease.took_over.holder == gone
            (entry,) = deployment.history()
            assert (entry.outcome, entry.ended) == (AttemptOutcome.INTERRUPTED, None)


def test_a_broken_lease_stops_its_run_from_writing(state: State) -> None:
    deployment = state.deployment("net")
    web = Machine("net", "web")
    with deployment.lease() as first:
        journal = deployment.journal(first)
        attempt = journal.begin(web, "Reserve", Phase.RESERVED)
        with deployment.lease(break_lock=True) as second:
            for write in (
                lambda: journal.commit(attempt, web.moved(Phase.RESERVED, Facts(vmid=1))),
                lambda: journal.begin(web, "Again", Phase.RESERVED),
                lambda: journal.record(web, "Found"),
                lambda: deployment.forget("web", first),
            ):
                with pytest.raises(Locked, match="taken over"):
                    write()
            deployment.journal(second).record(web.moved(Phase.READY, Facts()), "Found")
        assert deployment.machine("web").phase is Phase.READY


def test_a_run_that_ends_does_not_release_the_lease_of_the_one_that_broke_it(state: State) -> None:
    deployment = state.deployment("net")
    first = deployment.lease()
    first.__enter__()
    with deployment.lease(break_lock=True) as second:
        first.__exit__(None, None, None)
        held = deployment.held()
        assert held is not None
        assert held.token == second.token


def test_the_heartbeat_moves_and_survives_an_unusable_moment(url: str) -> None:
    times = iter(range(1000, 9000))
    beaten = threading.Event()

    def now() -> float:
        at = float(next(times))
        if at > 1005:
            beaten.set()
        return at

    with open_state(url, now=now) as state:
        deployment = state.deployment("net")
        with hold(state.engine, 1, "net", now=now, heartbeat=0.01):
            assert beaten.wait(patience(20))
            held = deployment.held()
            assert held is not None
            assert held.heartbeat > held.since


def test_this_process_is_never_gone() -> None:
    assert find_start(os.getpid())
    assert not is_provably_gone(this_process(), this_process())


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        ({}, False),
        ({"pid_started": "99"}, True),  # the PID was used again
        ({"pid": 1}, True),  # no such process
        ({"boot_id": "boot0"}, True),  # the host was booted since
        ({"boot_id": ""}, False),
        ({"boot_id": "boot0", "machine_id": ""}, False),
        ({"host": "laptop", "pid": 1}, False),
        ({"machine_id": "m2", "boot_id": "boot0"}, False),  # a twin by name
        ({"pid_namespace": "pid:[2]", "pid": 1}, False),  # another container: its PIDs are not ours
    ],
)
def test_only_what_can_be_proven_counts_as_gone(change: dict[str, str | int], gone: bool) -> None:
    held_by = replace(US, **change)  # type: ignore[arg-type]
    assert is_provably_gone(held_by, US, lambda pid: "100" if pid == US.pid else "") is gone


def test_a_process_that_was_killed_is_gone_though_its_parent_has_not_looked_yet() -> None:
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        held_by = replace(this_process(), pid=child, pid_started=find_start(child))
        assert not is_provably_gone(held_by, this_process())
        os.kill(child, signal.SIGKILL)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        assert is_provably_gone(held_by, this_process())
    finally:
        os.waitpid(child, 0)


def test_without_proc_a_free_pid_is_proof_and_a_used_one_is_none() -> None:
    mac = replace(US, boot_id="", pid_namespace="", pid_started="")
    assert not is_provably_gone(replace(mac, pid=os.getpid()), mac)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert is_provably_gone(replace(mac, pid=child), mac)


TAKE = """
import sys
from nixops_proxmox.errors import Locked
from nixops_proxmox.state import open_state
with open_state(sys.argv[1]) as state:
    deployment = state.deployment("net")
    print("ready", flush=True); sys.stdin.readline()
    try:
        with deployment.lease():
            print("held", flush=True); sys.stdin.readline()
    except Locked as error:
        print("locked", flush=True)
"""


def test_of_several_runs_at_once_exactly_one_holds_it(url: str) -> None:
    open_state(url).close()
    runs = [start_python(TAKE, url) for _ in range(4)]
    try:
        for run in runs:
            assert run.stdout is not None
            assert run.stdout.readline() == "ready\n"
        for run in runs:
            assert run.stdin is not None
            run.stdin.write("go\n")
            run.stdin.flush()
        said = [run.stdout.readline() for run in runs if run.stdout is not None]
        assert sorted(said) == ["held\n", "locked\n", "locked\n", "locked\n"]
    finally:
        for run in runs:
            run.communicate("end\n", timeout=patience(60))
    with open_state(url) as state:
        assert state.deployment("net").held() is None


WORK = """
import sys
from dataclasses import replace
from nixops_proxmox.model import Facts, Machine, Phase
from nixops_proxmox.state import open_state
with open_state(sys.argv[1]) as state:
    deployment = state.deployment("net")
    with deployment.lease() as lease:
        journal = deployment.journal(lease)
        machine = Machine("net", "web")
        for number in range(1, 100000):
            attempt = journal.begin(machine, "Count", Phase.READY)
            journal.commit(attempt, machine.moved(Phase.READY, Facts(vmid=number)))
            print(number, flush=True)
"""


@pytest.mark.parametrize("after", [1, 7, 20])
def test_a_killed_run_has_lost_nothing_it_was_told_is_recorded_and_the_next_takes_over(url: str, after: int) -> None:
    run = start_python(WORK, url)
    assert run.stdout is not None
    last = [run.stdout.readline() for _ in range(after)][-1]
    run.kill()
    rest = run.stdout.read().split()  # communicate() would forget what readline() has read ahead
    run.communicate()
    told = int(rest[-1] if rest else last)
    with open_state(url) as state:
        deployment = state.deployment("net")
        counted = deployment.machine("web").facts.vmid
        assert told <= counted <= told + 1, "the last one may have been recorded and not told"
        with deployment.lease() as lease:
            assert lease.took_over is not None
        done = [entry for entry in deployment.history() if entry.outcome is AttemptOutcome.DONE]
        assert len(done) == counted, "phase, facts and the attempt's end are one transaction"
        assert not [entry for entry in deployment.history() if entry.outcome is AttemptOutcome.RUNNING]


def test_a_lease_is_proven_at_any_moment_and_never_again_after_it_was_broken(state: State) -> None:
    deployment = state.deployment("net")
    right = Right()
    with deployment.lease() as first, right.held(lambda: deployment.prove(first)):
        right.check()
        with deployment.lease(break_lock=True), pytest.raises(Locked, match="taken over"):
            right.check()
        with pytest.raises(Locked, match="taken over"):
            right.check()  # the other has ended, and nobody holds it: what was broken stays broken
    with pytest.raises(Locked, match="taken over"):
        right.check()
    with pytest.raises(Locked, match="taken over"):
        right.sleep(3600)  # whoever waits ends, too


def test_who_holds_nothing_may_act_and_whoever_gave_it_back_regularly_too(state: State) -> None:
    right, deployment = Right(), state.deployment("net")
    right.check()
    with deployment.lease() as lease, right.held(lambda: deployment.prove(lease)):
        right.check()
    right.check()


def test_a_word_that_took_long_to_come_is_asked_for_again_and_given_up(state: State) -> None:
    """The process may have been stopped after the record was read, and before we heard what it said."""
    asked: list[float] = []
    now = 0.0

    def prove() -> None:
        nonlocal now
        asked.append(now)
        now += 60.0 if len(asked) in slow else 0.1

    slow = {1}
    right = Right(clock=lambda: now)
    with right.held(prove):
        right.check()
        assert len(asked) == 2
        slow = set(range(100))
        with pytest.raises(Locked, match="took more than 5 s"):
            right.check()
