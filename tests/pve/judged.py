"""What PVE says, and what it means: (what was asked, who answered, the text) → our type. From PVE's sources and from
recordings; a task's type stands for the call that started it."""

from nixops_proxmox.errors import (
    AgentRefused,
    AgentSilent,
    BadParameter,
    DeployError,
    GuestLost,
    NotFound,
    PermissionDenied,
    PveOutcomeUnknown,
    PveRefused,
    PveUnreachable,
    VmidTaken,
)
from nixops_proxmox.pve.wire.calls import Call, HttpMethod
from nixops_proxmox.pve.wire.refusals import (
    AgentFrozen,
    ConfigChanged,
    Hibernated,
    HotplugFailed,
    LockTimeout,
    NoQuorum,
    NotObeyed,
    Overloaded,
    StorageBusy,
    VmLocked,
    VmNotRunning,
    VmRunning,
    WrongPlace,
)

VM = "/nodes/{node}/qemu/{vmid}"


def _call(method: HttpMethod, template: str) -> Call:
    return Call(method, template, {"node": "pve1", "vmid": 101})


CREATE, CONFIG, PUT = _call("POST", "/nodes/{node}/qemu"), _call("POST", f"{VM}/config"), _call("PUT", f"{VM}/config")
READ, DELETE, RESIZE = _call("GET", f"{VM}/config"), _call("DELETE", VM), _call("PUT", f"{VM}/resize")
START, STOP = _call("POST", f"{VM}/status/start"), _call("POST", f"{VM}/status/stop")
SHUTDOWN, EXEC = _call("POST", f"{VM}/status/shutdown"), _call("POST", f"{VM}/agent/exec")

FLOCK = "can't lock file '/var/lock/qemu-server/lock-101.conf' - got timeout"
STORE = "can't lock file '/var/lock/pve-manager/pve-storage-local' - got timeout"
CFS = "cfs-lock 'storage-shared' error: got lock request timeout"
HOTPLUG = "hotplug problem - VM 101 qmp command 'device_add' failed - got timeout"
KVM = "start failed: command '/usr/bin/kvm -id 101 -name web' failed: got timeout"

# The answer to a call, at once: (call, status, text, type)
AT_ONCE: list[tuple[Call, int, str, type[DeployError]]] = [
    # The VM's lock file and its `lock`: nothing was done, whatever was asked
    *((call, 500, FLOCK, LockTimeout) for call in (CREATE, CONFIG, PUT, DELETE, START, STOP, SHUTDOWN, RESIZE)),
    *(
        (call, 500, f"VM is locked ({lock})", VmLocked)
        for call in (CONFIG, DELETE, START)
        for lock in ("backup", "clone", "create", "migrate", "rollback", "snapshot", "snapshot-delete", "suspending")
    ),
    *((call, 500, "VM is locked (suspended)", Hibernated) for call in (CONFIG, PUT, RESIZE)),
    (START, 500, "Failed to obtain guest migration lock - replication running?", LockTimeout),
    # The cluster
    *((call, 500, "cluster not ready - no quorum?", NoQuorum) for call in (CREATE, CONFIG, DELETE, START, STOP)),
    *((call, 500, "cfs-lock 'file-user_cfg' error: no quorum!", NoQuorum) for call in (CREATE, CONFIG)),
    (CONFIG, 500, "unable to open file '/etc/pve/nodes/pve1/qemu-server/101.conf.tmp.7' - Permission denied", NoQuorum),
    (START, 500, "unable to open file '/etc/pve/.x' - Transport endpoint is not connected", NoQuorum),
    (READ, 500, "ipcc_send_rec[1] failed: Connection refused", NoQuorum),
    # Storages
    *((call, 500, text, StorageBusy) for call in (CREATE, CONFIG, RESIZE, START) for text in (STORE, CFS)),
    (CREATE, 500, "unable to create image: got lock timeout - aborting command", StorageBusy),
    (RESIZE, 500, "command '/sbin/lvextend' failed: got timeout", StorageBusy),
    # No room
    (CREATE, 500, "got no worker upid - start worker failed", Overloaded),
    (CREATE, 500, "starting worker failed: unable to fork", Overloaded),
    *((call, 503, "Service Unavailable", Overloaded) for call in (READ, CONFIG, START, STOP, DELETE, EXEC)),
    (READ, 429, "Too Many Requests", Overloaded),
    # The guest or its QEMU, not the storage
    *((call, 500, "VM quit/powerdown failed - got timeout", NotObeyed) for call in (STOP, SHUTDOWN, CREATE)),
    (SHUTDOWN, 500, "VM quit/powerdown failed", NotObeyed),
    (SHUTDOWN, 500, "VM is paused - cannot shutdown", NotObeyed),
    (CONFIG, 500, "VM 101 qmp command 'query-cpus' failed - got timeout", NotObeyed),
    (STOP, 500, "VM 101 qmp command 'quit' failed - unable to connect to VM 101 qmp socket", NotObeyed),
    (PUT, 500, HOTPLUG, HotplugFailed),
    # The agent
    (EXEC, 500, "QEMU guest agent is not running", AgentSilent),
    (EXEC, 500, "No QEMU guest agent configured", AgentRefused),
    (EXEC, 500, "VM 101 qmp command 'guest-exec' failed - got timeout", AgentSilent),
    (EXEC, 500, "VM 101 qga command 'guest-ping' failed - got timeout", AgentSilent),
    (EXEC, 500, "VM 101 qga command 'guest-exec' failed - client closed connection", AgentSilent),
    (EXEC, 500, "unable to connect to VM 101 qga socket - timeout after 31 retries", AgentSilent),
    (EXEC, 500, "Agent error: Invalid parameter 'pid'", AgentRefused),
    (EXEC, 500, "Agent error: failed to open file '/frozen' (mode: 'r'): No such file or directory", AgentRefused),
    (EXEC, 500, "Agent error: Command guest-exec has been disabled: the command is not allowed", AgentRefused),
    (EXEC, 500, "Agent error: Command guest-exec has been disabled: the agent is in frozen state", AgentFrozen),
    (EXEC, 500, "VM 101 is not running", GuestLost),
    # Who and where
    (READ, 500, "Configuration file 'nodes/pve1/qemu-server/101.conf' does not exist", WrongPlace),
    (READ, 500, "unable to find configuration file for VM 101 on node 'pve1'", WrongPlace),
    (CREATE, 500, "unable to create VM 101 - VM 101 already exists on node 'pve1'", VmidTaken),
    (CREATE, 500, "unable to create VM 101 - CT 101 already exists on node 'pve1'", VmidTaken),
    (CREATE, 500, "unable to create VM 105: config file already exists", VmidTaken),
    (READ, 500, "hostname lookup 'pve2' failed - failed to get address info for: pve2", PveUnreachable),
    (READ, 596, "tls_process_server_certificate: certificate verify failed", PveUnreachable),
    (CREATE, 500, "no such cluster node 'nope'", NotFound),
    (CREATE, 595, "No route to host", PveUnreachable),
    (CREATE, 596, "Connection timed out", PveOutcomeUnknown),
    (CREATE, 596, "Broken pipe", PveOutcomeUnknown),
    (CREATE, 599, "Too many redirections", PveOutcomeUnknown),
    (CREATE, 502, "Bad Gateway", PveOutcomeUnknown),
    (CREATE, 504, "Gateway Timeout", PveOutcomeUnknown),
    # Refusals that no waiting changes
    (DELETE, 500, "VM 101 is running - destroy failed", VmRunning),
    (DELETE, 500, "can't remove VM 101 - protection mode enabled", PveRefused),
    (DELETE, 500, "unable to remove VM 101 - used in HA resources and purge parameter not set", PveRefused),
    (PUT, 500, "service 'vm:101' in error state, must be disabled and fixed first", PveRefused),
    (PUT, 500, "checksum missmatch (file change by other user?)", ConfigChanged),
    (PUT, 500, "detected modified configuration - file changed by other user? Try again.", ConfigChanged),
    (READ, 500, "VM 101 not running", VmNotRunning),
    (CREATE, 500, "storage 'nope' does not exist", NotFound),
    (CREATE, 500, "storage 'offline' is disabled", NotFound),
    (CREATE, 500, "only root can set 'args' config", PermissionDenied),
    (READ, 501, "Method 'GET /nodes/pve1/bogus' not implemented", PveRefused),
    (CREATE, 500, "something new - got timeout of its own", StorageBusy),
    (START, 500, "something new - got timeout of its own", PveRefused),
    (CREATE, 500, "something new", PveRefused),
]

