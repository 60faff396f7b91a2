"""What NixOps 2 loads. It asks again and again and from any thread, so this is cheap and has no state."""

from argparse import ArgumentParser
from typing import Any

import nixops.plugins

from nixops_proxmox import paths

BACKEND = "nixops_proxmox.nixops2.backend"
VOLUMES = "nixops_proxmox.nixops2.volume"
THINGS = "nixops_proxmox.nixops2.thing"
SQL = "proxmox-sql"


class ProxmoxPlugin(nixops.plugins.Plugin):
    """The hooks that NixOps asks for."""

    def load(self) -> list[str]:
        """NixOps knows the machine type once these are imported. Called once, before anything is opened."""
        from nixops_proxmox.nixops2.gate import end_on_signals, name_state
        from nixops_proxmox.nixops2.lab import enter_lab, is_nixops
        from nixops_proxmox.nixops2.run import log_to_stderr

        if is_nixops():
            log_to_stderr()
            enter_lab()
            end_on_signals()
            name_state()
        return [BACKEND, VOLUMES, THINGS]

    def nixexprs(self) -> list[str]:
        """The folder whose `default.nix` NixOps reads."""
        return [str(paths.nix_dir())]

    def parser(self, parser: ArgumentParser, subparsers: Any) -> None:
        """`nixops proxmox …`: verbs of the command line, on NixOps's state."""
        from nixops_proxmox.nixops2.planning import hear_permissions
        from nixops_proxmox.nixops2.restoring import hear_confirm
        from nixops_proxmox.nixops2.verbs import add_verbs

        del parser
        add_verbs(subparsers)
        hear_confirm(subparsers)
        hear_permissions(subparsers)

    def storage_backends(self) -> dict[str, Any]:
        from nixops_proxmox.nixops2.storage import SqlStorage

        return {SQL: SqlStorage}

    def lock_drivers(self) -> dict[str, Any]:
        from nixops_proxmox.nixops2.storage import SqlLock

        return {SQL: SqlLock}


@nixops.plugins.hookimpl
def plugin() -> ProxmoxPlugin:
    return ProxmoxPlugin()
