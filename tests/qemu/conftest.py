"""One lab with real guests for all tests here."""

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed


@pytest.fixture(scope="session")
def guest_bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator["GuestBed"]:
    from tests.lab.qemu.conftest import find_obstacle

    obstacle = find_obstacle() or ("" if shutil.which("nix-instantiate") else "there is no Nix here")
    if obstacle:
        pytest.skip(obstacle)
    from tests.qemu.bed import start_guest_bed

    with start_guest_bed(tmp_path_factory.mktemp("guests") / "user") as bed:
        yield bed
