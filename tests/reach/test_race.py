"""The race: who wins, who must not, how fast, and what is said about the others."""

import random
import socket
from collections.abc import Callable
from threading import Event
from threading import enumerate as threads
from time import monotonic

import pytest

from nixops_proxmox.errors import HostKeyChanged, NoEndpoint, SshUnreachable
from nixops_proxmox.model import Endpoint
from nixops_proxmox.reach.candidates import Candidate
from nixops_proxmox.reach.race import HEAD_START, STAGGER, Proof, RaceResult, StopSignal, TrialOutcome, race
from tests.pace import patience, wait_until

OURS, THEIRS = "ssh-ed25519 AAAAours", "ssh-ed25519 AAAAtheirs"
Behaviour = Callable[[StopSignal], Proof]


def candidate(host: str, origin: str = "agent") -> Candidate:
    return Candidate(Endpoint(host), origin)


def answers(key: str, after: float = 0.0) -> Behaviour:
    def behave(cancelled: StopSignal) -> Proof:
        cancelled.wait(after)
        return Proof(key, after / 2)

    return behave


def refuses(cancelled: StopSignal) -> Proof:
    raise SshUnreachable("connection refused")


def black_hole(cancelled: StopSignal) -> Proof:
    assert cancelled.wait(patience(20)), "nobody cancelled the loser"
    raise SshUnreachable("cancelled")


def run(
    behaviours: list[Behaviour],
    *,
    remembered: bool = False,
    deadline: float = 5.0,
    stagger: float = STAGGER,
    head_start: float = HEAD_START,
) -> RaceResult:
    hosts = {f"10.0.0.{index}": behave for index, behave in enumerate(behaviours)}
    candidates = [candidate(host, "remembered" if remembered and host == "10.0.0.0" else "agent") for host in hosts]
    return race(
        candidates,
        lambda c, cancelled: hosts[c.endpoint.host](cancelled),
        keys=[OURS + " web"],
        deadline=patience(deadline),
        stagger=stagger,
        head_start=head_start,
    )


def outcomes(result: RaceResult) -> list[TrialOutcome]:
    return [attempt.outcome for attempt in result.attempts]


def test_the_first_that_is_proven_wins_and_nobody_else_is_bothered() -> None:
    result = run([answers(OURS), answers(OURS)])
    assert result.winner.candidate.endpoint.host == "10.0.0.0"
    assert outcomes(result) == [TrialOutcome.WON, TrialOutcome.NOT_STARTED]


def test_a_failure_starts_the_next_at_once() -> None:
    result = run([refuses] * 20 + [answers(OURS)], deadline=20, stagger=patience(30))
    assert outcomes(result) == [TrialOutcome.FAILED] * 20 + [TrialOutcome.WON]
    assert result.attempts[3].reason == "connection refused"


def test_a_wrong_key_never_wins_however_early_it_comes() -> None:
    result = run([answers(THEIRS), answers(OURS, 0.15)])
    assert outcomes(result) == [TrialOutcome.WRONG_KEY, TrialOutcome.WON]


def test_a_probe_that_found_a_wrong_key_itself_counts_the_same() -> None:
    def changed(cancelled: StopSignal) -> Proof:
        raise HostKeyChanged("somebody else")

    assert outcomes(run([changed, answers(OURS)])) == [TrialOutcome.WRONG_KEY, TrialOutcome.WON]


def test_only_wrong_keys_is_no_endpoint_with_each_reason() -> None:
    with pytest.raises(NoEndpoint) as caught:
        run([answers(THEIRS), refuses])
    assert len(caught.value.attempts) == 2
    assert "10.0.0.0:22: another machine answered" in caught.value.attempts[0]
    assert "connection refused" in str(caught.value)


def test_the_deadline_ends_the_race_and_says_so() -> None:
    began = monotonic()
    with pytest.raises(NoEndpoint, match=f"no answer within {patience(0.2):.2g} s"):
        run([black_hole, black_hole], deadline=0.2)
    assert monotonic() - began < patience(5)


