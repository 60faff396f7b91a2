"""What a run has changed in files of the user's, and the command that commits it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nixops_proxmox.display.screen import Screen

if TYPE_CHECKING:
    from nixops_proxmox.operations.addressing import Taking


def offer_commits(screen: Screen, takings: "Sequence[Taking]", word: str) -> None:
    """Name what was taken from lists of MACs or given back (`word`). We neither commit nor push."""
    from nixops_proxmox.operations.addressing import commits

    for taking in takings:
        if taking.new:
            screen.say(f"the pool {taking.pool.name} {word} {taking.title} ({taking.pool.path})")
    for command in commits(takings, word):
        screen.say(f"to commit it: {command}")
