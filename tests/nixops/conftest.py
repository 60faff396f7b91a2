"""One lab for all tests of the real NixOps; each test, or each file, has a network of its own in it."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.bed import Bed, start_bed
from tests.nixes import nixpkgs_lib
from tests.nixops.bed import HOW_NIXOPS, Nixops, find_nixops
from tests.pace import patience

MakeNixops = Callable[..., Nixops]


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    find_nixops()  # before anything is started
    if not os.access("/nix/store", os.W_OK):
        pytest.skip("NixOps's closures are of /nix/store, and it cannot be written")
    home = tmp_path_factory.mktemp("nixops")
    with start_bed(home / "home", home) as bed:
        yield bed


@pytest.fixture(scope="session")
def make_nixops(lab: Bed, tmp_path_factory: pytest.TempPathFactory) -> MakeNixops:
    program, lib = find_nixops(), nixpkgs_lib()
    done = subprocess.run([program, "list-plugins"], capture_output=True, text=True, timeout=patience(60), check=False)
    assert done.returncode == 0, f"NixOps does not start: {done.stderr[-1000:]}"
    if "proxmox" not in done.stdout:
        pytest.skip(f"this NixOps has not our plugin ({HOW_NIXOPS})")

    def make(network: str, *, create: bool = True, **more: str) -> Nixops:
        made = Nixops(lab, program, lib, tmp_path_factory.mktemp("network"), **more)
        made.write(network)
        if create:
            made.create()
        return made

    return make


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).parents[2]
