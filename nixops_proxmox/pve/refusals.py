"""The one table that turns what proxmoxer and requests raise into our errors."""

import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import requests

from nixops_proxmox.errors import (
    AgentRefused,
    AgentSilent,
    BadParameter,
    ConfigError,
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
from nixops_proxmox.pve.calls import Call


class LockTimeout(PveBusy):
    """The VM's short lock was not had in time: nothing was done, the same call may be made again."""


class StorageBusy(PveBusy):
    """A storage or cluster lock was not had in time: of several keys in one call, some may be done. Look again."""


class VmLocked(PveBusy):
    """A task holds the VM's configuration (`lock:` backup, clone, create, …)."""


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
    match: re.Match[str]
    call: Call
    message: str


_Build = Callable[[_Told], DeployError]


def _permission(told: _Told) -> DeployError:
    match = re.search(r"\((/[^\s,()]*|), ([A-Za-z.|, ]+?)(?: for .*)?\)", told.refusal.text)
    path, names = (match[1], match[2]) if match else ("", "")
    privileges = tuple(name.strip() for name in re.split(r"[|,]", names) if "." in name)
    if told.refusal.text.endswith("check failed") and told.call.name == "POST /nodes/{node}/qemu":
        # the bare text: neither VM.Allocate on the VM nor on the pool
        path, privileges = f"/vms/{told.call.params.get('vmid', '')!s}", ("VM.Allocate",)
    wanted = f"grant {' or '.join(privileges)} on {path or '/'}" if privileges else "check the token's permissions"
    hint = f"{wanted} to the user and, with privilege separation, to the token; `nixops-proxmox doctor` tells how"
    return PermissionDenied(told.message, path=path, privileges=privileges, hint=hint)


def _bad_parameter(told: _Told) -> DeployError:
    return BadParameter(told.message, errors=told.refusal.errors)


def _as(kind: type[DeployError], hint: str = "") -> _Build:
    return lambda told: kind(told.message, hint=hint)


_UNLOCK = "wait for the task that holds it; if none runs (a node crashed), `qm unlock VMID` on the node"
_QUORUM = "the cluster has lost quorum: bring its nodes back; nothing can be changed until then"
_ON_AGENT = re.compile(r"/agent/")

# (status or None for any, pattern of the text, does it need an agent call, what to raise); the first that fits wins.
_TABLE: tuple[tuple[int | None, str, bool, _Build], ...] = (
    (401, r"", False, _as(NotAuthenticated, "check the token or password in the profile; tokens are user@realm!name")),
    (403, r"not available with API token", False, _as(PermissionDenied, "this needs a password login, not a token")),
    (403, r"", False, _permission),
    (400, r"no such task", False, _as(NotFound, "PVE keeps only the last one or two thousand tasks")),
    (400, r"VM \d+ already exists", False, _as(VmidTaken)),
    (400, r"(No such storage|interface does not exist)", False, _as(NotFound)),
    (400, r"", False, _bad_parameter),
    (501, r"^Method '.*' not implemented", False, _as(PveRefused, "this PVE release does not have this call")),
    (None, r"guest agent is not running", False, _as(AgentSilent)),
    (None, r"No QEMU guest agent configured", False, _as(AgentRefused, "set `agent = true`, then stop and start")),
    (None, r"q(mp|ga) command '[\w-]+' failed - (got timeout|client closed connection)", True, _as(AgentSilent)),
    (None, r"unable to connect to VM \d+ qga socket", False, _as(AgentSilent)),
    (None, r"^(Agent error:|.*has been disabled)", True, _as(AgentRefused)),
    (None, r"VM \d+ (is )?not running", True, _as(GuestLost, "the VM was switched off")),
    (None, r"already exists on node|config file already exists", False, _as(VmidTaken)),
    (None, r"Configuration file '.*' does not exist|unable to find configuration file for VM", False, _as(WrongPlace)),
    (None, r"VM is locked \(", False, _as(VmLocked, _UNLOCK)),
    (None, r"can't lock file '[^']*/lock-\d+\.conf' - got timeout", False, _as(LockTimeout, _UNLOCK)),
    (None, r"got (lock request )?timeout", False, _as(StorageBusy, "the storage or cluster is busy; try again")),
    (None, r"no quorum|cluster not ready", False, _as(PveBusy, _QUORUM)),
    (None, r"checksum mis+match|detected modified configuration", False, _as(ConfigChanged, "run it again")),
    (None, r"is running - destroy failed|if VM is running", False, _as(VmRunning)),
    (None, r"VM \d+ (is )?not running", False, _as(VmNotRunning)),
    (None, r"hostname lookup '.*' failed|certificate verify failed|no such cluster node", False,
     _as(NotFound, "is the node's name spelled exactly as in the cluster's list?")),
    (None, r"(storage|volume|snapshot|pool|device|disk|user|role) '.*' does not exist", False, _as(NotFound)),
    (None, r"no such (user|token|volume)", False, _as(NotFound)),
    (None, r"is not available on node|is disabled", False, _as(NotFound, "choose another storage or node")),
    (None, r"only root can|Only root", False, _as(PermissionDenied, "only root@pam with a password may do this")),
    (None, r"start(ing)? worker failed", False, _as(PveBusy, "the node could not start a task: is it out of memory?")),
    (595, r"", False, _as(PveUnreachable, "the node is offline or not reachable from the one we talk to")),
    (596, r"", False, _as(PveOutcomeUnknown)),
    (597, r"", False, _as(PveOutcomeUnknown)),
    (598, r"", False, _as(PveOutcomeUnknown)),
    (599, r"", False, _as(PveOutcomeUnknown)),
    (502, r"", False, _as(PveOutcomeUnknown, "a proxy in front of PVE answered for it")),
    (503, r"", False, _as(PveBusy, "a proxy in front of PVE answered for it")),
    (504, r"", False, _as(PveOutcomeUnknown, "a proxy in front of PVE answered for it")),
    (429, r"", False, _as(PveBusy, "something in front of PVE limits the rate")),
)  # fmt: skip


def translate_refusal(refusal: Refusal, call: Call) -> DeployError:
    """Our error for an answer with a status of 300 or more."""
    text = redact(refusal.text, call) or f"status {refusal.status}"
    details = "; ".join(f"{key}: {value.strip()}" for key, value in sorted(refusal.errors.items()))
    message = f"{call.shown}: {text}" + (f" ({redact(details, call)})" if details else "")
    searched = f"{refusal.text}\n{details}" if refusal.status == 400 else refusal.text
    return _first(refusal.status, searched, message, refusal, call) or PveRefused(message)


def translate_task_text(text: str) -> DeployError | None:
    """The same table for a task's exit status, which carries the texts that other calls get at once; None: no row."""
    call = Call("GET", "/nodes/{node}/tasks/{upid}/status")
    return _first(500, text, text, Refusal(500, text), call)


def _first(status: int, searched: str, message: str, refusal: Refusal, call: Call) -> DeployError | None:
    on_agent = bool(_ON_AGENT.search(call.template))
    for wanted, pattern, agent_only, build in _TABLE:
        if wanted is not None and wanted != status:
            continue
        if agent_only and not on_agent:
            continue
        match = re.search(pattern, searched)
        if match is not None:
            return build(_Told(refusal, match, call, message))
    return None


def translate_transport(error: requests.RequestException, call: Call, endpoint: str, *, sent: bool) -> DeployError:
    """Our error for an exchange without an answer. `sent`: some of the request may have left."""
    causes = list(_chain(error))
    text = redact(str(causes[-1]) or type(error).__name__, call)
    if not sent:
        for cause in causes:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return _untrusted(endpoint, f"its certificate is not trusted: {cause.verify_message}")
            if "ingerprint" in str(cause):
                return _untrusted(endpoint, "its certificate does not have the fingerprint in the profile")
        if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidHeader):
            return ConfigError(f"{endpoint} cannot be asked: {text}")
        return PveUnreachable(f"{endpoint} cannot be reached: {text}", hint="is the address right, and the node up?")
    return PveOutcomeUnknown(f"{call.shown}: sent to {endpoint}, but the answer was lost ({text})")


def _untrusted(endpoint: str, why: str) -> ConfigError:
    return ConfigError(
        f"{endpoint} is not who it should be: {why}; nothing was sent",
        hint="set `ca_file` (the cluster's is /etc/pve/pve-root-ca.pem) or the SHA-256 `fingerprint` in the profile,"
        " after checking it on the node",
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what is behind it; requests and urllib3 hide causes in args and `reason` as well."""
    seen: set[int] = set()
    todo: list[BaseException] = [error]
    while todo:
        current = todo.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        behind = [current.__cause__, getattr(current, "reason", None), *current.args]
        todo.extend(item for item in behind if isinstance(item, BaseException))


def not_pve(call: Call, why: str) -> PveError:
    """A successful status with something that PVE would not say."""
    if call.method == "GET":
        return PveError(
            f"{call.shown}: {why}", hint="is the address that of a PVE API, and is there a proxy before it?"
        )
    return PveOutcomeUnknown(f"{call.shown}: {why}")


def redact(text: str, call: Call) -> str:
    """The text without the call's secrets, in one line's worth."""
    for secret in call.secrets:
        text = text.replace(secret, "…")
    return text.strip()[:2000]
