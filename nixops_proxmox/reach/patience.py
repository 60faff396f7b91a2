"""How long a run waits for machines, and for what others hold.

The loops that wait are ours and not tenacity's: what each looks at decides how long it goes on, and what it then says.
Each says why it is safe to repeat what it repeats. `tests/test_repeating.py` finds those that do not.
"""

from dataclasses import dataclass

from nixops_proxmox.guest.agent import Growth
from nixops_proxmox.pve.cluster.work import BUSY_TIME
from nixops_proxmox.ssh.argv import ANSWER_TIME


@dataclass(frozen=True)
class Patience:
    """Seconds after which a wait is given up, with an error that names the missing layer."""

    boot: float = 300.0  # from power-on until the agent answers
    first_stage: float = 120.0  # until the SSH server of a first stage does
    # From the agent's first answer, or a later sign that it is getting on, to a proven endpoint; and from a later sign
    # that it still boots, to the agent's answer.
    sshd: float = ANSWER_TIME
    most: float = 900.0  # for each of the two in all, whatever it shows
    race: float = 8.0  # for one race; a black hole answers nothing, however long one waits
    look: float = 8.0  # that a look waits for a guest that shows nothing
    busy: float = BUSY_TIME  # for locks that others hold

    @property
    def growth(self) -> Growth:
        """How long the wait for the agent may grow."""
        return Growth(self.sshd, self.most)
