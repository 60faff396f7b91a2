"""The one table that turns what PVE says into our errors, by what was asked, who answered, and the text."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from nixops_proxmox.errors import (
    AgentRefused,
    AgentSilent,
    BadParameter,
    DeployError,
    GuestLost,
    NotAuthenticated,
    NotFound,
    PermissionDenied,
    PveBusy,
    PveError,
    PveOutcomeUnknown,
    PveRefused,
    PveUnreachable,
    VmidTaken,
)
from nixops_proxmox.pve.wire.calls import Call
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.texts import head


class LockTimeout(PveBusy):
    """The VM's short lock timed out. PVE did nothing, and we may send the same call again."""


class StorageBusy(PveBusy):
    """A storage or cluster lock timed out. Of several keys in one call, PVE may have set some. Look again."""


class NoQuorum(PveBusy):
    """The cluster's file system does not take changes at the moment: a node or its network is away."""


class Overloaded(PveBusy):
    """PVE, or a proxy in front of it, has no room for the call: nothing was done."""


class VmLocked(PveBusy):
    """Something holds the VM's configuration. `lock` names it as PVE does: backup, clone, create, …"""

    def __init__(self, message: str, *, lock: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.lock = lock


class Hibernated(PveRefused):
    """The VM sleeps with its memory on disk: it can be started or destroyed, and nothing else."""


class NotObeyed(PveRefused):
    """The guest, or its QEMU, did not do what it was asked to do. PVE itself is well."""


class HotplugFailed(BadParameter):
    """The running VM did not take the change: PVE keeps it as pending, until the VM is stopped and started."""


class AgentFrozen(AgentSilent):
    """A backup or a snapshot has frozen the guest's file systems, and its agent with them: it will thaw."""


class VmRunning(PveRefused):
    """It cannot be done while the VM runs."""


class VmNotRunning(PveRefused):
    """It can only be done while the VM runs."""


class WrongPlace(NotFound):
    """The VM's configuration is not on this node: moved, or gone. Look where it is before believing the latter."""


class ConfigChanged(PveRefused):
    """The digest does not fit: somebody changed the configuration since it was read."""


@dataclass(frozen=True)
class Refusal:
    """What the server said. `text` is complete where PVE tells it (>= 8.4), else the reason phrase's first line."""

    status: int
    text: str
    errors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Told:
    """What a row of the table gets: the refusal, the match, the call and a finished sentence."""

    refusal: Refusal
    call: Call
    message: str
    match: re.Match[str] | None = None


_Build = Callable[[_Told], DeployError]


def _permission(told: _Told) -> DeployError:
    match = re.search(r"\((/[^\s,()]*|), ([A-Za-z.|, ]+?)(?: for .*)?\)", told.refusal.text)
    path, names = (match[1], match[2]) if match else ("", "")
    privileges = tuple(name.strip() for name in re.split(r"[|,]", names) if "." in name)
    if told.refusal.text.endswith("check failed") and told.call.name == "POST /nodes/{node}/qemu":
        # the bare text: neither VM.Allocate on the VM nor on the pool
        path, privileges = f"/vms/{told.call.params.get('vmid', '')!s}", ("VM.Allocate",)
    wanted = f"grant {' or '.join(privileges)} on {path or '/'}" if privileges else "check the token's permissions"
    hint = f"{wanted} to the user and, with privilege separation, to the token; {command(Verb.DOCTOR)} tells how"
    return PermissionDenied(told.message, path=path, privileges=privileges, hint=hint)


def _bad_parameter(told: _Told) -> DeployError:
    return BadParameter(told.message, errors=told.refusal.errors)


def _as(kind: type[DeployError], hint: str = "") -> _Build:
    return lambda told: kind(told.message, hint=hint)


def _hotplug(told: _Told) -> DeployError:
    hint = "the change waits until the VM is stopped and started; the guest does not release what it still uses"
    return HotplugFailed(told.message, errors=told.refusal.errors, hint=hint)


def _locked(told: _Told) -> DeployError:
    lock = told.match[1] if told.match is not None else ""
    if lock == "suspended":
        start = command(Verb.START, "MACHINE")
        hint = f"it is hibernated: {start} gives it its memory back; `qm unlock` would throw that away"
        return Hibernated(told.message, hint=hint)
    return VmLocked(told.message, lock=lock, hint=unlock_hint(lock))


def unlock_hint(lock: str) -> str:
    """What to do about a lock that stays. It may only be taken away if nothing is lost with it."""
    if lock in ("suspending", "migrate", "rollback", "snapshot-delete"):
        return f"wait for the task that holds it; if none runs, look in PVE what the `{lock}` left before unlocking it"
    return "wait for the task that holds it; if none runs (a node crashed), `qm unlock VMID` on the node"


@dataclass(frozen=True)
class _Row:
    """If `who` answered a call like `asked` with `status` and a text like `text`, it means what `build` makes of it.

    `who`: "call" for an answer at once, "task" for the end of a task, "agent" for a call to the guest's agent.
    `asked` is searched in the call's name ("POST /nodes/{node}/qemu") or in the task's type ("qmcreate").
    """

    who: str
    status: int | None
    asked: str
    text: str
    build: _Build


_ANY, _CALL, _TASK, _AGENT = "", "call", "task", "agent"
_ALLOCATES = (
    r"^(qmcreate|vzcreate|vzdestroy|"
    r"qmclone|qmrestore|qmconfig|resize|qmmove|move_volume|imgcopy|qmdestroy|imgdel|download|upload)"
)
_QUORUM = "the cluster has lost quorum: bring its nodes back; nothing can be changed until then"
_LOCK = "somebody else is working on it: PVE's interface shows whose task it is"
_DISOBEYS = "look at the VM's console; Stop in PVE's interface switches it off hard"

# The first that fits wins: what says exactly who failed comes before what only speaks of a time that ran out.
_TABLE: tuple[_Row, ...] = (
    _Row(_CALL, 401, r"", r"",
         _as(NotAuthenticated, "check the token or password in the profile; tokens are user@realm!name. PVE tells a"
             f" secret once: if it is lost, delete it from the profile, and {command(Verb.INIT)} makes a new one")),
    _Row(_CALL, 403, r"", r"not available with API token",
         _as(PermissionDenied, "this needs a password login, not a token")),
    _Row(_CALL, 403, r"", r"", _permission),
    _Row(_ANY, None, r"", r"hotplug problem|error hot-?(un)?plug", _hotplug),
    _Row(_CALL, 400, r"", r"no such task", _as(NotFound, "PVE keeps only the last one or two thousand tasks")),
    _Row(_CALL, 400, r"", r"VM \d+ already exists", _as(VmidTaken)),
    _Row(_CALL, 400, r"", r"(No such storage|interface does not exist)", _as(NotFound)),
    _Row(_CALL, 400, r"", r"", _bad_parameter),
    _Row(_CALL, 501, r"", r"^Method '.*' not implemented",
         _as(PveRefused, "this PVE release does not have this call")),

    # The guest's agent, through PVE
    _Row(_ANY, None, r"", r"guest agent is not running", _as(AgentSilent)),
    _Row(_ANY, None, r"", r"No QEMU guest agent configured",
         _as(AgentRefused, "set `agent = true`, then stop and start")),
    _Row(_AGENT, None, r"", r"agent is in frozen state|file ?systems? (is|are) frozen",
         _as(AgentFrozen, "a backup or a snapshot froze it; it goes on when that thaws it")),
    _Row(_AGENT, None, r"", r"q(mp|ga) command '[\w-]+' failed - (got timeout|client closed connection)",
         _as(AgentSilent)),
    _Row(_ANY, None, r"", r"unable to connect to VM \d+ qga socket", _as(AgentSilent)),
    _Row(_AGENT, None, r"", r"^(Agent error:|.*has been disabled)", _as(AgentRefused)),
    _Row(_AGENT, None, r"", r"VM \d+ (is )?not running", _as(GuestLost, "the VM was switched off")),

    # The guest and its QEMU: PVE waited for them, and gave up
    _Row(_ANY, None, r"", r"VM quit/powerdown failed", _as(NotObeyed, _DISOBEYS)),
    _Row(_ANY, None, r"", r"container did not stop", _as(NotObeyed, _DISOBEYS)),
    _Row(_ANY, None, r"", r"VM is paused - cannot shutdown", _as(NotObeyed, "resume it in PVE, or stop it hard")),
    _Row(_ANY, None, r"", r"VM \d+ q(mp|ga) command '[\w-]+' failed|unable to connect to VM \d+ qmp socket",
         _as(NotObeyed, "the VM's QEMU does not answer: its node is overloaded, or its storage hangs")),
    _Row(_TASK, None, r"^(qmstart|hastart|qmreboot|qmresume)", r"command '/usr/bin/kvm .*failed: got timeout",
         _as(NotObeyed, "its QEMU was not up in time: the node is short of memory, or its storage hangs")),

    # Who has the VMID, and where
    _Row(_ANY, None, r"", r"already exists on node|config file already exists", _as(VmidTaken)),
    _Row(_ANY, None, r"", r"Configuration file '.*' does not exist|unable to find configuration file for ",
         _as(WrongPlace)),

    # Locks, of one VM, of a storage, of the cluster
    _Row(_ANY, None, r"", r"(?:VM|CT|qemu|lxc) is locked \(([\w-]+)\)", _locked),
    _Row(_ANY, None, r"",
         r"can't lock file '[^']*/(?:lock-\d+\.conf|pve-config-\d+\.lock)' - (got timeout|can't acquire)",
         _as(LockTimeout, _LOCK)),
    _Row(_ANY, None, r"", r"Failed to obtain guest migration lock", _as(LockTimeout, "it is being replicated")),
    _Row(_ANY, None, r"", r"no quorum|cluster not ready|Transport endpoint is not connected", _as(NoQuorum, _QUORUM)),
    _Row(_ANY, None, r"", r"/etc/pve/.*(Permission denied|Read-only file system)|ipcc_send_rec",
         _as(NoQuorum, _QUORUM)),
    _Row(_ANY, None, r"", r"can't lock file|cfs-lock|got lock (request )?timeout|trying to acquire (cfs )?lock",
         _as(StorageBusy, "the storage or cluster is busy; try again")),
    _Row(_TASK, None, _ALLOCATES, r"got timeout", _as(StorageBusy, "the storage is slow; try again")),
    _Row(_CALL, None, r"/(storage|config|resize|clone|move_disk)|qemu$|lxc$", r"got timeout",
         _as(StorageBusy, "the storage is slow; try again")),

    _Row(_ANY, None, r"", r"checksum mis+match|detected modified configuration", _as(ConfigChanged, "run it again")),
    _Row(_ANY, None, r"", r"(?i)\bvm( \d+)? is running", _as(VmRunning, "stop it first")),
    _Row(_ANY, None, r"", r"CT \d+ already running|container is running", _as(VmRunning, "stop it first")),
    _Row(_ANY, None, r"", r"(VM|CT) \d+ (is )?not running", _as(VmNotRunning)),
    _Row(_ANY, None, r"", r"protection mode enabled",
         _as(PveRefused, f"set `protection = false`, then {command(Verb.DEPLOY)}; after that, you can destroy it")),
    _Row(_ANY, None, r"", r"still in use by linked clone",
         _as(PveRefused, "other VMs are linked clones of it: destroy these first")),
    _Row(_ANY, None, r"", r"snapshot feature is not available",
         _as(PveRefused, "one of its disks is on a storage that takes no snapshots")),
    _Row(_ANY, None, r"", r"storage '.*' is not online|connection check for storage",
         _as(PveRefused, "the storage's server does not answer: look at the storage in PVE")),
    _Row(_ANY, None, r"", r"missing privileges to access",
         _as(PermissionDenied, "grant Datastore.AllocateSpace or Datastore.Audit on that volume's storage")),
    _Row(_ANY, None, r"", r"invalid bootorder", _as(PveRefused)),
    _Row(_ANY, None, r"", r"in error state, must be disabled and fixed first",
         _as(PveRefused, "HA gave up on it: see why in its tasks; in PVE, ask HA for the state disabled, repair it, and"
             " ask for started")),
    _Row(_ANY, None, r"", r"used in HA resources", _as(PveRefused, "remove it from the HA manager's resources first")),
    _Row(_ANY, None, r"", r"hostname lookup '.*' failed|certificate verify failed",
         _as(PveUnreachable, "the node that we talk to cannot find that one: is its name spelled as in the cluster's"
             " list, and is it in /etc/hosts of the nodes?")),
    _Row(_ANY, None, r"", r"no such cluster node",
         _as(NotFound, "is the node's name spelled exactly as in the cluster's list?")),
    _Row(_ANY, None, r"", r"([Ss]torage|volume|snapshot|pool|device|[Dd]isk|user|role|vnet|zone) '.*' does not exist",
         _as(NotFound)),
    _Row(_ANY, None, r"", r"could not find (target )?VM", _as(NotFound)),
    _Row(_ANY, None, r"", r"no such (user|token|volume)", _as(NotFound)),
    _Row(_ANY, None, r"", r"is not available on node|is disabled", _as(NotFound, "choose another storage or node")),
    _Row(_ANY, None, r"", r"[Oo]nly root(@pam)? |Only root",
         _as(PermissionDenied, "only root@pam with a password may do this")),
    _Row(_ANY, None, r"", r"start(ing)? worker failed",
         _as(Overloaded, "the node could not start a task: is it out of memory?")),
    _Row(_CALL, 595, r"", r"", _as(PveUnreachable, "the node is offline or not reachable from the one we talk to")),
    _Row(_CALL, 596, r"", r"", _as(PveOutcomeUnknown)),
    _Row(_CALL, 597, r"", r"", _as(PveOutcomeUnknown)),
    _Row(_CALL, 598, r"", r"", _as(PveOutcomeUnknown)),
    _Row(_CALL, 599, r"", r"", _as(PveOutcomeUnknown)),
    _Row(_CALL, 502, r"", r"", _as(PveOutcomeUnknown, "a proxy in front of PVE answered for it")),
    _Row(_CALL, 503, r"", r"", _as(Overloaded, "a proxy in front of PVE answered for it")),
    _Row(_CALL, 504, r"", r"", _as(PveOutcomeUnknown, "a proxy in front of PVE answered for it")),
    _Row(_CALL, 429, r"", r"", _as(Overloaded, "something in front of PVE limits the rate")),
)  # fmt: skip


def translate_refusal(refusal: Refusal, call: Call) -> DeployError:
    """Our error for an answer with a status of 300 or more."""
    text = redact(refusal.text, call) or f"status {refusal.status}"
    details = "; ".join(f"{key}: {value.strip()}" for key, value in sorted(refusal.errors.items()))
    message = f"{call.shown}: {text}" + (f" ({redact(details, call)})" if details else "")
    searched = f"{refusal.text}\n{details}" if refusal.status == 400 else refusal.text
    who = _AGENT if "/agent/" in call.template else _CALL
    return _first(who, call.name, searched, _Told(refusal, call, message)) or PveRefused(message)


def agent_error(message: str) -> DeployError:
    """What the agent itself said in an answer that PVE calls a success."""
    call = Call("GET", "/nodes/{node}/qemu/{vmid}/agent/{command}")
    return _first(_AGENT, call.name, message, _Told(Refusal(200, message), call, message)) or AgentRefused(message)


def translate_task_text(text: str, kind: str = "") -> DeployError | None:
    """The same table for the exit status of a task of type `kind` ("qmcreate"). None: no row."""
    call = Call("GET", "/nodes/{node}/tasks/{upid}/status")
    return _first("task", kind, text, _Told(Refusal(500, text), call, text))


def _first(who: str, asked: str, searched: str, told: _Told) -> DeployError | None:
    for row in _TABLE:
        if row.who not in (_ANY, who) and not (row.who == _CALL and who == _AGENT):
            continue
        if row.status not in (None, told.refusal.status) or not re.search(row.asked, asked):
            continue
        match = re.search(row.text, searched)
        if match is not None:
            return row.build(replace(told, match=match))
    return None


def not_pve(call: Call, why: str) -> PveError:
    """A successful status with something that PVE would not say."""
    if call.method == "GET":
        return PveError(
            f"{call.shown}: {why}", hint="is this the address of a PVE API, and is there a proxy in front of it?"
        )
    return PveOutcomeUnknown(f"{call.shown}: {why}")


def redact(text: str, call: Call) -> str:
    """The text without the call's secrets, in one line's worth."""
    for secret in call.secrets:
        text = text.replace(secret, "…")
    return head(text.strip(), 2000)
