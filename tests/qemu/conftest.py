"""One lab with real guests for all tests here."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.nixes import find_obstacle

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed


@pytest.fixture(scope="session")
def guest_bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator["GuestBed"]:
    from tests.lab.qemu import conftest as lab

    obstacle = lab.find_obstacle() or find_obstacle()
    if obstacle:
        pytest.skip(obstacle)
    from tests.qemu.bed import start_guest_bed

    with start_guest_bed(tmp_path_factory.mktemp("guests") / "user") as bed:
        yield bed
