"""Tasks: names, ends, waiting, and finding one whose answer was lost."""

from collections.abc import Callable
from typing import Any

import pytest

from nixops_proxmox.core.upid import find_upid, parse_upid
from nixops_proxmox.errors import NotFound, PveError, PveUnreachable, TaskFailed, TaskStillRunning
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.api.tasks import Failed, StillRunning, Succeeded, TaskWaiter, outcome_of
from nixops_proxmox.pve.wire.calls import Call
from nixops_proxmox.pve.wire.upload import Upload

UPID = "UPID:pve1:0001C2A9:00A3F1E0:6750A1C0:qmcreate:101:deploy@pve!ops:"


class Server:
    """Answers from a script, moves its own clock when it sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.statuses: list[Any] = []
        self.log: list[str] = []
        self.asked: list[Call] = []
        self.grow: Callable[[], None] = lambda: None

    def send(self, call: Call, upload: Upload | None = None) -> Any:
        self.asked.append(call)
        if call.template.endswith("/log"):
            start = int(str(call.params["start"]))
            lines = [{"n": n + 1, "t": text} for n, text in enumerate(self.log)]
            return lines[start:] or [{"n": 1, "t": "no content"}]
        answer = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """Nothing is open."""

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.grow()


RUNNING = {"status": "running"}


def ended(text: str) -> dict[str, str]:
    return {"status": "stopped", "exitstatus": text}


def waiter(server: Server) -> TaskWaiter:
    return TaskWaiter(PveClient(server), clock=lambda: server.now, sleep=server.sleep)


@pytest.mark.parametrize(
    ("text", "node", "kind", "id_", "user"),
    [
        (UPID, "pve1", "qmcreate", "101", "deploy@pve!ops"),
        ("UPID:n-2:0001C2A9:100A3F1E0:6750A1C0:imgcopy::root@pam:", "n-2", "imgcopy", "", "root@pam"),
        ("UPID:a:0001C2A9:00A3F1E0:6750A1C0:imgdel:101@local-lvm:u@ldap:", "a", "imgdel", "101@local-lvm", "u@ldap"),
    ],
)
def test_a_upid_is_read(text: str, node: str, kind: str, id_: str, user: str) -> None:
    upid = parse_upid(text)
    assert (upid.node, upid.type, upid.id, upid.user, upid.started) == (node, kind, id_, user, 0x6750A1C0)


@pytest.mark.parametrize("text", [None, "", "OK", UPID[:-1], UPID + "x", UPID.replace("pve1", "../x"), 7, {}])
def test_what_is_no_upid_is_none(text: object) -> None:
    assert find_upid(text) is None
    with pytest.raises(NotFound):
        parse_upid(str(text))


@pytest.mark.parametrize(
    ("text", "log", "outcome"),
    [
        ("OK", [], Succeeded()),
        ("WARNINGS: 2", ["x", "WARN: a", "warning: b"], Succeeded(("WARN: a", "warning: b"))),
        ("WARNINGS: 1", [], Succeeded(("WARNINGS: 1",))),
        ("command failed", ["x"], Failed("command failed", ("x",))),
        ("unexpected status", [], Failed("unexpected status")),
        ("", [], Failed("no exit status")),
        ("OK but not", [], Failed("OK but not")),
    ],
)
def test_an_end_is_a_type(text: str, log: list[str], outcome: Any) -> None:
    assert outcome_of(text, log) == outcome


def test_a_short_task_is_polled_fast_and_a_long_one_slowly() -> None:
    server = Server()
    server.statuses = [RUNNING] * 12 + [ended("OK")]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        server.sleep(seconds)

    assert TaskWaiter(PveClient(server), clock=lambda: server.now, sleep=sleep).wait(UPID) == Succeeded()
    assert slept[0] == 0.2
    assert slept == sorted(slept)
    assert slept[-1] == 3.0
    assert all(call.poll for call in server.asked)


def test_a_failure_has_the_logs_end() -> None:
    server = Server()
    server.statuses = [ended("unable to create VM 101 - no space")]
    server.log = [f"line {n}" for n in range(50)] + ["TASK ERROR: unable to create VM 101 - no space"]
    with pytest.raises(TaskFailed, match="no space") as caught:
        waiter(server).require(UPID, "web: creating VM 101")
    assert caught.value.log[-1] == "line 49"
    assert len(caught.value.log) == 12
    assert caught.value.upid == UPID
    assert "web: creating VM 101" in caught.value.message


def test_errors_in_between_are_put_up_with_but_not_for_ever() -> None:
    server = Server()
    server.statuses = [RUNNING, PveUnreachable("x"), PveUnreachable("x"), ended("OK")]
    assert waiter(server).wait(UPID) == Succeeded()
    server.statuses = [PveUnreachable("gone")]
    with pytest.raises(PveUnreachable):
        waiter(server).wait(UPID)
    assert server.now < 2000


def test_a_forgotten_task_is_not_found_at_once() -> None:
    server = Server()
    server.statuses = [NotFound("no such task")]
    with pytest.raises(NotFound):
        waiter(server).wait(UPID)
    assert server.now == 1000.0


def test_a_deadline_is_kept() -> None:
    server = Server()
    server.statuses = [RUNNING]
    outcome = waiter(server).wait(UPID, deadline=60)
    assert isinstance(outcome, StillRunning)
    assert 1060 <= server.now < 1064
    with pytest.raises(TaskStillRunning) as caught:
        waiter(server).require(UPID, "x", deadline=60)
    assert caught.value.upid == UPID


def test_a_task_whose_log_grows_is_not_stalled() -> None:
    server = Server()
    server.statuses = [RUNNING]
    told: list[str] = []
    server.grow = lambda: server.log.append(f"at {server.now:.0f}") if server.now < 2000 else None
    outcome = waiter(server).wait(UPID, stall=300, tell=told.append)
    assert isinstance(outcome, StillRunning)
    assert "no progress for 300 s" in outcome.why
    assert server.now > 2250
    assert told[-1] == outcome.last_line
    starts = [int(str(call.params["start"])) for call in server.asked if call.template.endswith("/log")]
    assert starts == sorted(starts)
    assert starts[-1] == len(server.log)


def test_a_lost_answers_task_is_found_by_vm_type_time_and_user() -> None:
    def task(number: int, **more: Any) -> dict[str, Any]:
        upid = UPID.replace("0001C2A9", f"{number:08X}")
        return {"upid": upid, "type": "qmcreate", "id": "101", "user": "deploy@pve", "tokenid": "ops"} | more

    server = Server()
    listed = [
        task(1, starttime=500),
        task(2, starttime=600),
        task(3, starttime=700, type="qmstart"),
        task(4, starttime=700, id="102"),
        task(5, starttime=700, user="other@pve"),
    ]
    server.statuses = [listed]
    found = waiter(server).find("pve1", 101, "qmcreate", 590.0, user="deploy@pve!ops")
    assert found == listed[1]["upid"]
    known = {listed[1]["upid"], listed[0]["upid"]}
    assert waiter(server).find("pve1", 101, "qmcreate", 590.0, not_these=known, user="deploy@pve!ops") is None
    assert server.asked[0].params["since"] == 530
    assert server.asked[0].params["source"] == "all"


@pytest.mark.parametrize("answer", [None, "x", [], {}, {"status": 7, "exitstatus": {}}])
def test_an_odd_answer_is_our_error(answer: Any) -> None:
    server = Server()
    server.statuses = [answer]
    with pytest.raises((PveError, TaskStillRunning)):
        waiter(server).require(UPID, "x", deadline=1)
