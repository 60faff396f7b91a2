"""Files that may hold secrets: one that others may read is refused."""

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

from nixops_proxmox.errors import ConfigError


def read_private_toml(path: Path) -> dict[str, Any]:
    """Nothing if there is no file. Raises ConfigError, which names it."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise ConfigError(f"{path} may be read by others (mode {mode:o})", hint=f"chmod 600 {path}")
            return tomllib.loads(file.read().decode("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