# The end of a task: (type, text, type of error; None: the task failed, and that is all that we know)
TASKS: list[tuple[str, str, type[DeployError] | None]] = [
    *((kind, FLOCK, LockTimeout) for kind in ("qmstart", "qmstop", "qmdestroy", "qmconfig", "qmsnapshot")),
    *((kind, "VM is locked (backup)", VmLocked) for kind in ("qmstart", "qmdestroy", "qmconfig", "qmsnapshot")),
    ("qmconfig", "VM is locked (suspended)", Hibernated),
    *((kind, text, StorageBusy) for kind in ("qmcreate", "qmclone", "qmconfig", "qmdestroy") for text in (STORE, CFS)),
    ("qmcreate", f"unable to create VM 101 - {STORE}", StorageBusy),
    ("qmcreate", "unable to create VM 101 - zfs error: command 'zfs create' failed: got timeout", StorageBusy),
    ("qmcreate", "unable to create VM 101 - cluster not ready - no quorum?", NoQuorum),
    ("qmcreate", "unable to create VM 101 - no space left", None),
    *((kind, "VM quit/powerdown failed - got timeout", NotObeyed) for kind in ("qmstop", "qmshutdown", "qmcreate")),
    ("qmshutdown", "VM quit/powerdown failed", NotObeyed),
    ("qmreboot", "VM quit/powerdown failed - got timeout", NotObeyed),
    ("qmconfig", f"Parameter verification failed.  net1: {HOTPLUG}", HotplugFailed),
    ("qmconfig", "Parameter verification failed.  scsi1: hotplug problem - error on hot-unplugging", HotplugFailed),
    ("qmstart", KVM, NotObeyed),
    ("qmstart", "start failed: QEMU exited with code 1", None),
    ("qmstart", "VM 101 qmp command 'cont' failed - got timeout", NotObeyed),
    ("qmstart", "something new - got timeout", None),
    ("qmcreate", "unable to create VM 101 - VM 101 already exists on node 'pve1'", VmidTaken),
    ("qmdestroy", "VM 101 is running - destroy failed", VmRunning),
    ("qmsnapshot", "kvm: something", None),
]
assert BadParameter in HotplugFailed.__mro__
