"""A machine goes from one hypervisor to another, with its identity; whatever happens, it runs at most once."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.errors import NeedsPermission, OnOtherHypervisor
from nixops_proxmox.model import Phase
from nixops_proxmox.options import Agreed
from nixops_proxmox.pve.wire.calls import CallDone, Trace
from tests.contract.hypervisors import Hypervisors, ends, find_obstacle, start_hypervisors
from tests.contract.kills import Killed, killed_at
from tests.pace import patience

if obstacle := find_obstacle():
    pytest.skip(obstacle, allow_module_level=True)

OTHER = {"mgmt": "tenant", "tenant": "mgmt"}


RELEASES = [  # where it comes from, and where it goes to
    pytest.param(("8.4", "8.4"), id="8.4"),
    *(
        pytest.param(pair, id=" to ".join(pair), marks=pytest.mark.weekly)
        for pair in (("7.4", "7.4"), ("9.1", "9.1"), ("7.4", "9.1"))
    ),
]


@pytest.fixture(scope="module", params=RELEASES)
def labs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hypervisors]:
    nodes = {"mgmt": ("pve1",), "tenant": ("pve1", "pve2")}  # two that are not the same, of one name
    versions = dict(zip(nodes, request.param, strict=True))
    with start_hypervisors(tmp_path_factory.mktemp("labs"), nodes, versions) as made:
        yield made


@pytest.fixture
def two(labs: Hypervisors, tmp_path: Path) -> Hypervisors:
    """A machine on `mgmt`, and a cluster `tenant`, empty."""
    two = labs.emptied(tmp_path)
    with two.opened({"web": two.machine("mgmt")}) as opened:
        assert ends(opened.deploy(["web"])) == {"web": ""}
    return two


def move(two: Hypervisors, to: str = "tenant", *, described: str = "", **options: Any) -> str:
    """How it ended; empty: well."""
    changes = options.pop("changes", {})
    with two.opened({"web": two.machine(described or to, **changes)}, **options) as opened:
        return ends(opened.move(["web"], to))["web"]


def killed_after(two: Hypervisors, method: str, path: str, to: str = "tenant") -> None:
    """A move that dies after such a call, whose answer it does not live to see."""

    def die(done: CallDone) -> None:
        if done.call.method == method and done.call.path.endswith(path):
            raise Killed

    with pytest.raises(Killed):
        move(two, to, trace=die)


def by_hand(two: Hypervisors, profile: str, change: Callable[[Any], None]) -> None:
    """Something done to the machine's VM in PVE."""
    (vmid, _) = two.vms(profile)[0]
    vm = two.labs[profile].cluster.vms[vmid]
    two.change(profile, lambda: change(vm))


def test_it_takes_its_identity_along_and_a_deploy_has_nothing_left_to_do(two: Hypervisors) -> None:
    before = two.recorded()
    assert move(two) == ""
    after = two.recorded()
    assert (after.phase, after.facts.profile, after.facts.extra) == (Phase.READY, "tenant", {})
    for what in ("uuid", "vmid", "macs", "host_key", "installed_by", "contents"):
        assert getattr(after.facts, what) == getattr(before.facts, what), what
    assert two.vms("mgmt") == [] and two.vms("tenant") == [(before.facts.vmid, "running")]
    with two.opened({"web": two.machine("tenant")}) as opened:
        (plan,) = opened.plan(["web"])
        assert plan.error is None and plan.moves == () and plan.changes == ()
        assert ends(opened.move(["web"])) == {"web": ""}, "it is there"


def test_a_machine_that_is_described_elsewhere_is_left_where_it_is(two: Hypervisors) -> None:
    with two.opened({"web": two.machine("tenant")}) as opened:
        (plan,) = opened.plan(["web"])
        assert isinstance(plan.error, OnOtherHypervisor) and "on the hypervisor 'mgmt'" in plan.error.message
        (outcome,) = opened.deploy(["web"])
        assert isinstance(outcome.error, OnOtherHypervisor)
        (checked,) = opened.check(["web"])
        assert checked.exists and checked.running
        assert ends(opened.stop(["web"])) == {"web": ""}
    assert two.vms("tenant") == [] and [power for _, power in two.vms("mgmt")] == ["stopped"]
    assert two.recorded().phase is Phase.STOPPED


