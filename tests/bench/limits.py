"""What must not grow: numbers of calls and modules. CI fails on these, and not on times, which the computer makes."""

from collections.abc import Iterator, Mapping
from typing import Any

MODULES = {"--help": 160, "completion": 280, "status": 435, "plan": 900, "deploy": 905, "check": 1050}
CALLS = {"plan": 2, "deploy_again": 2, "destroy": 6, "destroy_never_ran": 3}
OF_A_DEPLOY = 24  # of one machine in a cluster of three nodes, with the look right before each act


def objections(result: Mapping[str, Any]) -> list[str]:
    """A sentence for each limit that a result exceeds. What was not measured exceeds nothing."""
    return list(_objections(result))


def _objections(result: Mapping[str, Any]) -> Iterator[str]:
    verbs = result.get("verbs", {"rows": (), "calls": {}})
    for row in verbs["rows"]:
        if row["modules"] > MODULES[row["verb"]]:
            yield f"{row['verb']} imports {row['modules']} modules, and {MODULES[row['verb']]} are allowed"
    for what, most in CALLS.items():
        made = verbs["calls"].get(what, {"total": 0})["total"]
        if made > most:
            yield f"{what} makes {made} calls, and {most} are allowed"
    made = result.get("api_calls", {"total": 0})["total"]
    if made > OF_A_DEPLOY:
        yield f"a deploy of one machine makes {made} calls, and {OF_A_DEPLOY} are allowed"
    faulty = result.get("faults")
    if faulty and faulty["ready"] < faulty["machines"]:
        yield f"with faults, one run makes {faulty['ready']} of {faulty['machines']} machines ready"
