"""Who made a VM differ from its description: the description itself, or somebody, and probably who."""

from collections.abc import Collection, Sequence

import pytest

from nixops_proxmox.messages.accepting import accepting_line
from nixops_proxmox.messages.checks import check_json, check_remarks, metrics
from nixops_proxmox.model import Change, Facts, Phase, Power, Vm
from nixops_proxmox.operations import Checked
from nixops_proxmox.operations.drift import Drift, Origin, find_drift, find_origin
from nixops_proxmox.pve.api.answers import TaskListed
from nixops_proxmox.state import AttemptOutcome, JournalEntry

VM = Vm(100, "pve1", "u", Power.RUNNING, {})
CORES = Change("cores", "4", "2", restart=True, reason="PVE sets it when the VM starts")


def task(user: str, started: int, upid: str = "U") -> TaskListed:
    return TaskListed(f"{upid}{started}", "qmconfig", "100", user, started, "OK")


class Log:
    def __init__(self, *tasks: TaskListed) -> None:
        self.tasks, self.asked = tasks, 0

    def list_changes(self, vm: Vm, since: float, kinds: Collection[str], /) -> Sequence[TaskListed]:
        self.asked += 1
        return [one for one in self.tasks if one.started >= since and one.type in kinds]


def entry(ended: float, *tasks: str) -> JournalEntry:
    return JournalEntry(1, "web", "Boot", "installed", "running", 0, ended, AttemptOutcome.DONE, "", tasks)


@pytest.mark.parametrize(
    ("applied", "origin"),
    [
        ({"cores": "4", "memory": "512"}, Origin.DESCRIPTION),
        ({"cores": "2", "memory": "512"}, Origin.BY_HAND),
        ({"memory": "512"}, Origin.BY_HAND),
        ({}, Origin.UNKNOWN),
    ],
)
def test_what_the_last_deploy_left_tells_who_changed_it(applied: dict[str, str], origin: Origin) -> None:
    assert find_origin(CORES, Facts(applied=applied)) is origin


@pytest.mark.parametrize("key", ["description", "pool", "volume data"])
def test_of_what_is_not_written_down_nobody_is_blamed(key: str) -> None:
    assert find_origin(Change(key, "a", "b"), Facts(applied={"cores": "2"})) is Origin.UNKNOWN


def test_the_tasks_since_our_last_work_tell_who_it_probably_was() -> None:
    log = Log(task("early@pam", 50), task("alice@pam", 200), task("ours@pve!token", 150))
    facts = Facts(applied={"cores": "2"})
    (found,) = find_drift([CORES], facts, VM, log, [entry(100.0, "U150")])
    assert [one.user for one in found.tasks] == ["alice@pam"]


def test_without_a_change_by_hand_pve_is_not_asked() -> None:
    log = Log(task("alice@pam", 200))
    find_drift([CORES], Facts(applied={"cores": "4"}), VM, log, [])
    assert log.asked == 0


def told(drift: Drift) -> list[str]:
    return check_remarks(Checked("web", Phase.READY, changes=(drift.change,), drift=(drift,)))[1:]


def test_both_ways_out_are_named() -> None:
    first, second = told(Drift(CORES, Origin.BY_HAND, (task("alice@pam", 0),)))
    assert first.startswith("  changed on the VM since the last deploy, probably by alice@pam, 19")
    assert second.endswith("accept: deployment.proxmox.cpu.cores = 4;") and "undo: " in second
    assert told(Drift(CORES, Origin.BY_HAND))[0].endswith("PVE keeps no task of a change that it makes at once")
    several = told(Drift(CORES, Origin.BY_HAND, (task("alice@pam", 0), task("bob@pam", 60))))[0]
    assert "probably one of: alice@pam" in several and "bob@pam" in several
    assert "the description changed" in told(Drift(CORES, Origin.DESCRIPTION))[0]


@pytest.mark.parametrize("option", ["cpu.cores", "cpu"])
def test_where_the_description_says_it_is_named(option: str) -> None:
    drift = Drift(CORES, Origin.BY_HAND)
    one = Checked("web", Phase.READY, changes=(CORES,), drift=(drift,), places={option: "web.nix:4", "cp": "x.nix:1"})
    assert check_remarks(one)[2].endswith("accept: web.nix:4: deployment.proxmox.cpu.cores = 4;")
    assert check_json(one)["drift"][0]["described in"] == "web.nix:4"


def test_a_strange_user_name_does_not_reach_the_terminal() -> None:
    assert "\x1b" not in "".join(told(Drift(CORES, Origin.BY_HAND, (task("\x1b[2Jmallory", 0),))))


@pytest.mark.parametrize(
    ("key", "have", "line"),
    [
        ("memory", "4096", 'deployment.proxmox.memory = "4096M";'),
        ("onboot", "1", "deployment.proxmox.onboot = true;"),
        ("protection", "", "deployment.proxmox.protection = false;"),
        ("cpu", "host", 'deployment.proxmox.cpu.type = "host";'),
        ("cpu", 'x"; evil = "', ""),
        ("cores", "4; evil", ""),
        ("net0", "virtio=AA,bridge=vmbr1", ""),
    ],
)
def test_the_line_of_nix_that_accepts_it_is_one_that_nix_takes(key: str, have: str, line: str) -> None:
    assert accepting_line(Change(key, have, "x")) == line


def test_programs_read_who_it_was() -> None:
    drift = Drift(CORES, Origin.BY_HAND, (task("alice@pam", 7),))
    found = check_json(Checked("web", Phase.READY, changes=(CORES,), drift=(drift,)))["drift"]
    assert found == [
        {
            "key": "cores",
            "origin": "by hand",
            "tasks": [{"upid": "U7", "user": "alice@pam", "started": 7}],
            "accept": "deployment.proxmox.cpu.cores = 4;",
            "described in": None,
        }
    ]


def test_prometheus_reads_the_results() -> None:
    checked = [
        Checked("web", Phase.READY, exists=True, running=True, reachable=True, system_ok=True),
        Checked("db", Phase.READY, exists=True, running=True, reachable=False, changes=(CORES,)),
    ]
    text = metrics(checked, 'sh"op', 1000.4)
    lines = text.splitlines()
    assert 'nixops_proxmox_check_seconds{deployment="sh\\"op"} 1000' in lines
    assert 'nixops_proxmox_machine_ok{deployment="sh\\"op",machine="web"} 1' in lines
    assert 'nixops_proxmox_machine_ok{deployment="sh\\"op",machine="db"} 0' in lines
    assert 'nixops_proxmox_machine_changes{deployment="sh\\"op",machine="db"} 1' in lines
    assert not [line for line in lines if "system_ok" in line and '"db"' in line], "what is unknown is left out"
    assert text.endswith("\n") and len([line for line in lines if line.startswith("# TYPE")]) == 6
