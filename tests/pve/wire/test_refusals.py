"""Each thing that PVE says becomes the error that tells what to do."""

import pytest

from nixops_proxmox.errors import (
    AgentSilent,
    BadParameter,
    DeployError,
    GuestLost,
    NotAuthenticated,
    NotFound,
    PermissionDenied,
    PveBusy,
    PveRefused,
    PveUnreachable,
    Retry,
    VmidTaken,
)
from nixops_proxmox.pve.wire.calls import Call
from nixops_proxmox.pve.wire.refusals import HotplugFailed, Refusal, translate_refusal, translate_task_text
from tests.pve import reference
from tests.pve.judged import AT_ONCE, HOTPLUG, TASKS

CREATE = Call("POST", "/nodes/{node}/qemu", {"node": "pve1"}, {"vmid": 101})
CONFIG = Call("GET", "/nodes/{node}/qemu/{vmid}/config", {"node": "pve1", "vmid": 101})


@pytest.mark.parametrize(
    ("call", "status", "text", "kind"),
    [
        (CONFIG, 401, "No ticket", NotAuthenticated),
        (CONFIG, 403, "Permission check failed (/vms/101, VM.Audit)", PermissionDenied),
        (CREATE, 403, "Permission check failed", PermissionDenied),
        (CREATE, 418, "", PveRefused),
        *AT_ONCE,
    ],
)
def test_a_text_becomes_its_error(call: Call, status: int, text: str, kind: type[DeployError]) -> None:
    error = translate_refusal(Refusal(status, text), call)
    assert type(error) is kind
    assert text in error.message


@pytest.mark.parametrize(("kind", "text", "means"), TASKS)
def test_the_text_of_a_task_is_read_by_what_it_was_doing(kind: str, text: str, means: type[DeployError] | None) -> None:
    known = translate_task_text(text, kind)
    assert means is None if known is None else type(known) is means


def test_a_hotplug_that_failed_is_told_like_any_bad_parameter() -> None:
    """PUT tells it as a 400, with the device in `errors`."""
    refusal = Refusal(400, "Parameter verification failed.", {"net1": HOTPLUG})
    error = translate_refusal(refusal, CONFIG)
    assert isinstance(error, HotplugFailed)
    assert error.errors == {"net1": HOTPLUG}


@pytest.mark.parametrize("lock", ["suspended", "suspending"])
def test_nobody_is_told_to_throw_away_a_guests_memory(lock: str) -> None:
    error = translate_refusal(Refusal(500, f"VM is locked ({lock})"), CONFIG)
    assert "qm unlock VMID" not in error.hint


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
            assert error.retry is Retry.NEVER or isinstance(
                error, PveBusy | AgentSilent | GuestLost | PveUnreachable
            ), text
        seen += 1
    assert seen > 200
