"""The guest agent's endpoints: preconditions, wrappers, one-shot results, bytes."""

import base64

from nixops_proxmox.lab.machines.base import AgentError
from nixops_proxmox.lab.testing import RunningLab
from tests.lab.http import QEMU, Client


def test_a_result_is_told_once(lab: RunningLab, api: Client, running: int) -> None:
    lab.driver.guest(running).run = lambda argv, stdin: {"exitcode": 3, "out": b"\xff\x00", "polls": 1}
    pid = api.call("POST", f"{QEMU}/{running}/agent/exec", {"command": ["/bin/sh", "-c", "true"]}).data["pid"]
    assert api.get(f"{QEMU}/{running}/agent/exec-status", pid=pid) == {"exited": 0}
    done = api.get(f"{QEMU}/{running}/agent/exec-status", pid=pid)
    assert done == {"exited": 1, "exitcode": 3, "out-data": "ÿ\x00", "out-truncated": 0}
    assert (
        api.call("GET", f"{QEMU}/{running}/agent/exec-status", {"pid": pid}).reason
        == "Agent error: Invalid parameter 'pid'"
    )


def test_argv_and_stdin_arrive_as_they_are(lab: RunningLab, api: Client, running: int) -> None:
    seen: list[object] = []

    def run(argv: list[str], stdin: bytes) -> dict[str, object]:
        seen.append((argv, stdin))
        return {"exitcode": 0}

    lab.driver.guest(running).run = run
    api.call("POST", f"{QEMU}/{running}/agent/exec", {"command": ["/bin/sh", "-c", "a; b & c"], "input-data": "in"})
    assert seen == [(["/bin/sh", "-c", "a; b & c"], b"in")]


def test_files_hold_bytes(lab: RunningLab, api: Client, running: int) -> None:
    data = bytes(range(256))
    coded = base64.b64encode(data).decode()
    assert (
        api.call("POST", f"{QEMU}/{running}/agent/file-write", {"file": "/root/f", "content": coded, "encode": 0}).data
        is None
    )
    assert lab.driver.guest(running).files["/root/f"] == data
    answer = api.get(f"{QEMU}/{running}/agent/file-read", file="/root/f")
    assert answer["content"].encode("latin-1") == data
    assert answer["bytes-read"] == 256


def test_an_error_of_a_simple_command_is_a_200(lab: RunningLab, api: Client, running: int) -> None:
    lab.driver.guest(running).answers["guest-get-users"] = AgentError("CommandNotFound", "disabled")
    answer = api.call("GET", f"{QEMU}/{running}/agent/get-users")
    assert (answer.status, answer.data) == (
        200,
        {"result": {"error": {"class": "CommandNotFound", "desc": "disabled"}}},
    )


def test_a_dead_agent_is_not_running(lab: RunningLab, api: Client, running: int) -> None:
    lab.driver.guest(running).alive = False
    assert api.call("POST", f"{QEMU}/{running}/agent/ping").reason == "QEMU guest agent is not running"


def test_seven_splits_a_lone_command(lab: RunningLab) -> None:
    from nixops_proxmox.lab.testing import start_lab

    with start_lab(version="7.4") as old, Client(old) as api:
        seen: list[list[str]] = []

        def keep(argv: list[str], stdin: bytes | None) -> dict[str, int]:
            seen.append(argv)
            return {"exitcode": 0}

        old.driver.guest(100).run = keep
        api.task("POST", QEMU, {"vmid": 100, "agent": 1})
        api.task("POST", f"{QEMU}/100/status/start")
        api.call("POST", f"{QEMU}/100/agent/exec", {"command": "/bin/echo a b"})
        api.call("POST", f"{QEMU}/100/agent/exec", {"command": ["/bin/echo", "a b"]})
        assert seen == [["/bin/echo", "a", "b"], ["/bin/echo", "a b"]]
