"""NixOps itself acts on a machine only as long as it holds its lock."""

from typing import Any

from nixops_proxmox.nixops2.errors import translated


class Rightful:
    """Beside NixOps's `MachineState`. All that it does goes through these two: commands over SSH (activation, keys,
    reboots), and programs on this computer (nix-copy-closure, rsync)."""

    _run: Any

    def run_command(self, *args: Any, **kwargs: Any) -> Any:
        self._may_act()
        return super().run_command(*args, **kwargs)  # type: ignore[misc]

    def _logged_exec(self, *args: Any, **kwargs: Any) -> Any:
        self._may_act()
        return super()._logged_exec(*args, **kwargs)  # type: ignore[misc]

    def _may_act(self) -> None:
        with translated():
            self._run.parts.right.check()
