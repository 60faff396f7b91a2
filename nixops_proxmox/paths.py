"""Where our own files are, and where a user's are kept."""

from pathlib import Path

from platformdirs.unix import Unix

# The XDG base directories on macOS too, where Nix's own tools also use them.
_FOLDERS = Unix("nixops-proxmox")


def nix_dir() -> Path:
    """The folder of our Nix files: beside the package in a checkout, inside it once installed."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / "nix"
    return checkout if (checkout / "eval.nix").exists() else package / "nix"


def expanded(text: str | Path) -> Path:
    """Replace `~` and `~user` by the home. Like a shell, keep the text if there is no such user."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def config_dir() -> Path:
    """Where profiles are read from."""
    return _FOLDERS.user_config_path


def cache_dir() -> Path:
    """What may be deleted at any time, and is made again."""
    return _FOLDERS.user_cache_path


def state_dir() -> Path:
    """Where state, keys and the lab live. Only the user may read them."""
    return _FOLDERS.user_state_path
