"""The package is imported inside the fixtures: typeguard must see its first import."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.pace import patience


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skipped, and said, where the kernel allows none."""
    from nixops_proxmox.lab.network import Privilege, find_privilege

    if find_privilege() is Privilege.NONE:
        pytest.skip("no network namespaces here")


@pytest.fixture
def play(tmp_path: Path, namespaces: None) -> Callable[..., None]:
    """Runs a scenario on a fresh driver, which must close whatever happens."""
    from tests.lab.machines.simulated_bench import Bench

    async def whole(scenario: Callable[[Any], Awaitable[None]], options: Any) -> None:
        bench = Bench(tmp_path, options)
        await bench.driver.open()
        try:
            await asyncio.wait_for(scenario(bench), patience(60))
        finally:
            await bench.driver.close()

    return lambda scenario, options=None: asyncio.run(whole(scenario, options))
