"""Every error that we raise on purpose. Each answers who can fix it (the class) and whether to call again (`retry`).

DeployError                 message, hint; retry; exit_status
├── SpecError               the description is wrong: names the option path                       2
├── ConfigError             a profile, a flag or the environment is wrong                         2
├── StateError              our own record forbids it                                             3
│   ├── Locked                  another run holds it: who, since when
│   ├── NoPath                  no move leads from here to what was asked
│   ├── NotBegun                others failed first: it is as it was                 retry SAFE
│   ├── NeedsPermission         it destroys or replaces something: the user must allow it first
│   │   └── Unrecorded              the cluster has the machine, and the record has not
│   └── StateTooNew             written by a newer version
├── PveError                                                                                      4
│   ├── PveUnreachable          nothing was sent                                     retry SAFE
│   ├── PveOutcomeUnknown       sent, no answer                                      retry LOOK_FIRST
│   ├── PveBusy                 locked, overloaded                                   retry SAFE
│   ├── PveRefused              it said no
│   │   ├── NotAuthenticated        bad or expired credentials
│   │   ├── PermissionDenied        names the path and the privilege
│   │   ├── NotFound                says which thing is not there
│   │   ├── BadParameter            errors: {parameter: text}
│   │   ├── NoPlace                 the new machines of a run do not fit together
│   │   └── VmidTaken               the VMID belongs to another guest
│   ├── TaskFailed              carries UPID, exit status, last log lines
│   └── TaskStillRunning        we stopped waiting; UPID kept for the next run       retry LOOK_FIRST
├── GuestError                                                                                    5
│   ├── AgentSilent             no answer from the guest agent yet                   retry SAFE
│   ├── AgentRefused            the agent said no (blocked command, no such file)
│   ├── CommandFailed           argv, exit status, tail of the output
│   ├── JobStillRunning         we stopped waiting for a detached job; it goes on       retry LOOK_FIRST
│   ├── GuestLost               the guest was restarted under us: what ran in it is gone
│   ├── Unwell                  it is ready, and its declared health does not hold   retry SAFE
│   ├── WrongDisk               a disk is not the declared one, or holds data we did not put there
│   └── NoEndpoint              no address answered as this machine: each attempt's reason
├── SshError                                                                                      6
│   ├── SshUnreachable          no connection                                        retry SAFE
│   ├── SshRefused              connected and proven, but our key was not accepted
│   ├── HostKeyChanged          somebody else answered                               NEVER, loud
│   └── ConnectionLost          it broke on the way; what ran may still run          retry LOOK_FIRST
├── HookFailed              a command of `deploy.hooks` failed                                    9
├── RouterError             a router or a DHCP server refused, or did not answer                  8
│   ├── RouterUnreachable       nothing was sent                                     retry SAFE
│   ├── RouterOutcomeUnknown    sent, no answer                                      retry LOOK_FIRST
│   └── RouterCutOff            a change cut us off, and does not stay
└── NixError                                                                                      7
    ├── NixMissing              no Nix on this machine
    ├── EvaluationFailed        Nix's own message, and the machine it belongs to
    ├── BuildFailed
    ├── CopyFailed                                                                   retry SAFE
    └── ActivationFailed
        └── NotConfirmed            a system on probation: what became of it is its verdict
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

USAGE_STATUS = 2  # the exit status of a description, a profile or an argument that is wrong


class Retry(StrEnum):
    """May the same call be made again?"""

    NEVER = "never"
    SAFE = "safe"
    LOOK_FIRST = "look-first"


class DeployError(Exception):
    """Something we can explain: what was being done, to which machine, and what happened. `hint` says what to try."""

    retry = Retry.NEVER
    exit_status = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class SpecError(DeployError):
    """The description is wrong. `path` is the option's full path, such as `web.deployment.proxmox.disks[1].size`."""

    exit_status = USAGE_STATUS

    def __init__(self, message: str, *, path: str = "", hint: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message, hint=hint)
        self.path = path


class ConfigError(DeployError):
    exit_status = USAGE_STATUS


class StateError(DeployError):
    exit_status = 3


class Locked(StateError):
    pass


class NoPath(StateError):
    pass


