"""One server for each file of tests."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.foreign.bench import Foreign


@pytest.fixture(scope="module")
def foreign() -> Iterator["Foreign"]:
    from tests.foreign.bench import start_foreign  # typeguard must see the first import of the package

    if find_spec("fakepve") is None:
        pytest.skip("fakepve is not installed: pip install '.[dev]'")
    with start_foreign() as started:
        yield started
