"""A container goes from one hypervisor to another as a VM does: with its identity and its data, and it runs at most
once."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.model import Phase
from nixops_proxmox.pve.wire.calls import CallDone, Trace, no_trace
from tests.contract.hypervisors import Hypervisors, ends, find_obstacle, start_hypervisors
from tests.contract.kills import Killed, killed_at
from tests.contract.test_containers import container

pytestmark = pytest.mark.skipif(bool(find_obstacle()), reason=find_obstacle())
WEB = ["web"]
OTHER = {"mgmt": "tenant", "tenant": "mgmt"}
MOUNT = {"path": "/data", "storage": "local-lvm", "size": "1G"}


@pytest.fixture(params=[("8.4", "8.4"), pytest.param(("9.1", "7.4"), marks=pytest.mark.weekly)], ids=" to ".join)
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hypervisors]:
    """A container on `mgmt`, whose mount point is in backups, and a cluster `tenant`, empty."""
    versions = dict(zip(OTHER, request.param, strict=True))
    nodes = {"mgmt": ("pve1",), "tenant": ("pve1", "pve2")}
    with start_hypervisors(tmp_path, nodes, versions) as two:
        with two.opened({"web": described(two, "mgmt")}) as opened:
            assert ends(opened.deploy(WEB)) == {"web": ""}
        yield two


def described(two: Hypervisors, profile: str, *, mount: dict[str, Any] = MOUNT | {"backup": True}) -> dict[str, Any]:
    return container(two, container={"mounts": [mount]}, profile=profile)


def move(two: Hypervisors, to: str = "tenant", *, trace: Trace = no_trace, **changes: Any) -> str:
    """How it ended; empty: well."""
    with two.opened({"web": described(two, to, **changes)}, trace=trace, break_lock=True) as opened:
        return ends(opened.move(WEB))["web"]


def there(two: Hypervisors, profile: str) -> list[str]:
    """Whether what is there runs."""
    found = two.labs[profile].cluster.vms.values()
    return ["running" if one.running else "stopped" for one in found if one.config.get("hostname") == "web"]


def by_hand(two: Hypervisors, change: Callable[[dict[str, str]], None]) -> None:
    """Something done to the container on `mgmt` in PVE."""
    (one,) = two.labs["mgmt"].cluster.vms.values()
    two.change("mgmt", lambda: change(one.config))


def note(two: Hypervisors, profile: str, key: str, text: str = "") -> str:
    """A file in one of its volumes: written, or read."""
    (one,) = two.labs[profile].cluster.vms.values()
    stored = two.labs[profile].cluster.stores.get_volume(one.config[key].partition(",")[0], one.node)
    path = Path(stored.path) / "now" / "parts" / "0" / "note"
    if text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return path.read_text() if path.exists() else ""


def test_it_takes_its_identity_and_its_data_along_and_a_deploy_has_nothing_left_to_do(two: Hypervisors) -> None:
    before = two.recorded()
    note(two, "mgmt", "rootfs", "root"), note(two, "mgmt", "mp0", "data")
    with two.opened({"web": described(two, "tenant")}) as opened:
        found = opened.foresee_move("web")
    assert (found.blocked, found.word, found.size) == ((), "container", 9 << 30)
    assert move(two) == ""
    after = two.recorded()
    assert (after.phase, after.facts.profile, after.facts.extra) == (Phase.READY, "tenant", {})
    for what in ("uuid", "vmid", "macs", "host_key", "installed_by", "container"):
        assert getattr(after.facts, what) == getattr(before.facts, what), what
    assert (there(two, "mgmt"), there(two, "tenant")) == ([], ["running"])
    assert (note(two, "tenant", "rootfs"), note(two, "tenant", "mp0")) == ("root", "data")
    with two.opened({"web": described(two, "tenant")}) as opened:
        (plan,) = opened.plan(WEB)
        assert plan.error is None and plan.moves == () and plan.changes == ()


def test_each_volume_lands_where_it_is_described_because_none_is_moved_afterwards(two: Hypervisors) -> None:
    elsewhere = MOUNT | {"backup": True, "storage": "shared"}
    takes(two, "shared", ("backup", "images", "iso", "rootdir"))
    assert move(two, mount=elsewhere) == ""
    (found,) = two.labs["tenant"].cluster.vms.values()
    assert found.config["rootfs"].startswith("local-lvm:") and found.config["mp0"].startswith("shared:")
    with two.opened({"web": described(two, "tenant", mount=elsewhere)}) as opened:
        (plan,) = opened.plan(WEB)
        assert plan.error is None and plan.changes == ()


def takes(two: Hypervisors, storage: str, content: tuple[str, ...]) -> None:
    """What a storage of `tenant` is for."""
    stores = two.labs["tenant"].cluster.stores.storages
    two.change("tenant", lambda: stores.update({storage: replace(stores[storage], content=content)}))


BLOCKED: dict[str, tuple[Callable[[dict[str, str]], None], str]] = {
    "protected": (lambda config: config.update(protection="1"), "container"),
    "in no backup": (lambda config: config.update(mp0=config["mp0"].replace("backup=1", "backup=0")), "mp0 has"),
    "a folder": (lambda config: config.update(mp1="/srv,mp=/srv"), "mp1 is a folder or a device of pve1"),
    "detached": (lambda config: config.update(unused0="local-lvm:vm-9-disk-9"), "would be lost"),
}


def test_what_a_backup_would_lose_forbids_it_and_nothing_is_done(two: Hypervisors) -> None:
    (one,) = two.labs["mgmt"].cluster.vms.values()
    before = dict(one.config)

    def restored(config: dict[str, str]) -> None:
        config.clear()
        config.update(before)

    for change, why in BLOCKED.values():
        by_hand(two, change)
        since = len(two.labs["mgmt"].calls)
        assert why in move(two)
        assert [call for call in two.labs["mgmt"].calls[since:] if call["method"] != "GET"] == []
        by_hand(two, restored)
    assert (there(two, "mgmt"), there(two, "tenant")) == (["running"], [])


def test_a_storage_that_takes_no_containers_there_forbids_it(two: Hypervisors) -> None:
    takes(two, "local-lvm", ("images",))
    assert "its disks are on local-lvm, which tenant lacks" in move(two)


def killed_after(two: Hypervisors, method: str, path: str, to: str) -> None:
    """A move that dies after such a call, whose answer it does not live to see."""

    def die(done: CallDone) -> None:
        if done.call.method == method and done.call.path.endswith(path):
            raise Killed

    with pytest.raises(Killed):
        move(two, to, trace=die)


def test_the_way_back_needs_no_backup(two: Hypervisors) -> None:
    killed_after(two, "POST", "/lxc", "tenant")
    with two.opened({"web": described(two, "tenant")}, break_lock=True) as opened:
        assert ends(opened.move(WEB, "mgmt")) == {"web": ""}
    assert (there(two, "mgmt"), there(two, "tenant")) == (["running"], [])
    assert two.recorded().facts.extra == {}


def watched(two: Hypervisors, trace: Trace) -> Trace:
    """At every call, at most one of the containers runs."""

    def look(done: CallDone) -> None:
        assert sum(there(two, profile).count("running") for profile in OTHER) <= 1
        trace(done)

    return look


CUT = (("POST", "/vzdump"), ("POST", "/lxc"), ("DELETE", ""))


def test_a_move_that_is_killed_where_it_hurts_is_finished_by_the_same_verb(two: Hypervisors) -> None:
    before, here = two.recorded().facts, "mgmt"
    for method, path in CUT:
        to = OTHER[here]
        killed_after(two, method, path or f"/lxc/{before.vmid}", to)
        assert move(two, to, trace=watched(two, no_trace)) == "", path
        arrived(two, to)
        here = to


def arrived(two: Hypervisors, to: str) -> None:
    after = two.recorded()
    assert (after.phase, after.facts.profile, after.facts.extra) == (Phase.READY, to, {})
    assert (after.facts.task, dict(after.facts.errand)) == ("", {})
    assert (there(two, OTHER[to]), there(two, to)) == ([], ["running"])


@pytest.mark.weekly
def test_a_move_that_is_killed_at_any_boundary_is_finished_by_the_same_verb(two: Hypervisors) -> None:
    here = "mgmt"
    for number in range(1, 60):
        to = OTHER[here]
        if not killed_at(lambda trace: move(two, to, trace=watched(two, trace)), number):  # noqa: B023
            assert number > 6
            return
        assert move(two, to, trace=watched(two, no_trace)) == "", number
        arrived(two, to)
        here = to
    raise AssertionError("it never came to its end")
