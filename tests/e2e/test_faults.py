"""What goes wrong with PVE, a machine for each fault, all in one deploy: it gets ready, or ends with one clear error.

Every machine has a node of its own, so that a fault is aimed at it alone; the others must not notice.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.pace import patience

if TYPE_CHECKING:
    from tests.e2e.field import Field

pytestmark = [pytest.mark.netns, pytest.mark.slow]

CREATE = r"/qemu$"
PING, EXEC, STATUS, NICS = "agent/ping", "agent/exec$", "agent/exec-status", "agent/network-get-interfaces"
START, STOP, CONFIG, LOOK = "status/start", "status/stop", r"/config$", "/pending"
FLOCK = "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout"
CFS = "cfs-lock 'storage-a' error: got lock request timeout"
NO_SPACE = "unable to create VM: lvcreate: no space left"
QEMU = "start failed: QEMU exited with code 1"
DENIED = "Permission check failed (/storage/local-lvm, Datastore.AllocateSpace)"
KILLED = "unexpected status|killed|interrupted"
STORAGE = "can't lock file '/var/lock/pve-manager/pve-storage-local-lvm' - got timeout"
DEADLINE = patience(60.0)  # seconds for any one machine


@dataclass(frozen=True)
class Case:
    """`faults`: (action, method, end of the path, more); `error`: the class, or empty: it gets ready all the same.

    `says`: a pattern in what the user is told: of the error with its hint, or of the warnings.
    """

    name: str
    faults: tuple[tuple[str, str, str, dict[str, Any]], ...] = ()
    error: str = ""
    says: str = ""
    changes: dict[str, Any] = field(default_factory=dict)
    stays: bool = False  # the next run cannot mend it

    @property
    def node(self) -> str:
        return f"n-{self.name}"

    def machine(self, iso: str) -> dict[str, Any]:
        return {
            "profile": "lab",
            "node": self.node,
            "disks": [{"storage": "local-lvm", "size": "1G"}],
            "memory": 256,
            "network": [{"bridge": "vmbr0"}],
            "install": {"iso": iso, "method": "configuration"},
        } | self.changes


def fault(action: str, method: str, path: str, **more: Any) -> tuple[str, str, str, dict[str, Any]]:
    return action, method, path, more


CASES = (
    Case("fine"),
    # The agent.
    Case("agent-late", (fault("agent_silent", "POST", PING, count=4),)),
    Case(
        "agent-never", (fault("agent_silent", "POST", PING, count=10_000),), "AgentSilent", r"no agent service.*console"
    ),
    Case("agent-gone-after-reboot", (fault("agent_silent", "GET", NICS, nth=2, count=5),)),
    Case("agent-gone-for-good", (fault("agent_silent", "GET", NICS, nth=2, count=10_000),), "AgentSilent", r"no agent"),
    Case("result-lost", (fault("drop_after", "GET", STATUS),)),
    Case("command-lost", (fault("drop_after", "POST", EXEC),)),
    # Locks.
    Case("flock-sync", (fault("refuse", "POST", START, times=2, text=FLOCK),)),
    Case("flock-real", (fault("flock_vm", "POST", STOP, seconds=3.0),)),
    Case("flock-in-task", (fault("fail_task", "POST", START, text=FLOCK),)),
    Case("storage-sync", (fault("refuse", "POST", CREATE, text=CFS),)),
    Case("storage-in-task", (fault("fail_task", "POST", CREATE, text=f"unable to create VM 100 - {STORAGE}"),)),
    Case("storage-forever", (fault("fail_task", "POST", CREATE, times=0, text=STORAGE),), "TaskFailed", "got timeout"),
    Case("backup", (fault("lock_vm", "PUT", CONFIG, seconds=2.0, text="backup"),)),
    Case(
        "backup-forever",
        (fault("lock_vm", "PUT", CONFIG, text="backup"),),
        "PveBusy",
        r"\(backup\).*qm unlock",
        stays=True,
    ),
    # Tasks.
    Case("task-fails", (fault("fail_task", "POST", CREATE, text=NO_SPACE),), "TaskFailed", "no space left"),
    Case(
        "task-fails-late",
        (fault("fail_task", "POST", CREATE, text="worker said so", late=True),),
        "TaskFailed",
        "worker said so",
    ),
    Case("task-warns", (fault("warn_task", "POST", START, text="volume deactivation failed"),)),
    Case("task-killed", (fault("kill_task", "POST", START),), "TaskFailed", KILLED),
    Case("create-killed", (fault("kill_task", "POST", CREATE),), "TaskFailed", KILLED, stays=True),
    Case("start-fails", (fault("fail_task", "POST", START, text=QEMU),), "TaskFailed", "QEMU exited with code 1"),
    # Lost answers.
    Case("create-lost", (fault("drop_after", "POST", CREATE),)),
    Case("create-not-sent", (fault("drop_before", "POST", CREATE),)),
    Case("start-lost", (fault("drop_after", "POST", START),)),
    Case("stop-lost", (fault("drop_after", "POST", STOP),)),
    Case("config-lost", (fault("drop_after", "PUT", CONFIG),)),
    Case("proxy-gave-up", (fault("refuse", "PUT", CONFIG, status=596, text="Connection timed out"),)),
    Case("proxy-gave-up-on-start", (fault("refuse", "POST", START, status=596, text="Connection timed out"),)),
    # The cluster.
    Case("vmid-stolen", (fault("steal_vmid", "POST", CREATE),), says="taken|already exists"),
    Case("node-away", (fault("lose_node", "POST", START, seconds=2.5, target="n-node-away"),)),
    Case("node-lost", (fault("lose_node", "POST", START, target="n-node-lost"),), "PveUnreachable", "offline|No route"),
    Case("quorum-blip", (fault("refuse", "PUT", CONFIG, text="cluster not ready - no quorum?"),)),
    Case(
        "no-quorum",
        (fault("refuse", "PUT", CONFIG, text="cluster not ready - no quorum?", times=0),),
        "NoQuorum",
        "quorum",
    ),
    Case(
        "forgotten", (fault("refuse", "GET", LOOK, status=401, text="invalid PVE ticket"),), "NotAuthenticated", "token"
    ),
    Case(
        "forbidden",
        (fault("refuse", "POST", CREATE, status=403, text=DENIED),),
        "PermissionDenied",
        r"Datastore.AllocateSpace.*pveum|Datastore.AllocateSpace.*doctor",
    ),
    Case(
        "too-large",
        changes={"disks": [{"storage": "local-lvm", "size": "900T"}]},
        error="PveRefused",
        says="local-lvm",
        stays=True,
    ),
    # Addresses.
    Case("ipv6-only", changes={"network": [{"bridge": "vmbr3"}]}),
    Case("decoy", changes={"network": [{"bridge": "vmbr1"}, {"bridge": "vmbr2"}]}),
)
BY_NAME = {case.name: case for case in CASES}
DECOYS = [f"10.77.1.{last}" for last in range(50, 251)]


@pytest.fixture(scope="module")
def field_bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Field"]:
    from tests.e2e.field import start_field

    with start_field(tmp_path_factory.mktemp("field"), ["n-first", *(case.node for case in CASES)]) as made:
        yield made


@dataclass(frozen=True)
class Runs:
    """The deploy with all faults, and the same once more after they have gone."""

    field: "Field"
    first: dict[str, Any]
    creates: dict[str, int]  # qmcreate tasks by node, after the first
    vms: dict[str, int]  # VMs by node
    second: dict[str, Any]


@pytest.fixture(scope="module")
def runs(field_bed: "Field") -> Runs:
    lab = field_bed
    lab.control("POST", "decoys", DECOYS)
    for case in CASES:
        for action, method, path, more in case.faults:
            lab.fault(action, method=method, path=f"^/nodes/{case.node}/.*{path.removeprefix('/')}", **more)
    machines = {case.name: case.machine(lab.running.iso) for case in CASES}
    first = lab.run("deploy", machines)
    creates = [task["upid"].split(":")[1] for task in lab.tasks("qmcreate")]
    nodes = [vm["node"] for vm in lab.vms().values() if vm["name"] != "somebody-elses"]
    mend(lab)
    second = lab.run("deploy", {name: one for name, one in machines.items() if not BY_NAME[name].stays})
    return Runs(lab, first, {n: creates.count(n) for n in creates}, {n: nodes.count(n) for n in nodes}, second)


def mend(lab: "Field") -> None:
    """Nothing goes wrong any more."""
    lab.forget_faults()
    lab.control("POST", "nodes", {case.node: True for case in CASES})
    for name in ("agent-never", "agent-gone-for-good"):
        lab.fault("agent_silent", path=f"^/nodes/{BY_NAME[name].node}/", count=0)


def told(outcome: dict[str, Any]) -> str:
    return " ".join([outcome["message"], outcome["hint"], *outcome["warnings"]])


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_a_fault_ends_in_success_or_one_clear_error(runs: Runs, name: str) -> None:
    case, outcome = BY_NAME[name], runs.first[name]
    assert outcome["error"] == case.error, told(outcome)
    assert outcome["seconds"] < DEADLINE
    assert re.search(case.says, told(outcome), re.DOTALL), told(outcome)
    if case.error:
        assert outcome["phase"] != "ready" and outcome["exit_status"] > 1
        assert "Traceback" not in told(outcome)
    else:
        assert outcome["phase"] == "ready"
        assert runs.vms[case.node] == 1, "one machine, one VM"


@pytest.mark.parametrize("name", [case.name for case in CASES if case.error and not case.stays])
def test_the_same_command_again_finishes_what_failed(runs: Runs, name: str) -> None:
    assert runs.second[name]["phase"] == "ready", told(runs.second[name])
    assert len([vm for vm in runs.field.vms().values() if vm["node"] == BY_NAME[name].node]) == 1


@pytest.mark.parametrize("name", ["create-lost", "start-lost", "stop-lost", "config-lost"])
def test_a_lost_answer_makes_no_second_vm(runs: Runs, name: str) -> None:
    assert runs.creates[BY_NAME[name].node] == 1


def test_a_machine_with_ipv6_alone_is_reached_by_it(runs: Runs) -> None:
    assert ":" in runs.first["ipv6-only"]["facts"]["endpoint"]["host"]


def test_a_stranger_at_the_machines_private_address_never_wins(runs: Runs) -> None:
    facts = runs.first["decoy"]["facts"]
    private = [one["ip"] for one in facts["addresses"] if one["ip"].startswith("10.77.1.")]
    assert set(private) & set(DECOYS), "the decoy must be at one of the machine's own addresses"
    assert not facts["endpoint"]["host"].startswith("10.77.1.")


def test_the_installers_address_is_not_taken_for_the_systems(runs: Runs) -> None:
    """DHCP gives the installed system another one; the record has the new."""
    facts = runs.first["fine"]["facts"]
    assert facts["endpoint"]["host"] in [one["ip"] for one in facts["addresses"]]
    assert "installer_keys" not in facts


def test_a_third_run_has_nothing_to_do(runs: Runs) -> None:
    lab = runs.field
    fine = [case.name for case in CASES if not case.stays]
    machines = {name: BY_NAME[name].machine(lab.running.iso) for name in fine}
    lab.forget_calls()
    again = lab.run("deploy", machines)
    assert {one["phase"] for one in again.values()} == {"ready"}
    assert {call["method"] for call in lab.calls()} == {"GET"}
    assert len(lab.calls()) <= 1 + len(machines)


def test_destroy_takes_away_what_is_ours_and_nothing_else(runs: Runs) -> None:
    lab = runs.field
    machines = {case.name: case.machine(lab.running.iso) for case in CASES}
    gone = lab.run("destroy", machines)
    bad = {name: told(one) for name, one in gone.items() if one["error"] and name not in ("create-killed",)}
    assert set(bad) <= {"backup-forever"}, bad
    left = {vm["name"] for vm in lab.vms().values()}
    assert "somebody-elses" in left
    assert Path(lab.folder).exists()


# What is aimed at everybody, one after the other.


@pytest.fixture
def lone(field_bed: "Field") -> "Field":
    field_bed.clear()
    return field_bed


def one(lab: "Field", **changes: Any) -> dict[str, Any]:
    return {"web": Case("first").machine(lab.running.iso) | changes}


def test_a_token_of_its_own_rights_has_none_until_they_are_given(lone: "Field", runs: Runs) -> None:
    """Privilege separation: the user may do everything, and the token nothing."""
    assert runs.first
    made = lone.api("POST", "/access/users/deploy@pve/token/weak", privsep=1)
    outcome = lone.run("deploy", one(lone), profile={"token": f"{made['full-tokenid']}={made['value']}"})["web"]
    assert outcome["error"] in ("PermissionDenied", "PveRefused"), told(outcome)
    assert re.search(r"doctor|grant|privilege", told(outcome)), told(outcome)
    assert lone.vms() == {}


def test_a_ticket_that_expires_is_renewed(lone: "Field", runs: Runs) -> None:
    assert runs.first
    profile = {"username": "root@pam", "password": lone.running.root_password}
    lone.fault("refuse", method="PUT", path=CONFIG, status=401, text="permission denied - invalid PVE ticket")
    outcome = lone.run("deploy", one(lone), profile=profile)["web"]
    assert outcome["phase"] == "ready", told(outcome)
    logins = [call for call in lone.calls() if call["path"] == "/access/ticket"]
    assert len(logins) == 2
    assert lone.running.root_password not in repr(outcome)


def test_a_cluster_without_quorum_is_named_and_left_alone(lone: "Field", runs: Runs) -> None:
    assert runs.first
    lone.fault("no_quorum", method="POST", path=CREATE, seconds=600.0)
    outcome = lone.run("deploy", one(lone))["web"]
    assert outcome["error"] == "NoQuorum" and "quorum" in told(outcome), told(outcome)
    assert lone.vms() == {}


def test_wrong_credentials_are_said_to_be_so(lone: "Field", runs: Runs) -> None:
    assert runs.first
    outcome = lone.run("deploy", one(lone), profile={"token": "deploy@pve!lab=00000000-0000-0000-0000-000000000000"})
    assert outcome["web"]["error"] == "NotAuthenticated"
    assert "00000000" not in told(outcome["web"])


def test_an_api_that_is_not_there_is_said_to_be_so(lone: "Field", runs: Runs) -> None:
    assert runs.first
    wrong = {"url": "https://127.0.0.1:1", "token": lone.running.token}
    outcome = lone.run("deploy", one(lone), profile=wrong)["web"]
    assert outcome["error"] == "PveUnreachable" and "127.0.0.1:1" in told(outcome)
    assert outcome["exit_status"] == 4


def test_a_cluster_that_is_somebody_else_gets_no_credentials(lone: "Field", runs: Runs) -> None:
    assert runs.first
    lone.forget_calls()
    outcome = lone.run("deploy", one(lone), profile={"token": lone.running.token, "fingerprint": ":".join(["AB"] * 32)})
    assert outcome["web"]["error"] == "ConfigError"
    assert lone.calls() == []
