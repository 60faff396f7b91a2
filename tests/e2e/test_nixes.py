"""A machine's beginning, and a change, by the command line with each Nix that users have."""

from typing import TYPE_CHECKING

import pytest

from tests.nixes import NIXES, nix_path

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]


@pytest.mark.parametrize("which", NIXES)
def test_a_machine_is_installed_changed_and_destroyed(bed: "Bed", which: str) -> None:
    path = nix_path(which)
    bed.run("deploy", PATH=path)
    first = bed.ssh("web", "readlink -f /run/current-system").strip()
    bed.run("deploy", PATH=path, VERSION="2")
    second = bed.ssh("web", "readlink -f /run/current-system").strip()
    assert first.startswith("/nix/store/") and second.startswith("/nix/store/") and first != second
    bed.run("destroy", "--yes", PATH=path)
