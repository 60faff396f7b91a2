"""One lab for the provider, emptied for every test; and the state's databases."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.builds import build_with_nix
from tests.nixes import find_obstacle
from tests.state.conftest import postgres_server, url  # noqa: F401 -- fixtures: every test of the state runs on both

if TYPE_CHECKING:
    from tests.e2e.bed import Bed
    from tests.nixops4.dialogue import Provider

SYSTEM = Path(__file__).parents[2] / "examples" / "nixops4" / "system.nix"
Build = Callable[[str], str]


@pytest.fixture(scope="session")
def provider_bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Bed"]:
    from tests.e2e.bed import start_bed

    home = tmp_path_factory.mktemp("nixops4")
    with start_bed(home / "user", home / "network.nix") as bed:  # no network file: NixOps 4 brings the description
        yield bed


@pytest.fixture
def bed(provider_bed: "Bed") -> "Bed":
    """The lab, emptied, and a user without any state."""
    provider_bed.reset()
    state = provider_bed.home / "state" / "nixops-proxmox"
    for left in state.glob("state.sqlite*"):
        left.unlink()
    shutil.rmtree(state / "deployments", ignore_errors=True)
    return provider_bed


@pytest.fixture
def start(bed: "Bed") -> Iterator[Callable[..., "Provider"]]:
    """Starts a provider, as NixOps does for each resource, with more environment; all end with the test."""
    from contextlib import ExitStack

    from tests.nixops4.dialogue import start_provider

    with ExitStack() as stack:
        yield lambda **more: stack.enter_context(start_provider(bed.environment | more, bed.home / "provider.log"))


@pytest.fixture
def provider(start: Callable[..., "Provider"]) -> "Provider":
    return start()


@pytest.fixture(scope="session")
def build_system(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The store path of a system that differs by its version."""
    if obstacle := find_obstacle():
        pytest.skip(obstacle)
    folder = tmp_path_factory.mktemp("system")

    def build(version: str) -> str:
        return build_with_nix("--out-link", str(folder / version), "--argstr", "version", version, str(SYSTEM))

    return build
