"""Where our own files are, and where a user's are kept."""

import os
from pathlib import Path


def nix_dir() -> Path:
    """The folder of our Nix files: beside the package in a checkout, inside it once installed."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / "nix"
    return checkout if (checkout / "eval.nix").exists() else package / "nix"


def config_dir() -> Path:
    """Where profiles are read from (XDG base directories)."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "nixops-proxmox"


def state_dir() -> Path:
    """Where state, keys and the lab live (XDG base directories); made private by whoever creates it."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "nixops-proxmox"
