"""/nodes/{node}/tasks: lists, status, log, and stopping."""

from collections.abc import Callable
from typing import Any

from nixops_proxmox.lab.call import Call, Routes
from nixops_proxmox.lab.refusals import bad_parameter
from nixops_proxmox.lab.schema.types import boolean, integer, named, one_of, text
from nixops_proxmox.lab.tasks import UPID, Task

routes = Routes()
FILTERS = {
    "errors": boolean(),
    "limit": integer(0),
    "since": integer(),
    "source": one_of("archive", "active", "all"),
    "start": integer(0),
    "statusfilter": named("string-list"),
    "typefilter": text(),
    "until": integer(),
    "userfilter": text(),
    "vmid": integer(100, 999999999, format="pve-vmid"),
}


def describe(task: Task, *, with_pstart: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = {
        "upid": task.upid,
        "node": task.node,
        "pid": task.pid,
        "starttime": task.starttime,
        "type": task.type,
        "id": task.id,
        "user": task.user,
    }
    if with_pstart:
        found["pstart"] = task.pstart
    if task.token:
        found["tokenid"] = task.token
    if task.status is not None:
        found |= {"endtime": task.endtime, "status": task.status}
    return found


def is_mine(call: Call, task: Task) -> bool:
    """A token sees its own; a user sees its own and its tokens'."""
    return task.who == call.auth.who or (not call.auth.token and task.user == call.auth.user)


@routes.get("/nodes/{node}/tasks", FILTERS)
async def tasks(call: Call) -> Any:
    every = call.allows(f"/nodes/{call.node}", "Sys.Audit")
    source = call.get("source", "archive")
    running = [task for task in call.cluster.tasks.tasks.values() if task.status is None and source != "archive"]
    done = [task for task in call.cluster.tasks.tasks.values() if task.status is not None and source != "active"]
    mine = [
        task
        for task in [*reversed(running), *reversed(done)]
        if task.node == call.node and (every or is_mine(call, task)) and _passes(call, task)
    ]
    if mine:  # a zero is no total
        call.extra["total"] = len(mine)
    start, limit = call.get("start", 0), call.get("limit", 50) or len(mine)
    return [_listed(task) for task in mine[start : start + limit]]


def _listed(task: Task) -> dict[str, Any]:
    if task.status is not None:
        return describe(task)
    entry = describe(task) | {"status": "RUNNING", "saved": "0", "user": task.who}
    entry.pop("tokenid", None)
    return entry


def _passes(call: Call, task: Task) -> bool:
    tests: dict[str, Callable[[Any], bool]] = {
        "vmid": lambda vmid: task.id == str(vmid),
        "typefilter": lambda kind: task.type == kind,
        "userfilter": lambda user: user in task.who,
        "since": lambda since: task.starttime >= since,
        "until": lambda until: task.starttime <= until,
        "errors": lambda wanted: not wanted or (task.status is not None and task.status != "OK"),
        "statusfilter": lambda wanted: _kind(task) in wanted.split(","),
    }
    return all(test(call.params[name]) for name, test in tests.items() if name in call.params)


def _kind(task: Task) -> str:
    if task.status is None or task.status == "unexpected status":
        return "unknown"
    return "ok" if task.status == "OK" else "warning" if task.status.startswith("WARNINGS") else "error"


def _task(call: Call, *privilege: str) -> Task | None:
    """The task of the path; permission first, then whether it exists."""
    found = UPID.match(call.params["upid"])
    if found is None:
        raise bad_parameter("upid", "unable to parse worker upid")
    task = call.cluster.tasks.find(call.params["upid"])
    who = found["user"]
    mine = who == call.auth.who or (not call.auth.token and who.partition("!")[0] == call.auth.user)
    if not mine:
        call.require(f"/nodes/{call.node}", *privilege)
    return task


@routes.get("/nodes/{node}/tasks/{upid}")
async def index(_: Call) -> Any:
    return [{"name": "log"}, {"name": "status"}]


@routes.get("/nodes/{node}/tasks/{upid}/status")
async def status(call: Call) -> Any:
    task = _task(call, "Sys.Audit")
    if task is None or task.node != call.node:
        raise bad_parameter("upid", "no such task")
    found = describe(task)
    found.pop("endtime", None)
    if task.status is None:
        return {**found, "status": "running"}
    return {**found, "status": "stopped", "exitstatus": task.status}


@routes.get(
    "/nodes/{node}/tasks/{upid}/log", {"start": integer(0), "limit": integer(0), "download": boolean(since=(8, 0))}
)
async def log(call: Call) -> Any:
    task = _task(call, "Sys.Audit")
    if task is None:
        call.extra["total"] = 1
        return {"n": 1, "t": "unable to open file - No such file or directory"}
    lines = task.log.lines or ["no content"]
    call.extra["total"] = len(lines)
    start, limit = call.get("start", 0), call.get("limit", 50) or len(lines)
    return [{"n": number, "t": line} for number, line in list(enumerate(lines, 1))[start : start + limit]]


@routes.delete("/nodes/{node}/tasks/{upid}")
async def stop(call: Call) -> Any:
    task = _task(call, "Sys.Modify")
    if task is not None:
        call.cluster.tasks.kill(task, politely=True)
