"""rrddata: the form of PVE's statistics, with what is true now as their last point."""

from collections.abc import Mapping
from typing import Any

from nixops_proxmox.lab.call import Call
from nixops_proxmox.lab.schema.types import one_of

TIMEFRAME = {
    "timeframe": one_of("hour", "day", "week", "month", "year", optional=False),
    "cf": one_of("AVERAGE", "MAX"),
}
STEPS = {"hour": 60, "day": 1800, "week": 10800, "month": 43200, "year": 604800}  # seconds between two points


def series(call: Call, values: Mapping[str, float]) -> list[dict[str, Any]]:
    """Seventy points up to now, as rrd_fetch gives them; the last is what is true now, before it nothing is known."""
    step = STEPS[call.params["timeframe"]]
    now = int(call.cluster.clock.time()) // step * step
    points: list[dict[str, Any]] = [{"time": now - step * index} for index in range(69, -1, -1)]
    points[-1] |= values
    return points
