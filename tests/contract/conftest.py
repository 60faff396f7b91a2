"""A lab and its client for all tests of a file. Imports of the package wait until typeguard has seen it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.contract.client_bench import Bench


@pytest.fixture(scope="module")
def shared() -> Iterator["Bench"]:
    from tests.contract.client_bench import start_bench

    with start_bench() as made:
        yield made


@pytest.fixture
def bench(shared: "Bench") -> Iterator["Bench"]:
    yield shared
    shared.lab.faults.clear()
    shared.told.clear()
    shared.warned.clear()