def test_one_that_stood_still_proves_itself_and_stands_still_again(two: Hypervisors) -> None:
    with two.opened({"web": two.machine("mgmt")}) as opened:
        opened.stop(["web"])
    assert move(two) == ""
    assert [power for _, power in two.vms("tenant")] == ["stopped"] and two.vms("mgmt") == []
    start = f"/qemu/{two.recorded().facts.vmid}/status/start"
    assert len([call for call in two.labs["tenant"].calls if call["path"].endswith(start)]) == 1


BLOCKED: dict[str, tuple[Callable[[Any], None], str]] = {
    "protected": (lambda vm: vm.config.update(protection="1"), "is protected"),
    "left out": (lambda vm: vm.config.update(scsi0=f"{vm.config['scsi0']},backup=0"), "`backup = false`"),
    "detached": (lambda vm: vm.config.update(unused0="local-lvm:vm-9-disk-9"), "would be lost"),
}


@pytest.mark.parametrize("how", BLOCKED)
def test_what_a_backup_would_lose_forbids_it_and_nothing_is_done(two: Hypervisors, how: str) -> None:
    change, why = BLOCKED[how]
    by_hand(two, "mgmt", change)
    since = len(two.labs["mgmt"].calls)
    with two.opened({"web": two.machine("tenant")}) as opened:
        assert any(why in reason for reason in opened.foresee_move("web").blocked)
    assert why in move(two)
    assert [call for call in two.labs["mgmt"].calls[since:] if call["method"] != "GET"] == []
    assert [power for _, power in two.vms("mgmt")] == ["running"] and two.vms("tenant") == []


def test_without_a_storage_that_both_see_it_is_refused_and_by_name_it_is_tried(two: Hypervisors) -> None:
    stores = two.labs["tenant"].cluster.stores.storages
    two.change("tenant", lambda: stores["shared"].settings.update(server="192.0.2.77"))
    assert "no storage takes backups on both sides" in move(two)
    with two.opened({"web": two.machine("tenant")}) as opened:
        found = opened.foresee_move("web", storage="shared")
    assert found.blocked == () and found.storage == "shared"


def test_vmid_bridge_and_storage_may_be_others_there(two: Hypervisors) -> None:
    vmid, cluster = two.recorded().facts.vmid, two.labs["tenant"].cluster
    two.change("tenant", lambda: setattr(cluster.stores.storages["local-lvm"], "disabled", True))
    two.change("tenant", lambda: cluster.claim(vmid, "pve1", lock=""))
    changes = {"network": [{"bridge": "vmbr2", "mac": "bc:24:11:00:00:01"}]}
    changes["disks"] = [{"storage": "shared", "size": "64M"}]
    assert move(two, changes=changes) == ""
    facts = two.recorded().facts
    assert facts.vmid != vmid and two.vms("tenant") == [(facts.vmid, "running")]
    config = cluster.vms[facts.vmid].config
    assert config["scsi0"].startswith("shared:") and "bridge=vmbr2" in config["net0"]


def test_an_old_vm_that_was_started_meanwhile_stops_it_and_the_way_back_is_open(two: Hypervisors) -> None:
    killed_after(two, "POST", "/qemu")
    vmid, _ = two.vms("mgmt")[0]
    old = two.recorded().facts
    two.by_hand("mgmt", "POST", f"/nodes/pve1/qemu/{vmid}/status/start")
    assert "was started since" in move(two, break_lock=True)
    assert [power for _, power in two.vms("tenant")] == ["stopped"]
    assert move(two, "mgmt") == ""
    facts = two.recorded().facts
    assert two.vms("tenant") == [] and two.vms("mgmt") == [(vmid, "running")]
    assert (facts.profile, facts.uuid, facts.extra) == ("mgmt", old.uuid, {})
    assert move(two) == "" and two.vms("mgmt") == []


def test_a_backup_that_is_older_than_the_last_start_is_not_restored(two: Hypervisors) -> None:
    since = len(two.labs["mgmt"].calls)
    killed_after(two, "POST", "/vzdump")
    two.labs["mgmt"].settle()
    vmid, _ = two.vms("mgmt")[0]
    deadline, now = time.monotonic() + patience(10), int(time.time())
    while int(time.time()) == now and time.monotonic() < deadline:
        time.sleep(0.05)  # PVE's times are whole seconds, also in the names of backups
    for what in ("start", "stop"):
        two.by_hand("mgmt", "POST", f"/nodes/pve1/qemu/{vmid}/status/{what}")
    assert move(two, break_lock=True) == ""
    assert len([one for one in two.labs["mgmt"].calls[since:] if one["path"].endswith("/vzdump")]) == 2