class NotBegun(StateError):
    """Nothing was done, because others failed first. It is no failure of its own."""

    retry = Retry.SAFE


class NeedsPermission(StateError):
    pass


class Unrecorded(NeedsPermission):
    """A VM bears the machine's mark, and the record knows nothing of it: a deploy would create a second one."""


class OnOtherHypervisor(NeedsPermission):
    """The machine is on another hypervisor than the described one, or on its way: a deploy takes no machine there."""


class StateTooNew(StateError):
    pass


class PveError(DeployError):
    exit_status = 4


class PveUnreachable(PveError):
    retry = Retry.SAFE


class PveOutcomeUnknown(PveError):
    retry = Retry.LOOK_FIRST


class PveBusy(PveError):
    retry = Retry.SAFE


class PveRefused(PveError):
    pass


class NotAuthenticated(PveRefused):
    pass


class PermissionDenied(PveRefused):
    """`path` and `privileges` as PVE names them, when it did."""

    def __init__(self, message: str, *, path: str = "", privileges: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.path = path
        self.privileges = tuple(privileges)


class NotFound(PveRefused):
    pass


class BadParameter(PveRefused):
    """PVE's 400: `errors` maps each parameter to PVE's text."""

    def __init__(self, message: str, *, errors: Mapping[str, str] | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.errors = dict(errors or {})


class VmidTaken(PveRefused):
    pass


class NoPlace(PveRefused):
    """The new machines of a run do not fit together."""


class TaskFailed(PveError):
    """A PVE task ended badly: its UPID, exit status and the last lines of its log."""

    def __init__(
        self, message: str, *, upid: str, exit_status_text: str, log: Sequence[str] = (), hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.upid = upid
        self.exit_status_text = exit_status_text
        self.log = tuple(log)


class TaskStillRunning(PveError):
    retry = Retry.LOOK_FIRST

    def __init__(self, message: str, *, upid: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.upid = upid


class GuestError(DeployError):
    exit_status = 5


class AgentSilent(GuestError):
    retry = Retry.SAFE


class NoAgentDevice(AgentSilent):
    pass


class AgentRefused(GuestError):
    pass


class CommandFailed(GuestError):
    """A command in the guest ended with a status other than 0."""

    def __init__(self, message: str, *, status: int, output: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.output = output


class JobStillRunning(GuestError):
    retry = Retry.LOOK_FIRST


class GuestLost(GuestError):
    retry = Retry.LOOK_FIRST


class Unwell(GuestError):
    """The machine is ready, and what its user declared as health does not hold."""

    retry = Retry.SAFE


class WrongDisk(GuestError):
    pass


class NoEndpoint(GuestError):
    """`attempts` has one line for each candidate: the address and why it was not chosen."""

    retry = Retry.SAFE

    def __init__(self, message: str, *, attempts: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.attempts = tuple(attempts)


class SshError(DeployError):
    exit_status = 6


class SshUnreachable(SshError):
    retry = Retry.SAFE


class SshRefused(SshError):
    pass


class HostKeyChanged(SshError):
    pass


class ConnectionLost(SshError):
    retry = Retry.LOOK_FIRST


class HookFailed(DeployError):
    """A command of the user's that runs here, before or after a machine is changed."""

    exit_status = 9


class RouterError(DeployError):
    exit_status = 8


class RouterUnreachable(RouterError):
    retry = Retry.SAFE


class RouterOutcomeUnknown(RouterError):
    retry = Retry.LOOK_FIRST


class RouterCutOff(RouterError):
    """A change of a router has cut us off, and does not stay."""


class NixError(DeployError):
    exit_status = 7


class NixMissing(NixError):
    pass


class EvaluationFailed(NixError):
    pass


class BuildFailed(NixError):
    pass


class CopyFailed(NixError):
    retry = Retry.SAFE


class ActivationFailed(NixError):
    pass


class SwitchRefused(ActivationFailed):
    """The system is what the next boot takes; NixOS cannot switch to it while the machine runs."""


class NotConfirmed(ActivationFailed):
    """A new system was taken into use on probation, and was not seen well. `verdict`: what became of it."""

    def __init__(self, message: str, *, verdict: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.verdict = verdict


class BootWanted(NixError):
    """Something waits for a boot, and the user allowed it."""
