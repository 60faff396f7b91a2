"""A saved plan is carried out as it was shown. A machine that changed in the meantime is left alone, and only that."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from nixops_proxmox.errors import ConfigError, StateError
from nixops_proxmox.model import Phase
from nixops_proxmox.operations import Deployed
from nixops_proxmox.operations.keeping import VolumeShown
from nixops_proxmox.operations.plan_file import Promise, SavedPlan, load_plan, save_plan
from nixops_proxmox.operations.resources import ResourceShown
from nixops_proxmox.pve.wire.calls import CallDone
from nixops_proxmox.spec import VolumeSpec
from nixops_proxmox.spec.pool import PoolSpec
from nixops_proxmox.spec.resource import ResourceSpec
from tests.contract.client_bench import bare, start_bench
from tests.contract.machines import Deployment

FRONT, NIGHTLY = PoolSpec(name="front"), PoolSpec(name="nightly", comment="every night")
SPARE = VolumeSpec(name="spare", storage="local-lvm", size=1 << 30)
SPECS = (bare(name="web", memory=4096), bare(name="db", memory=4096))


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Deployment]:
    with start_bench(nodes=("pve1",)) as bench:
        deployment = Deployment(bench, tmp_path)
        deployment.make("web")
        deployment.make("db")
        yield deployment


def described(deployed: Deployed, *names: str) -> Mapping[str, Mapping[str, str]]:
    return deployed.describe_things(names, [*deployed.list_volumes(), *deployed.list_resources()])


def plan(made: Deployment, *beside: ResourceSpec | VolumeSpec) -> SavedPlan:
    """Saved and read again."""
    path = made.folder / "next.plan"
    with made.opened(*SPECS, beside=beside) as deployed:
        planned = deployed.plan(["web", "db"])
        things = described(deployed, "web", "db")
    assert all(one.error is None and "memory" in [change.key for change in one.changes] for one in planned), planned
    save_plan(path, SavedPlan(made.name, {one.name: Promise.of(one) for one in planned}, things))
    assert path.stat().st_mode & 0o777 == 0o600
    return load_plan(path)


def test_what_was_shown_is_done(made: Deployment) -> None:
    saved = plan(made)
    with made.opened(*SPECS) as deployed:
        outcomes = deployed.deploy(["web", "db"], until=Phase.INSTALLED, promised=saved)
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert made.config(made.recorded("web"))["memory"] == "4096"


def test_a_machine_that_was_changed_by_hand_since_is_left_alone_and_the_other_is_not(made: Deployment) -> None:
    saved = plan(made)
    web = made.recorded("web")
    made.by_hand("PUT", f"/nodes/pve1/qemu/{web.facts.vmid}/config", memory=3072)
    with made.opened(*SPECS) as deployed:
        outcomes = {
            one.name: one.error for one in deployed.deploy(["web", "db"], until=Phase.INSTALLED, promised=saved)
        }
    assert outcomes["db"] is None
    error = outcomes["web"]
    assert isinstance(error, StateError) and "memory was 2048, and is 3072" in error.message
    assert made.config(web)["memory"] == "3072"


def test_so_is_one_that_is_described_in_another_way(made: Deployment) -> None:
    saved = plan(made)
    with made.opened(bare(name="web", memory=8192), SPECS[1]) as deployed:
        (outcome,) = deployed.deploy(["web"], until=Phase.INSTALLED, promised=saved)
    assert outcome.error is not None
    assert "it would have changed memory to 4096, and would change memory to 8192" in outcome.error.message


def test_a_resource_that_changed_since_is_left_alone_and_so_is_one_that_the_plan_does_not_know(
    made: Deployment,
) -> None:
    saved = plan(made, FRONT, NIGHTLY)
    with made.opened(
        *SPECS, beside=(FRONT.model_copy(update={"comment": "web"}), NIGHTLY, PoolSpec(name="later"))
    ) as deployed:
        outcomes = {
            one.name: one.error for one in deployed.deploy(["web", "db"], until=Phase.INSTALLED, promised=saved)
        }
    error = outcomes.pop("front")
    assert isinstance(error, StateError) and "pool front: it has changed since the plan was made" in error.message
    assert outcomes == {"nightly": None, "web": None, "db": None}
    assert [pool["poolid"] for pool in made.pools()] == ["nightly"]


def test_a_volume_that_is_described_in_another_way_since_is_left_alone(made: Deployment) -> None:
    saved = plan(made, SPARE)
    with made.opened(*SPECS, beside=(SPARE.model_copy(update={"size": 2 << 30}),)) as deployed:
        outcomes = {
            one.name: one.error for one in deployed.deploy(["web", "db"], until=Phase.INSTALLED, promised=saved)
        }
        assert not deployed.volumes.volume("spare").facts.volume
    error = outcomes["spare"]
    assert isinstance(error, StateError) and "its description has changed" in error.message
    with made.opened(*SPECS, beside=(SPARE,)) as deployed:
        outcomes = {
            one.name: one.error for one in deployed.deploy(["web", "db"], until=Phase.INSTALLED, promised=saved)
        }
        assert outcomes["spare"] is None and deployed.volumes.volume("spare").facts.volume


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 2, "machines": {"web": {}}}', "\x00"])
def test_what_is_no_plan_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "next.plan"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"next\.plan"):
        load_plan(path)
    with pytest.raises(ConfigError, match="cannot read the plan"):
        load_plan(tmp_path / "none")
    with pytest.raises(ConfigError, match="cannot write the plan"):
        save_plan(tmp_path / "none" / "next.plan", SavedPlan("demo", {}))


def test_a_plan_of_unchanged_machines_asks_the_cluster_once_and_each_vm_once(made: Deployment) -> None:
    with made.opened(*SPECS) as deployed:
        deployed.deploy(["web", "db"], until=Phase.INSTALLED)
    for name in ("web", "db"):
        machine = made.recorded(name)
        made.bench.another().start_vm(machine.facts, made.bench.note)
        made.record(machine.moved(Phase.READY, machine.facts))
    calls: list[CallDone] = []
    with made.opened(*SPECS, trace=calls.append) as deployed:
        assert [plan.effect for plan in deployed.plan(["web", "db"])] == ["nothing"] * 2
    asked = sorted(re.sub(r"\d{3,}", "VM", f"{done.call.method} {done.call.path}") for done in calls)
    assert asked == ["GET /cluster/resources", *["GET /nodes/pve1/qemu/VM/pending"] * 2]


def test_a_plan_of_one_machine_has_the_things_that_it_needs_and_no_others(made: Deployment) -> None:
    web = bare(name="web", memory=4096, pool="front")
    with made.opened(web, SPECS[1], beside=(FRONT, NIGHTLY)) as deployed:
        assert list(described(deployed, "web")) == ["pool 'front'"]
        assert list(described(deployed, "db")) == []
        assert sorted(described(deployed, "web", "db")) == ["pool 'front'", "pool 'nightly'"]


def test_what_is_saved_is_what_was_shown_and_nothing_is_asked_again(made: Deployment) -> None:
    calls: list[CallDone] = []
    with made.opened(*SPECS, beside=(FRONT, SPARE), trace=calls.append) as deployed:
        shown: list[VolumeShown | ResourceShown] = [*deployed.list_volumes(), *deployed.list_resources()]
        before = len(calls)
        assert sorted(deployed.describe_things(["web", "db"], shown)) == ["pool 'front'", "volume 'spare'"]
    assert before and len(calls) == before
