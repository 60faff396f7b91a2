"""`nixops deploy --plan-only`: NixOps asks only what has its own diff engine for a plan."""

from typing import Any

from nixops_proxmox.kinds.machine.shape import Permissions
from nixops_proxmox.messages.plans import describe
from nixops_proxmox.nixops2.errors import ProxmoxError, told, translated
from nixops_proxmox.nixops2.spelling import spelled
from nixops_proxmox.operations.read_only import plan_machine
from nixops_proxmox.texts import shown


class Planning:
    """Before NixOps's `DiffEngineResourceState`, which is what NixOps looks for. Its engine is not used."""

    logger: Any
    _pursuit: Any

    def plan(self, defn: Any) -> None:
        """What a deploy would do to the hardware. What it would activate, NixOps knows only after it has built it."""
        with translated():
            pursuit, _ = self._pursuit(defn.spec, Permissions(), meet=False)
            planned = plan_machine(pursuit.machine, pursuit.world)
        for line in describe(planned):
            self.logger.log(shown(spelled(line)))
        if planned.error is not None:
            raise ProxmoxError(told(planned.error))
