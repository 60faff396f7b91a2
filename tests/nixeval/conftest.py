"""A Nix store of its own for every test that asks a real Nix: it needs no daemon, no root, no network."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.builds import nix_config

if TYPE_CHECKING:  # typeguard must see the package's first import, and pytest reads this file before typeguard starts
    from nixops_proxmox.nixeval.runner import ProcessRunner
    from nixops_proxmox.nixeval.tools import Nix


@pytest.fixture
def fake_nix() -> "Nix":
    from nixops_proxmox.nixeval.tools import Nix, Store

    return Nix(Path("/n/bin"), (2, 8, 0), Store.DAEMON)


@pytest.fixture(scope="session")
def nix() -> "Nix":
    from nixops_proxmox.nixeval.tools import find_nix

    other = os.environ.get("NIXOPS_PROXMOX_NIX", "")  # the folder of another Nix's programs, to try that one
    found = find_nix({**os.environ, "PATH": other} if other else None)
    if found is None:
        pytest.skip("there is no Nix on this machine: apt install nix-bin")
    return found


@pytest.fixture
def nix_run(tmp_path: Path) -> "ProcessRunner":
    """Runs Nix on a store below the test's own directory."""
    from nixops_proxmox.nixeval.runner import ProcessRunner

    root = tmp_path / "nix"
    return ProcessRunner(
        environment={
            "NIX_STORE_DIR": str(root / "store"),
            "NIX_STATE_DIR": str(root / "var"),
            "NIX_LOG_DIR": str(root / "log"),
            "NIX_CONF_DIR": str(root / "etc"),
            "NIX_REMOTE": "",
            "NIX_PATH": "",
            "NIX_CONFIG": nix_config(),
        }
    )
