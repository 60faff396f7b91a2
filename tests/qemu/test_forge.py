"""`scripts/demo forge` on six real guests: nginx, git, Redis and PostgreSQL in virtual machines."""

from pathlib import Path

import pytest

from tests.e2e.story import run_story
from tests.nixes import find_obstacle

SECONDS = 2400.0  # eight minutes on two cores without KVM; more when others work, too
pytestmark = [
    pytest.mark.qemu, pytest.mark.netns, pytest.mark.nix, pytest.mark.weekly, pytest.mark.timeout(SECONDS)
]  # fmt: skip


def test_the_forge_keeps_its_data_while_its_machines_come_and_go(tmp_path: Path) -> None:
    from tests.lab.qemu import conftest as lab

    if obstacle := lab.find_obstacle() or find_obstacle():
        pytest.skip(obstacle)
    run_story("forge", "qemu", tmp_path, SECONDS)
