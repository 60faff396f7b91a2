"""`scripts/demo laboratory` on eight real guests: keepalived, dnsmasq, haproxy and Prometheus in virtual machines."""

from pathlib import Path

import pytest

from tests.e2e.story import run_story
from tests.nixes import find_obstacle

SECONDS = 3600.0  # two cores without KVM, when others work, too
pytestmark = [
    pytest.mark.qemu, pytest.mark.netns, pytest.mark.nix, pytest.mark.weekly, pytest.mark.timeout(SECONDS)
]  # fmt: skip


def test_a_node_without_power_costs_the_service_seconds_and_ha_starts_its_machines_elsewhere(tmp_path: Path) -> None:
    from tests.lab.qemu import conftest as lab

    if obstacle := lab.find_obstacle() or find_obstacle():
        pytest.skip(obstacle)
    run_story("laboratory", "qemu", tmp_path, SECONDS)
