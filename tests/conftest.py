"""What holds for all tests: labs end with the tests that started them, and tests of real guests run one by one."""

import os

import pytest

STARTERS = (
    "NIXOPS_PROXMOX_LAB_STARTERS"  # lab/starter.py: typeguard must see the package's first import, so not imported
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("qemu") and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group("qemu"))


def pytest_configure() -> None:
    """Runs in the process that was started, and in each of its workers: a lab ends when one of them has ended."""
    os.environ[STARTERS] = ",".join(filter(None, [os.environ.get(STARTERS, ""), str(os.getpid())]))
