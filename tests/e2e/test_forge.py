"""`scripts/demo forge` on simulated guests: real nginx, git, Redis and PostgreSQL, on six machines."""

import os
from pathlib import Path

import pytest

from tests.e2e.story import run_story
from tests.nixes import find_obstacle

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.weekly]

SECONDS = 280.0


def test_the_forge_keeps_its_data_while_its_machines_come_and_go(tmp_path: Path) -> None:
    if obstacle := find_obstacle():
        pytest.skip(obstacle)
    if os.geteuid() != 0:
        pytest.skip("PostgreSQL refuses to run as root, and only root's lab has other users")
    run_story("forge", "simulated", tmp_path, SECONDS)