def test_nothing_but_the_move_changes_a_machine_on_its_way_and_destroy_ends_both(two: Hypervisors) -> None:
    onboot: list[str] = []
    by_hand(two, "mgmt", lambda vm: vm.config.update(onboot="1"))
    killed_after(two, "POST", "/qemu")
    by_hand(two, "mgmt", lambda vm: onboot.append(vm.config.get("onboot", "0")))
    assert onboot == ["0"], "it would start with its node"
    with two.opened({"web": two.machine("tenant")}, break_lock=True) as opened:
        (outcome,) = opened.deploy(["web"])
        assert isinstance(outcome.error, OnOtherHypervisor) and "VM" in outcome.error.message
        assert ends(opened.destroy(["web"])) == {"web": ""}
    assert two.vms("mgmt") == [] and two.vms("tenant") == []


def test_a_hypervisor_that_is_changed_with_care_is_asked_on_both_sides(two: Hypervisors) -> None:
    two.say("tenant", "confirm = true")
    with two.opened({"web": two.machine("tenant")}) as opened:
        (outcome,) = opened.move(["web"])
        assert isinstance(outcome.error, NeedsPermission) and "changes on tenant" in outcome.error.message
    assert [power for _, power in two.vms("mgmt")] == ["running"]
    assert move(two, agreed=Agreed(confirmed=True)) == ""


def test_a_backup_job_of_it_ends_there_and_begins_here(two: Hypervisors) -> None:
    def job(profile: str) -> dict[str, Any]:
        told = {"profile": profile, "schedule": "02:00", "storage": "shared", "machines": ["web"]}
        return {"resources": {"backupJobs": {"nightly": told}}}

    with two.opened({"web": two.machine("mgmt")}, **job("mgmt")) as opened:
        assert set(ends(opened.deploy(["web"])).values()) == {""}
    with two.opened({"web": two.machine("tenant")}, **job("tenant")) as opened:
        assert set(ends(opened.move(["web"])).values()) == {""}
    assert [len(two.labs[name].cluster.backup_jobs) for name in ("mgmt", "tenant")] == [0, 1]


def watched(two: Hypervisors, trace: Trace) -> Trace:
    """At every call, at most one of the VMs runs."""

    def look(done: CallDone) -> None:
        running = [power for profile in OTHER for _, power in two.vms(profile) if power == "running"]
        assert len(running) <= 1
        trace(done)

    return look


CUT = (
    ("POST", "/status/shutdown"),
    ("POST", "/vzdump"),
    ("POST", "/qemu"),
    ("POST", "/status/start"),
    ("DELETE", "web"),
)


def test_a_move_that_is_killed_where_it_hurts_is_finished_by_the_same_verb(two: Hypervisors) -> None:
    before, here = two.recorded().facts, "mgmt"
    for method, path in CUT:
        there = OTHER[here]
        killed_after(two, method, path.replace("web", f"/qemu/{before.vmid}"), there)
        assert move(two, there, break_lock=True, trace=watched(two, lambda _: None)) == "", path
        after = two.recorded()
        assert (after.phase, after.facts.profile, after.facts.extra) == (Phase.READY, there, {}), path
        assert two.vms(here) == [] and [power for _, power in two.vms(there)] == ["running"], path
        here = there


@pytest.mark.weekly
def test_a_move_that_is_killed_at_any_boundary_is_finished_by_the_same_verb(two: Hypervisors) -> None:
    before, here = two.recorded().facts, "mgmt"
    for number in range(1, 60):
        there = OTHER[here]
        if not killed_at(lambda trace: move(two, there, trace=watched(two, trace)), number):  # noqa: B023
            assert number > 6
            return
        assert move(two, there, break_lock=True, trace=watched(two, lambda _: None)) == "", number
        after = two.recorded()
        assert (after.phase, after.facts.profile, after.facts.extra) == (Phase.READY, there, {}), number
        assert (after.facts.task, dict(after.facts.errand)) == ("", {}), number
        assert (after.facts.uuid, after.facts.host_key) == (before.uuid, before.host_key), number
        assert two.vms(here) == [] and [power for _, power in two.vms(there)] == ["running"], number
        here = there
    raise AssertionError("it never came to its end")
