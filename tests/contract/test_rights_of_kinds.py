"""What `doctor` says that a kind needs is enough to make, change and remove a thing of it, and each of it is needed."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from nixops_proxmox.core.engine import pursue
from nixops_proxmox.core.kind import Known, Presence, Thing
from nixops_proxmox.errors import DeployError, PermissionDenied
from nixops_proxmox.kinds.registry import find_kinds
from nixops_proxmox.kinds.resource import Setting
from nixops_proxmox.model import Phase
from nixops_proxmox.options import Silent
from nixops_proxmox.pve.api.versions import parse_release
from nixops_proxmox.pve.cluster.permissions import Need
from nixops_proxmox.spec import NetworkSpec
from nixops_proxmox.spec.ha import HaRuleSpec, HaSpec
from nixops_proxmox.spec.mapping import MappingEntry, MappingSpec
from nixops_proxmox.spec.pool import PoolSpec
from nixops_proxmox.spec.resource import ResourceSpec
from tests.contract.clerk import Clerk
from tests.contract.client_bench import Bench, start_bench
from tests.kinds.record import Record

GPU = MappingEntry(node="pve1", path="0000:01:00.0", id="10de:1b80")
SPECS: tuple[ResourceSpec, ...] = (
    PoolSpec(name="front"),
    MappingSpec(name="gpu", type="pci", entries=(GPU,)),
    HaSpec(name="web"),
    HaRuleSpec(name="near", machines=("web",), nodes={"pve2": 2}),
)


@pytest.fixture(scope="module", params=["8.4", "9.1"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with start_bench(request.param) as made:
        yield made


def needs_of(spec: ResourceSpec, bench: Bench) -> list[Need]:
    described = find_kinds()[spec.kind].described
    assert described is not None
    found = list(described.needs(spec, parse_release(bench.lab.cluster.release.version)))
    return [*found, *([] if isinstance(spec, PoolSpec) else SEES)]


SEES = (Need(("/vms",), ("VM.Audit",), "as the machine", must=False),)


def granted(needed: Sequence[Need]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for need in needed:
        found.setdefault(need.paths[0], []).extend(need.privileges)
    return found


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: str(spec.kind))
def test_each_right_is_needed_and_all_of_them_are_enough(bench: Bench, spec: ResourceSpec) -> None:
    bench.empty()
    made = bench.created()
    machine = made.moved(Phase.READY, replace(made.facts, profile="default"))
    if isinstance(spec, HaRuleSpec):
        run(HaSpec(name="web"), machine, bench, bench.another(username="root@pam", password=bench.lab.root_password))
    needed = needs_of(spec, bench)
    for number, lacking in enumerate(one for one in needed if one.must):
        clerk = Clerk(bench, granted([one for one in needed if one is not lacking]), name=f"{spec.kind}{number}@pve")
        with pytest.raises(DeployError) as refused:
            run(spec, machine, bench, clerk.hypervisor)
        assert isinstance(refused.value, PermissionDenied), (lacking, refused.value)
    clerk = Clerk(bench, granted(needed), name=f"{spec.kind}-all@pve")
    record = run(spec, machine, bench, clerk.hypervisor)
    phases = [record.thing.phase]
    run(spec, machine, bench, clerk.hypervisor, record, Presence.ABSENT)
    assert [*phases, record.thing.phase] == [Presence.PRESENT, Presence.ABSENT]


def run(
    spec: ResourceSpec,
    machine: Any,
    bench: Bench,
    hypervisor: Any,
    record: Any = None,
    goal: Presence = Presence.PRESENT,
) -> Any:
    entry = find_kinds()[spec.kind]
    assert entry.described is not None
    network = NetworkSpec(name="demo", resources=SPECS)
    setting = Setting("demo", network, lambda: [machine], lambda _: hypervisor, bench, Silent())
    record = record or Record(Thing(spec.kind, "demo", spec.name), Known.from_json)
    pursue(entry.lifecycle, goal, record.thing, entry.described.world(spec, setting), record)
    return record
