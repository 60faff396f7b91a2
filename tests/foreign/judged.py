"""What each refusal of the catalogue is: the first text that fits. Whatever fits none was read, and is plainly a no:
PveRefused when told at once, TaskFailed without a meaning of its own at the end of a task."""

import re

from nixops_proxmox.errors import (
    AgentSilent,
    BadParameter,
    DeployError,
    NotAuthenticated,
    NotFound,
    PermissionDenied,
    PveRefused,
    PveUnreachable,
    VmidTaken,
)
from nixops_proxmox.pve.wire.refusals import (
    ConfigChanged,
    HotplugFailed,
    LockTimeout,
    NoQuorum,
    NotObeyed,
    VmLocked,
    VmNotRunning,
    VmRunning,
    WrongPlace,
)

_JUDGED: list[tuple[int | None, str, type[DeployError]]] = [
    (401, r"", NotAuthenticated),
    (403, r"", PermissionDenied),
    (400, r"VM \d+ already exists", VmidTaken),
    (400, r"No such storage|no such task", NotFound),
    (400, r"", BadParameter),
    (595, r"", PveUnreachable),
    (501, r"", PveRefused),
    (None, r"[Oo]nly root|missing privileges", PermissionDenied),
    (None, r"hotplug problem", HotplugFailed),
    (None, r"no quorum\?", NoQuorum),
    (None, r"(lock-\d+\.conf|pve-config-\d+\.lock)' - got timeout|guest migration lock", LockTimeout),
    (None, r"is locked \(backup\)", VmLocked),
    (None, r"agent is not running", AgentSilent),
    (None, r"checksum mismatch", ConfigChanged),
    (None, r"hostname lookup", PveUnreachable),
    (None, r"Configuration file .* does not exist|unable to find configuration file", WrongPlace),
    (None, r"config file already exists", VmidTaken),
    (None, r"invalid bootorder|in use by linked|protection mode|snapshot feature", PveRefused),
    (
        None,
        r"used in HA resources|in error state, must be|^connection check for storage|^storage '.*' is not online",
        PveRefused,
    ),
    (None, r"^(storage|sdn vnet|sdn zone|disk|Disk|snapshot|pool) '.*' (for VM '.*' )?does not exist", NotFound),
    (None, r"^volume '.*' for container '.*' does not exist", NotFound),
    (None, r"^(role|user) '.*' does not exist|^no such (user|token)", NotFound),
    (None, r"^parent '.*' of pool '.*' does not exist", NotFound),
    (None, r"^storage '.*' is (disabled|not available on node)|could not find (target )?VM", NotFound),
    (None, r"VM quit/powerdown failed|VM is paused", NotObeyed),
    (None, r"is running - destroy|(VM|vm) is running", VmRunning),
    (None, r"^VM \d+ not running", VmNotRunning),
]


def judgement(status: int, text: str) -> type[DeployError] | None:
    """`text` has the errors of the parameters too; None: nothing more than a plain no."""
    for of_status, pattern, kind in _JUDGED:
        if of_status in (None, status) and re.search(pattern, text):
            return kind
    return None
