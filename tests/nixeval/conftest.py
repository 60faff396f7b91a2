"""A Nix store of its own for every test that asks a real Nix: it needs no daemon, no root, no network."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.builds import nix_config
from tests.nixes import NIXES, nix_path

if TYPE_CHECKING:  # typeguard must see the package's first import, and pytest reads this file before typeguard starts
    from nixops_proxmox.nixeval.runner import ProcessRunner
    from nixops_proxmox.nixeval.tools import Nix


@pytest.fixture
def fake_nix() -> "Nix":
    from nixops_proxmox.nixeval.tools import Nix, Store

    return Nix(Path("/n/bin"), (2, 8, 0), Store.DAEMON)


@pytest.fixture(scope="session", params=NIXES)
def nix(request: pytest.FixtureRequest) -> "Nix":
    """This machine's, and a current one."""
    from nixops_proxmox.nixeval.tools import get_nix

    return get_nix({**os.environ, "PATH": nix_path(request.param)})


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
