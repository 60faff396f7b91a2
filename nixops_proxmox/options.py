"""What a door was told: which network, which deployment, which state, what is allowed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from nixops_proxmox.core.thing import AnyThing
from nixops_proxmox.fleet import Outcome
from nixops_proxmox.kinds.machine.ports import Reporter
from nixops_proxmox.kinds.machine.shape import Permissions
from nixops_proxmox.nixeval.evaluate import NetworkSource
from nixops_proxmox.pve.wire.calls import Trace, no_trace
from nixops_proxmox.reach.patience import Patience
from nixops_proxmox.spec import Strategy
from nixops_proxmox.spelling import Verb

MAKE_ANOTHER = "NIXOPS_PROXMOX_MAKE_ANOTHER"  # the word `--make-another`, for doors that have no options of ours
CONFIRM, OUTSIDE_WINDOWS = "NIXOPS_PROXMOX_CONFIRM", "NIXOPS_PROXMOX_OUTSIDE_WINDOWS"  # as `--confirm`, …


SAID = {Verb.MAKE_ANOTHER: MAKE_ANOTHER, Verb.CONFIRM: CONFIRM, Verb.OUTSIDE_WINDOWS: OUTSIDE_WINDOWS}


def is_said(variable: str, environment: Mapping[str, str]) -> bool:
    return environment.get(variable, "") not in ("", "0")


def said_agreed(environment: Mapping[str, str]) -> "Agreed":
    """For doors that have no options of ours."""
    return Agreed(is_said(CONFIRM, environment), is_said(OUTSIDE_WINDOWS, environment))


class Silent:
    """A reporter that reports nothing."""

    def step(self, thing: AnyThing, label: str, to: str) -> None: ...
    def detail(self, thing: AnyThing, text: str) -> None: ...
    def done(self, thing: AnyThing, label: str, seconds: float) -> None: ...
    def warn(self, thing: AnyThing, text: str) -> None: ...


@dataclass(frozen=True)
class Agreed:
    """What the user said about hypervisors that are changed with care. `moment`: now."""

    confirmed: bool = False  # the word that `confirm` asks for
    outside_windows: bool = False
    moment: Callable[[], datetime] = lambda: datetime.now().astimezone()


Strategies = Mapping[str, Strategy]  # by machine


def as_described(names: Sequence[str], described: Strategies) -> Strategies:
    """In the order that the description says."""
    del names
    return described


@dataclass(frozen=True)
class Options:
    """`source` None: work only from the record (stop, destroy, ssh … of what is deployed)."""

    deployment: str = "default"
    only: str = ""  # the one thing that this run is about; runs about others go on beside it
    kind: str = "machine"  # of that thing
    apart: bool = False  # this run holds its machines, and no others; runs about others go on beside it
    source: NetworkSource | None = None
    state: str = ""  # URL or file; empty: the user's own
    profiles: Path | None = None  # the profiles file; None: the user's own
    profile: str = ""  # overrides every machine's `profile`
    build_on: str = ""  # overrides every machine's `deploy.buildOn`
    keys: Path | None = None  # where private keys live; None: beside the user's state
    jobs: int = 128  # machines at a time; they mostly wait
    permissions: Permissions = field(default_factory=Permissions)
    break_lock: bool = False
    agreed: Agreed = field(default_factory=Agreed)
    reporter: Reporter = field(default_factory=Silent)
    ended: Callable[[Outcome], None] = lambda _: None  # told how it ended for a machine, at once
    strategy: Callable[[Sequence[str], Strategies], Strategies] = as_described  # of the machines of this run
    trace: Trace = no_trace  # told every API call
    patience: Patience = field(default_factory=Patience)
    keep: Mapping[str, str] = field(default_factory=dict)  # what a door wants in the machines' facts (`extra`)
