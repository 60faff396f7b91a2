"""Restarts a router by a command of the user's own, such as its hypervisor's: its VM is not ours to touch."""

import shlex
import subprocess
from collections.abc import Callable

from nixops_proxmox.errors import ConfigError, RouterError
from nixops_proxmox.routers.profile import RouterProfile

TIME = 120.0  # seconds


def restart_of(profile: RouterProfile) -> Callable[[], None] | None:
    """None: the profile says no command. ConfigError for one that is none."""
    try:
        argv = shlex.split(profile.setting("restart"))
    except ValueError as error:
        raise ConfigError(f"{profile.title}: `restart` is no command: {error}") from error
    return (lambda: _run(argv, profile.title)) if argv else None


def _run(argv: list[str], title: str) -> None:
    where = f"{title}: restart"
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=TIME)
    except OSError as error:
        raise RouterError(f"{where}: {argv[0]} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise RouterError(f"{where}: no end within {TIME:.0f} s") from error
    if done.returncode != 0:
        told = done.stderr.decode("utf-8", "replace").strip()
        raise RouterError(f"{where}: exit status {done.returncode}: {told}")
