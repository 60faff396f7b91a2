"""Each thing that PVE says becomes the error that tells what to do."""

import pytest

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
    PveOutcomeUnknown,
    PveRefused,
    PveUnreachable,
    Retry,
    VmidTaken,
)
from nixops_proxmox.pve.calls import Call
from nixops_proxmox.pve.refusals import (
    ConfigChanged,
    LockTimeout,
    Refusal,
    StorageBusy,
    VmLocked,
    VmNotRunning,
    VmRunning,
    WrongPlace,
    translate_refusal,
    translate_task_text,
)
from tests.pve import reference

CREATE = Call("POST", "/nodes/{node}/qemu", {"node": "pve1"}, {"vmid": 101})
CONFIG = Call("GET", "/nodes/{node}/qemu/{vmid}/config", {"node": "pve1", "vmid": 101})
PING = Call("POST", "/nodes/{node}/qemu/{vmid}/agent/ping", {"node": "pve1", "vmid": 101})
DELETE = Call("DELETE", "/nodes/{node}/qemu/{vmid}", {"node": "pve1", "vmid": 101})


@pytest.mark.parametrize(
    ("call", "status", "text", "kind"),
    [
        (CONFIG, 401, "No ticket", NotAuthenticated),
        (CONFIG, 403, "Permission check failed (/vms/101, VM.Audit)", PermissionDenied),
        (CREATE, 403, "Permission check failed", PermissionDenied),
        (CONFIG, 500, "Configuration file 'nodes/pve1/qemu-server/101.conf' does not exist", WrongPlace),
        (CONFIG, 500, "unable to find configuration file for VM 101 on node 'pve1'", WrongPlace),
        (CREATE, 500, "unable to create VM 101 - VM 101 already exists on node 'pve1'", VmidTaken),
        (CREATE, 500, "unable to create VM 101 - CT 101 already exists on node 'pve1'", VmidTaken),
        (CREATE, 500, "unable to create VM 105: config file already exists", VmidTaken),
        (CONFIG, 500, "VM is locked (backup)", VmLocked),
        (CONFIG, 500, "can't lock file '/var/lock/qemu-server/lock-101.conf' - got timeout", LockTimeout),
        (CREATE, 500, "can't lock file '/var/lock/pve-manager/pve-storage-local' - got timeout", StorageBusy),
        (CREATE, 500, "cfs-lock 'storage-shared' error: got lock request timeout", StorageBusy),
        (CREATE, 500, "cluster not ready - no quorum?", PveBusy),
        (CREATE, 500, "cfs-lock 'file-user_cfg' error: no quorum!", PveBusy),
        (CONFIG, 500, "checksum missmatch (file change by other user?)", ConfigChanged),
        (CONFIG, 500, "detected modified configuration - file changed by other user? Try again.", ConfigChanged),
        (DELETE, 500, "VM 101 is running - destroy failed", VmRunning),
        (CONFIG, 500, "VM 101 not running", VmNotRunning),
        (CONFIG, 500, "hostname lookup 'nope' failed - failed to get address info for: nope", NotFound),
        (CONFIG, 596, "tls_process_server_certificate: certificate verify failed", NotFound),
        (CREATE, 500, "storage 'nope' does not exist", NotFound),
        (CREATE, 500, "only root can set 'args' config", PermissionDenied),
        (CONFIG, 501, "Method 'GET /nodes/pve1/bogus' not implemented", PveRefused),
        (CREATE, 595, "No route to host", PveUnreachable),
        (CREATE, 596, "Connection timed out", PveOutcomeUnknown),
        (CREATE, 500, "got no worker upid - start worker failed", PveBusy),
        (PING, 500, "QEMU guest agent is not running", AgentSilent),
        (PING, 500, "No QEMU guest agent configured", AgentRefused),
        (PING, 500, "VM 101 qmp command 'guest-exec' failed - got timeout", AgentSilent),
        (PING, 500, "VM 101 qga command 'guest-ping' failed - got timeout", AgentSilent),
        (PING, 500, "unable to connect to VM 101 qga socket - timeout after 31 retries", AgentSilent),
        (PING, 500, "Agent error: Invalid parameter 'pid'", AgentRefused),
        (PING, 500, "VM 101 is not running", GuestLost),
        (CREATE, 500, "something new", PveRefused),
        (CREATE, 418, "", PveRefused),
    ],
)
def test_a_text_becomes_its_error(call: Call, status: int, text: str, kind: type[DeployError]) -> None:
    error = translate_refusal(Refusal(status, text), call)
    assert type(error) is kind
    assert text in error.message


@pytest.mark.parametrize(
    ("text", "path", "privileges"),
    [
        ("Permission check failed (/vms/101, VM.PowerMgmt)", "/vms/101", ("VM.PowerMgmt",)),
        ("Permission check failed (/, Sys.Modify for modifying tag 'prod')", "/", ("Sys.Modify",)),
        (
            "Permission check failed (/storage/local, Datastore.Audit|Datastore.AllocateSpace)",
            "/storage/local",
            ("Datastore.Audit", "Datastore.AllocateSpace"),
        ),
        ("Permission check failed (, Pool.Allocate)", "", ("Pool.Allocate",)),
        ("Permission check failed (user != root@pam)", "", ()),
        ("Permission check failed", "/vms/101", ("VM.Allocate",)),
    ],
)
def test_a_missing_privilege_is_named(text: str, path: str, privileges: tuple[str, ...]) -> None:
    error = translate_refusal(Refusal(403, text), CREATE)
    assert isinstance(error, PermissionDenied)
    assert (error.path, error.privileges) == (path, privileges)
    assert error.hint


def test_a_task_text_is_read_by_the_same_table() -> None:
    assert isinstance(translate_task_text("can't lock file '/var/lock/qemu-server/lock-1.conf' - got timeout"), PveBusy)
    assert isinstance(translate_task_text("unable to create VM 1 - VM 1 already exists on node 'a'"), VmidTaken)
    assert translate_task_text("kvm: something") is None


def test_everything_that_a_real_pve_refused_is_told_with_its_text() -> None:
    seen = 0
    for recorded in reference.load("real-pve-8.4-responses.json"):
        status, request = recorded["status"], recorded["request"]
        if status < 400:
            continue
        body = recorded.get("body_json") or {}
        text = (body.get("message") or recorded["reason"]).strip()
        template = request["url"].removeprefix("/api2/json").partition("?")[0].replace("{", "").replace("}", "")
        errors = {key: str(value) for key, value in (body.get("errors") or {}).items()}
        error = translate_refusal(Refusal(status, text, errors), Call(request["method"], template))
        assert text in error.message
        assert all(key in error.message for key in errors)
        expected = {401: NotAuthenticated, 403: PermissionDenied}.get(status)
        assert expected is None or isinstance(error, expected)
        if status == 400:
            assert isinstance(error, BadParameter | NotFound | VmidTaken)
        if status == 500:
            assert error.retry is Retry.NEVER or isinstance(error, PveBusy | AgentSilent | GuestLost), text
        seen += 1
    assert seen > 200
