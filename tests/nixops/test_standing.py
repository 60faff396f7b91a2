"""The state that NixOps shows."""

import pytest

from nixops_proxmox.model import Phase, Power
from nixops_proxmox.nixops2.standing import standing


@pytest.mark.parametrize(
    ("phase", "power", "reachable", "before", "said"),
    [
        (Phase.READY, None, None, "", "UP"),
        (Phase.READY, Power.STOPPED, None, "UP", "STOPPED"),
        (Phase.READY, Power.RUNNING, False, "UP", "UNREACHABLE"),
        (Phase.READY, Power.RUNNING, True, "UNREACHABLE", "UP"),
        (Phase.DRIFTED, None, None, "STOPPED", "STOPPED"),
        (Phase.DRIFTED, None, None, "MISSING", "UP"),
        (Phase.DRIFTED, Power.STOPPED, None, "UP", "STOPPED"),
        (Phase.DRIFTED, Power.RUNNING, None, "STOPPED", "UP"),
        (Phase.STOPPED, Power.RUNNING, None, "STOPPED", "UP"),
        (Phase.RESCUE, Power.RUNNING, None, "", "RESCUE"),
        (Phase.RESCUE, Power.STOPPED, None, "", "STOPPED"),
        (Phase.LOST, None, None, "UP", "MISSING"),
        (Phase.LOST, Power.STOPPED, None, "UP", "MISSING"),
        (Phase.PARTITIONED, None, None, "", "STARTING"),
        (Phase.INSTALLER, Power.RUNNING, None, "", "STARTING"),
    ],
)
def test_what_was_seen_comes_before_what_the_record_says(
    phase: Phase, power: Power | None, reachable: bool | None, before: str, said: str
) -> None:
    assert standing(phase, power, reachable=reachable, before=before) == said
