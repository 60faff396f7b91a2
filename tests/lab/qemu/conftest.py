"""A driver of real guests for a test. The package is imported inside: typeguard must see its first import."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.pace import patience

Scenario = Callable[[Any], Awaitable[Any]]


def find_obstacle() -> str:
    """Why there can be no real guests here; "" for nothing."""
    from nixops_proxmox.lab.image.build import missing_tools
    from nixops_proxmox.lab.network import Privilege, find_privilege

    missing = [tool for tool in ("qemu-system-x86_64", "qemu-img", "dnsmasq", "setpriv") if shutil.which(tool) is None]
    if missing or (missing := missing_tools()):
        return "not installed: " + " ".join(missing)
    return "no network namespace here" if find_privilege() is Privilege.NONE else ""


@pytest.fixture(scope="session")
def image() -> Any:
    """The installer image, from the user's cache."""
    if obstacle := find_obstacle():
        pytest.skip(obstacle)
    from nixops_proxmox.lab.image import build_image, default_cache

    return build_image(default_cache(), lambda _: None)


@pytest.fixture
def play(tmp_path: Path, image: Any) -> Callable[..., Any]:
    """Runs a scenario on a fresh driver, which must close whatever happens."""

    from tests.lab.qemu.bench import Bench

    async def whole(scenario: Scenario, limit: float) -> Any:
        bench = Bench(tmp_path, image)
        await bench.driver.open()
        try:
            return await asyncio.wait_for(scenario(bench), patience(limit))
        finally:
            await bench.driver.close()

    return lambda scenario, limit=60.0: asyncio.run(whole(scenario, limit))