def test_without_candidates_there_is_no_endpoint() -> None:
    with pytest.raises(NoEndpoint, match="no address to try"):
        run([])


def test_a_remembered_winner_has_a_head_start() -> None:
    result = run([answers(OURS, 0.15), answers(OURS)], remembered=True, head_start=patience(5))
    assert outcomes(result) == [TrialOutcome.WON, TrialOutcome.NOT_STARTED]
    overtaken = run([answers(OURS, patience(5)), answers(OURS)])
    assert outcomes(overtaken) == [TrialOutcome.OVERTAKEN, TrialOutcome.WON]


def test_losers_are_cancelled_and_their_sockets_closed() -> None:
    left, right = socket.socketpair()
    closed = Event()

    def blocked(cancelled: StopSignal) -> Proof:
        cancelled.when_set(lambda: left.shutdown(socket.SHUT_RDWR))
        left.recv(1)
        left.close()
        closed.set()
        raise SshUnreachable("cancelled")

    result = run([blocked, answers(OURS)])
    assert closed.wait(patience(1))
    assert outcomes(result) == [TrialOutcome.OVERTAKEN, TrialOutcome.WON]
    right.close()


def test_a_callback_that_comes_after_the_cancellation_is_called_at_once() -> None:
    cancelled, called = StopSignal(), Event()
    cancelled.set()
    cancelled.when_set(called.set)
    assert called.is_set() and cancelled.is_set()


def test_no_thread_stays_behind() -> None:
    run([black_hole, black_hole, answers(OURS)])
    wait_until(lambda: not [thread for thread in threads() if thread.name.startswith("race-")], 1)


def test_a_defect_in_a_probe_is_not_taken_for_an_unreachable_host() -> None:
    def broken(cancelled: StopSignal) -> Proof:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run([broken, answers(OURS, 1)])


@pytest.mark.parametrize("alive", range(8))
def test_seven_black_holes_of_eight_cost_less_than_half_a_second(alive: int) -> None:
    behaviours: list[Behaviour] = [black_hole] * 8
    behaviours[alive] = answers(OURS, 0.05)
    began = monotonic()
    assert run(behaviours).winner.candidate.endpoint.host == f"10.0.0.{alive}"
    assert monotonic() - began < patience(4)  # a black hole that is waited for costs more
    assert 7 * STAGGER + 0.05 < 0.5


def test_in_a_thousand_races_with_decoys_no_decoy_ever_wins() -> None:
    rng = random.Random(8305)
    for _ in range(1000):
        behaviours: list[Behaviour] = [answers(OURS, 0.001)]
        behaviours += [rng.choice([answers(THEIRS), answers(THEIRS, 0.001), refuses]) for _ in range(rng.randint(1, 7))]
        rng.shuffle(behaviours)
        result = race(
            [candidate(str(index)) for index in range(len(behaviours))],
            lambda c, cancelled, behaviours=behaviours: behaviours[int(c.endpoint.host)](cancelled),  # type: ignore[misc]
            keys=[OURS],
            stagger=0.0005,
        )
        assert outcomes(result).count(TrialOutcome.WON) == 1
        assert result.winner.candidate.endpoint.host == str(
            behaviours.index(next(b for b in behaviours if _is_ours(b)))
        )


def _is_ours(behaviour: Behaviour) -> bool:
    closure = getattr(behaviour, "__closure__", None) or ()
    return any(cell.cell_contents == OURS for cell in closure)


def test_explanations_name_address_port_and_way() -> None:
    def far(c: Candidate, cancelled: StopSignal) -> Proof:
        raise SshUnreachable("no route")

    with pytest.raises(NoEndpoint) as caught:
        race([Candidate(Endpoint("fd77::1", 2222, jump="gate"), "agent")], far, keys=[OURS])
    assert caught.value.attempts[0].startswith("[fd77::1]:2222 through gate: no route after 0.0")
