"""NixOps copies files with rsync, and ends with a traceback if rsync is missing."""

from shutil import which
from typing import Any

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.nixops2.errors import translated


class Copying:
    """Beside NixOps's `MachineState`."""

    def _fmt_rsync_command(self, *args: Any, **kwargs: Any) -> list[str]:
        if which("rsync") is None:
            with translated():
                raise ConfigError(
                    "there is no rsync on this computer, and NixOps copies files by it",
                    hint="install rsync, or copy with `nixops scp`",
                )
        made: list[str] = super()._fmt_rsync_command(*args, **kwargs)  # type: ignore[misc]
        return made
