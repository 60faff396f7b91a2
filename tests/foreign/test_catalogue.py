"""Every refusal that a foreign catalogue knows of every call that we make becomes the right one of our errors."""

import inspect
from pathlib import Path

import pytest

from nixops_proxmox.errors import DeployError, PveRefused, TaskFailed
from nixops_proxmox.pve.api.accounts import AccountCalls
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.api.containers import ContainerClient
from nixops_proxmox.pve.api.firewall import FirewallCalls
from nixops_proxmox.pve.api.ha import HaCalls
from nixops_proxmox.pve.api.replication import ReplicationCalls
from nixops_proxmox.pve.api.tasks import TaskWaiter
from nixops_proxmox.pve.cluster.work import known_of
from tests.foreign.bench import Foreign
from tests.foreign.calls import Made, made
from tests.foreign.judged import judgement

NO_CALLS = {"close", "guarded"}
CALLS = {
    "": PveClient,
    "accounts.": AccountCalls,
    "firewall.": FirewallCalls,
    "containers.": ContainerClient,
    "ha.": HaCalls,
    "replication.": ReplicationCalls,
}
NAMES = sorted(
    f"{where}{name}"
    for where, owner in CALLS.items()
    for name, _ in inspect.getmembers(owner, inspect.isfunction)
    if not name.startswith("_") and name not in NO_CALLS and (name in vars(owner) or owner is not ContainerClient)
)


@pytest.fixture
def calls(tmp_path: Path) -> dict[str, Made]:
    return {one.name: one for one in made(tmp_path)}


# What the client answers for them is no error, or cannot be what this server answers:
NO_ERRORS = {("is_vmid_free", "param_vmid_already_exists")}
# They answer a ticket; how the task ends is heard at the websocket.
NO_TASKS = {"open_terminal", "open_display", "open_spice", "containers.open_terminal"}


def test_the_table_has_every_call_of_the_client(calls: dict[str, Made]) -> None:
    assert sorted(calls) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_catalogued_error_is_judged(foreign: Foreign, calls: dict[str, Made], name: str) -> None:
    call, wrong = calls[name], []
    catalogued = foreign.errors(call.method, call.path)
    for error in catalogued:
        if (name, error["name"]) in NO_ERRORS or (name in NO_TASKS and error["in_task"]):
            continue
        details = "; ".join(error.get("errors", {}).values())
        text = f"{error['message']}\n{details}" if details and not error["in_task"] else error["message"]
        wanted = judgement(0 if error["in_task"] else error["status"], text)
        got = told(foreign, call, error["name"])
        if type(got) is not (wanted or (type(None) if error["in_task"] else PveRefused)):
            wrong.append((error["name"], text, wanted, got))
    assert wrong == []


def told(foreign: Foreign, call: Made, error: str) -> DeployError | None:
    """What we make of it, told at once or at the end of the task; None: a task that failed, and that is all."""
    with foreign.failing(call.method, call.path, error):
        try:
            answer = call.make(foreign.client)
            if isinstance(answer, str):
                TaskWaiter(foreign.client, clock=foreign.now, sleep=foreign.sleep).require(answer, call.name)
        except TaskFailed as failed:
            return known_of(failed)
        except DeployError as refused:
            return refused
    raise AssertionError(f"{call.name}: {error} was not noticed: {answer!r}")


def test_the_catalogue_is_not_empty(foreign: Foreign, calls: dict[str, Made]) -> None:
    counted = {(one.method, one.path): len(foreign.errors(one.method, one.path)) for one in calls.values()}
    assert all(counted.values()), counted
    assert sum(counted.values()) >= 616
