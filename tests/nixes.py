"""The Nix of this machine, and a current one beside it: most users have one, and it says and refuses other things.

`scripts/current-nix` makes the other, and NIXOPS_PROXMOX_NIX_CURRENT is the folder of its programs.
"""

import os
import re
import shutil
from pathlib import Path

import pytest

VARIABLE = "NIXOPS_PROXMOX_NIX_CURRENT"
NIXPKGS = "NIXOPS_PROXMOX_NIXPKGS"
SMALL_LIB = Path(__file__).parent / "nixlib"
SMALL_NIXOS = Path(__file__).parent / "nixops" / "nixpkgs"
NIXES = ("own", "current")
WHOLE = 1800  # seconds: NixOS's own modules take 6 s of CPU for each machine, and a test has up to 50
TREES = ("stand-in", pytest.param("nixos", marks=pytest.mark.timeout(WHOLE)))  # as `nixos_tree` takes them


def nix_path(which: str) -> str:
    """A PATH that has this Nix first; skips the test where there is none."""
    path = os.environ["PATH"]
    if which == "own":
        if shutil.which("nix-instantiate") is None:
            pytest.skip("there is no Nix on this machine: apt install nix-bin")
        return path
    folder = os.environ.get(VARIABLE, "")
    if not folder:
        pytest.skip(f"there is no current Nix: {VARIABLE}=$(scripts/current-nix)")
    assert (Path(folder) / "nix-instantiate").exists(), f"{VARIABLE}={folder} has no Nix"
    return f"{folder}:{path}"


def find_obstacle(state: Path = Path("/nix/var/nix"), settings: str | None = None) -> str:
    """Why a whole deployment cannot be tried here; empty if it can. `settings`: another NIX_CONFIG."""
    settings = os.environ.get("NIX_CONFIG", "") if settings is None else settings
    if shutil.which("nix-instantiate") is None:
        return "there is no Nix here: apt-get install nix-bin"
    if re.search(r"(?m)^\s*store\s*=", settings):
        return ""  # scripts/test made one
    first = next(folder for folder in (state, *state.parents) if folder.exists())
    if os.access(first, os.W_OK) or (state / "daemon-socket" / "socket").exists():
        return ""
    return "you may not write /nix, and there is no Nix daemon: apt-get install nix-setup-systemd"


def store_folder(settings: str | None = None) -> Path:
    """Where the store has its files: below the folder that NIX_CONFIG, or these settings, name as the store."""
    settings = os.environ.get("NIX_CONFIG", "") if settings is None else settings
    named = re.findall(r"(?m)^\s*store\s*=\s*(/\S+)", settings)
    return Path(f"{named[-1].rstrip('/') if named else ''}/nix/store")


def find_nixpkgs() -> Path | None:
    """A nixpkgs, or a folder with its lib alone: NIXOPS_PROXMOX_NIXPKGS, or <nixpkgs> of NIX_PATH."""
    entries = [entry.partition("=") for entry in os.environ.get("NIX_PATH", "").split(":")]
    found = [os.environ.get(NIXPKGS, ""), *(path for name, _, path in entries if name == "nixpkgs")]
    return next((Path(place) for place in found if place and (Path(place) / "lib" / "modules.nix").exists()), None)


def nixpkgs_lib() -> Path:
    """The folder of nixpkgs' lib, or of the small one that stands in for it where there is none."""
    tree = find_nixpkgs()
    return tree / "lib" if tree else SMALL_LIB


def nixos_tree(which: str) -> Path:
    """What is evaluated as nixpkgs with NixOS: the stand-in, or the real one (`nixos`); skips where there is none."""
    if which == "stand-in":
        return SMALL_NIXOS
    tree = find_nixpkgs()
    if tree is None or not (tree / "nixos" / "modules" / "module-list.nix").exists():
        pytest.skip(f"there are no NixOS modules: set {NIXPKGS} to a whole nixpkgs")
    return tree
