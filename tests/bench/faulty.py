"""A fleet on a cluster where every twentieth call goes wrong: how many machines one run makes ready."""

from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from tests.bench.fleet import measure_fleet, start_scripted_lab
from tests.e2e.door import Door

EVERY = 20  # calls: 5 %
CALLS = 35  # of one machine at most, with polls
LOCKED = "cfs-lock 'file-user_cfg' error: got lock request timeout"
KINDS: tuple[dict[str, Any], ...] = (
    {"action": "refuse", "status": 503, "text": "Service Unavailable"},
    {"action": "drop_before"},
    {"action": "refuse", "status": 500, "text": LOCKED},
    {"action": "drop_after"},
    {"action": "refuse", "status": 596, "text": "Connection timed out"},
)


def faults(count: int) -> Iterator[dict[str, Any]]:
    """For a fleet of `count` machines: each kind in turn, at every twentieth call."""
    places = range(EVERY, count * CALLS, EVERY)
    return ({**kind, "nth": place} for place, kind in zip(places, cycle(KINDS), strict=False))


def measure_faults(folder: Path, count: int, say: Callable[[str], None]) -> dict[str, Any]:
    say(f"{count} machines, and every {EVERY}th call goes wrong")
    with start_scripted_lab(folder / "faulty", realistic=False) as lab:
        door = Door(lab)
        for fault in islice(faults(count), count * CALLS):
            door.fault(**fault)
        found = measure_fleet(lab, count, folder / "faulty-client")
    return {"machines": count, "every": EVERY, "ready": found["ready"], "calls": found["calls"]["total"]}
