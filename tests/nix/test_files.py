"""Every Nix file of the project parses."""

import shutil
import subprocess

import pytest

from tests.nix.conftest import ROOT

FILES = sorted([*(ROOT / "nix").rglob("*.nix"), *ROOT.glob("*.nix"), *(ROOT / "tests").rglob("*.nix")])


@pytest.mark.nix
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_it_parses(path: object) -> None:
    if shutil.which("nix-instantiate") is None:
        pytest.skip("there is no Nix: install nix-bin")
    done = subprocess.run(["nix-instantiate", "--parse", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
