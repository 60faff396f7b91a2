"""`nixops deploy --plan-only`: NixOps asks only what has its own diff engine for a plan. And where new machines go."""

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import nixops.script_defs

from nixops_proxmox.errors import DeployError
from nixops_proxmox.kinds.machine.shape import Permissions
from nixops_proxmox.messages.plans import describe
from nixops_proxmox.model import Machine, Phase
from nixops_proxmox.nixops2.errors import ProxmoxError, told, translated
from nixops_proxmox.nixops2.spelling import spelled
from nixops_proxmox.nixops2.volumes import refuse_wrong_volumes
from nixops_proxmox.operations.downtime import find_downtime
from nixops_proxmox.operations.placing import near_its_volumes, place_new
from nixops_proxmox.operations.read_only import Planned, plan_machine
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.texts import shown

ALLOWED = "nixops_proxmox_allowed"  # an attribute of NixOps's Deployment: what the planned deploy may do


def hear_permissions(subparsers: Any) -> None:
    """NixOps asks for a plan, and does not say what the deploy may do."""
    subparsers.choices["deploy"].set_defaults(op=deploy)


def deploy(args: Namespace) -> None:
    """What NixOps does, and a plan knows of `--allow-reboot`."""
    if not args.plan_only or args.dry_run or args.build_only:
        nixops.script_defs.op_deploy(args)
        return
    with nixops.script_defs.deployment(args, True, "nixops deploy") as depl:
        if args.confirm:
            depl.logger.set_autoresponse("y")
        setattr(depl, ALLOWED, Permissions(allow_reboot=args.allow_reboot, allow_recreate=args.allow_recreate))
        depl.deploy(
            plan_only=True,
            include=args.include or [],
            exclude=args.exclude or [],
            kill_obsolete=args.kill_obsolete,
            allow_reboot=args.allow_reboot,
            allow_recreate=args.allow_recreate,
        )


class Planning:
    """A mixin before NixOps's `DiffEngineResourceState`, for which NixOps looks. We do not use its engine."""

    depl: Any
    logger: Any
    name: Any
    record: Any
    _pursuit: Any
    _run: Any

    def plan(self, defn: Any) -> None:
        """Show what a deploy would do to the hardware. NixOps knows what it would activate only after it has built
        it."""
        with translated():
            refuse_wrong_volumes(self.depl.definitions)
            allowed = getattr(self.depl, ALLOWED, Permissions())
            pursuit, book = self._pursuit(self._run.machine(self.name), allowed, meet=False)
            planned = self._plan(pursuit.machine, pursuit.world)
            if planned.restart:
                planned = replace(planned, downtime=find_downtime(book.record_now.entries))
        for line in describe(planned):
            self.logger.log(shown(spelled(line)))
        if planned.error is not None:
            raise ProxmoxError(told(planned.error))

    def _plan(self, machine: Machine, world: Any) -> Planned:
        self.find_place(machine, world.spec)
        planned = plan_machine(machine, world)
        place = self._run.parts.hypervisor(world.spec.profile).find_chosen_place(machine.name)
        return planned if place is None else replace(planned, node=place.node)

    def find_place(self, machine: Machine, spec: MachineSpec) -> None:
        """For a new machine, with regard to those that exist. Raises the error of one that has none."""
        refused: dict[str, DeployError] = {}
        if machine.phase is Phase.ABSENT:
            spec = near_its_volumes(machine, spec, self._run.volumes.find_node)
            refused = place_new([(machine, spec)], list(self._everything()), self._run.parts.hypervisor)
        for error in refused.values():
            raise error

    def _everything(self) -> Iterator[tuple[Machine, MachineSpec]]:
        for one in self.depl.resources.values():
            record = one.record if isinstance(one, Planning) else None
            if record is not None and record.spec is not None:
                yield record.machine(self._run.title, one.name), record.spec
