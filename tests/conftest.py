"""Tests of real guests run one after the other: on a small machine they would only wait for each other."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("qemu") and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group("qemu"))
