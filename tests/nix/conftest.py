"""Nix, and nixpkgs or what stands in for it: NIXOPS_PROXMOX_NIXPKGS, or <nixpkgs> of NIX_PATH."""

import importlib.util
import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.builds import nix_config
from tests.nixes import NIXES, TREES, WHOLE, nix_path, nixos_tree, nixpkgs_lib
from tests.pace import patience

ROOT = Path(__file__).resolve().parents[2]
Evaluate = Callable[..., Any]


@pytest.fixture(scope="session", params=NIXES)
def evaluate(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Evaluate:
    """Evaluates an expression (text, or a file) to data, in a store of its own; AssertionError has Nix's words."""
    path = nix_path(request.param)
    home = tmp_path_factory.mktemp("nix")
    environment = {
        **os.environ,
        "NIX_STORE_DIR": f"{home}/store",
        "NIX_STATE_DIR": f"{home}/var",
        "NIX_LOCALSTATE_DIR": f"{home}/var",
        "NIX_LOG_DIR": f"{home}/log",
        "NIX_CONF_DIR": f"{home}/etc",
        "NIX_CONFIG": nix_config("experimental-features = flakes"),
        "NIX_REMOTE": "local",
        "HOME": str(home),
        "PATH": path,
    }

    def run(
        expression: str | Path,
        arguments: Mapping[str, str] | None = None,
        *,
        attribute: str = "",
        search: Sequence[str] = (),
    ) -> Any:
        argv = ["nix-instantiate", "--eval", "--strict", "--json", "--read-write-mode"]
        argv += [str(expression)] if isinstance(expression, Path) else ["-E", expression]
        for name, value in (arguments or {}).items():
            argv += ["--arg", name, value]
        argv += ["-A", attribute] if attribute else []
        argv += [word for entry in search for word in ("-I", entry)]
        done = subprocess.run(
            argv, capture_output=True, text=True, env=environment, timeout=patience(WHOLE), check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="session")
def real_lib() -> Path:
    """The folder of nixpkgs' lib; the small one where there is no nixpkgs."""
    return nixpkgs_lib()


@pytest.fixture(params=["stand-in", "nixpkgs"])
def lib(request: pytest.FixtureRequest) -> str:
    """Both ways to read the options: a path to a lib as Nix writes it, or null."""
    return "null" if request.param == "stand-in" else str(request.getfixturevalue("real_lib"))


@dataclass(frozen=True)
class Nixos:
    """What is evaluated as NixOS: a tree of nixpkgs, or the stand-in for one around its lib."""

    tree: Path
    lib: Path
    disko: Path | None = None

    @property
    def search(self) -> tuple[str, ...]:
        return (f"nixpkgs-lib={self.lib}",)

    def arguments(self, disko: str = "disko") -> str:
        return f"{{ nixpkgs = {self.tree}; {disko} = {self.disko or 'null'}; }}"


@pytest.fixture(scope="session", params=TREES)
def nixos(request: pytest.FixtureRequest, real_lib: Path) -> Nixos:
    """The stand-in, and NixOS's own modules where NIXOPS_PROXMOX_NIXPKGS is a whole tree (with the real disko where
    NIXOPS_PROXMOX_DISKO has one)."""
    disko = os.environ.get("NIXOPS_PROXMOX_DISKO") if request.param == "nixos" else None
    return Nixos(nixos_tree(request.param), real_lib, Path(disko) if disko else None)


@pytest.fixture(scope="session")
def option_reference() -> ModuleType:
    """scripts/option_reference.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("option_reference", ROOT / "scripts" / "option_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
