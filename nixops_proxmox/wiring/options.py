"""What a door was told: which network, which deployment, which state, what is allowed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nixops_proxmox.core.thing import AnyThing
from nixops_proxmox.fleet import Outcome
from nixops_proxmox.guest.agent import Growth
from nixops_proxmox.lifecycle.ports import Reporter
from nixops_proxmox.lifecycle.shape import Words
from nixops_proxmox.nixeval.evaluate import Source
from nixops_proxmox.pve.calls import Trace, no_trace
from nixops_proxmox.pve.work import BUSY_TIME
from nixops_proxmox.ssh.argv import ANSWER_TIME

MAKE_ANOTHER = "NIXOPS_PROXMOX_MAKE_ANOTHER"  # the word `--make-another`, for doors that have no options of ours


def is_said(variable: str, environment: Mapping[str, str]) -> bool:
    return environment.get(variable, "") not in ("", "0")


class Silent:
    """A reporter for whoever does not watch."""

    def step(self, thing: AnyThing, label: str, to: str) -> None: ...
    def detail(self, thing: AnyThing, text: str) -> None: ...
    def done(self, thing: AnyThing, label: str, seconds: float) -> None: ...
    def warn(self, thing: AnyThing, text: str) -> None: ...


@dataclass(frozen=True)
class Patience:
    """Seconds after which a wait is given up, with an error that names the missing layer."""

    boot: float = 300.0  # from power-on until the agent answers
    # From the agent's first answer, or a later sign that it is getting on, to a proven endpoint; and from a later sign
    # that it still boots, to the agent's answer.
    sshd: float = ANSWER_TIME
    most: float = 900.0  # for each of the two in all, whatever it shows
    race: float = 8.0  # for one race; a black hole answers nothing, however long one waits
    look: float = 8.0  # that a look waits for a guest that shows nothing
    busy: float = BUSY_TIME  # for locks that others hold

    @property
    def growth(self) -> Growth:
        """Of the wait for the agent."""
        return Growth(self.sshd, self.most)


@dataclass(frozen=True)
class Options:
    """`source` None: work from the record alone (stop, destroy, ssh … of what is deployed)."""

    deployment: str = "default"
    only: str = ""  # the one machine that this run is about; runs about others go on beside it
    source: Source | None = None
    state: str = ""  # URL or file; empty: the user's own
    profiles: Path | None = None  # the profiles file; None: the user's own
    profile: str = ""  # overrides every machine's `profile`
    keys: Path | None = None  # where private keys live; None: beside the user's state
    jobs: int = 128  # machines at a time; they mostly wait
    words: Words = field(default_factory=Words)
    break_lock: bool = False
    reporter: Reporter = field(default_factory=Silent)
    ended: Callable[[Outcome], None] = lambda _: None  # told how it ended for a machine, at once
    trace: Trace = no_trace  # told every API call
    patience: Patience = Patience()
    keep: Mapping[str, str] = field(default_factory=dict)  # what a door wants in the machines' facts (`extra`)
