"""`nixops restore --confirm`: NixOps takes the option with every verb, and its own `restore` forgets it."""

from argparse import Namespace
from typing import Any

import nixops.script_defs


def hear_confirm(subparsers: Any) -> None:
    subparsers.choices["restore"].set_defaults(op=restore)


def restore(args: Namespace) -> None:
    """What NixOps does, and `--confirm` says yes."""
    with nixops.script_defs.deployment(args, True, "nixops restore") as depl:
        if args.confirm:
            depl.logger.set_autoresponse("y")
        depl.restore(
            include=args.include or [],
            exclude=args.exclude or [],
            backup_id=args.backup_id,
            devices=args.devices or [],
        )
