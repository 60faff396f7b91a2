"""The server that most tests use. The package is imported late: typeguard must be there before it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .server import Sshd


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Sshd]":
    from .server import start_sshd

    with start_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server
