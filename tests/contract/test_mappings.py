"""Resource mappings by the real client against the lab: made, put right, removed, and what a machine wants of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nixops_proxmox.core.graph import Ref
from nixops_proxmox.core.kind import Presence
from nixops_proxmox.spec.mapping import MappingEntry, MappingSpec
from tests.contract.client_bench import Bench, bare, start_bench
from tests.contract.machines import Deployment

GPU = MappingSpec(
    name="gpu",
    type="pci",
    entries=(
        MappingEntry(node="pve1", path="0000:01:00.0", id="10de:1b80", iommu_group=3),
        MappingEntry(node="pve2", path="0000:02:00.0;0000:02:00.1", id="10de:1b80"),
    ),
)
KEY = MappingSpec(name="key", type="usb", entries=(MappingEntry(node="pve1", id="1050:0407"),), comment="a key")
SHARE = MappingSpec(name="share", type="dir", entries=(MappingEntry(node="pve1", path="/srv/share"),))
REFS = [Ref("mapping", name) for name in ("gpu", "key", "share")]


@pytest.fixture(scope="module", params=["8.4", "9.1"])
def lab(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with start_bench(request.param) as made:
        yield made


def test_mappings_are_made_drift_and_are_removed(lab: Bench, tmp_path: Path) -> None:
    made = Deployment(lab, tmp_path)
    hypervisor = lab.another(username="root@pam", password=lab.lab.root_password)
    made.by_hand("POST", "/cluster/mapping/pci", id="theirs", map=["node=pve3,path=0000:05:00.0,id=10de:1b80"])
    with made.opened(bare(name="web"), beside=(GPU, KEY, SHARE)) as deployed:
        with deployed.record.lease() as lease:
            deployed._keep(lease)
            for ref in REFS:
                deployed.resources.ensure(ref)
        assert [one.phase for one in deployed.list_resources()] == [Presence.PRESENT] * 3
        assert dict(hypervisor.client.list_mappings("pci"))["gpu"] == {"pve1", "pve2"}
        mark = "nixops-proxmox:demo/gpu"
        made.by_hand(
            "PUT", "/cluster/mapping/pci/gpu", map=["node=pve1,path=0000:09:00.0,id=10de:1b80"], description=mark
        )
        told = [line for one in deployed.list_resources() for line in one.differences]
        assert len(told) == 3 and told[-1].startswith("entry ") and told[-1].endswith("not described")
        with deployed.record.lease() as lease:
            deployed._keep(lease)
            deployed.resources.ensure(REFS[0])
        assert [one.phase for one in deployed.list_resources()] == [Presence.PRESENT] * 3
        assert [one.error for one in deployed.remove_resources(REFS)] == [None] * 3
    assert [*lab.lab.cluster.mappings] == [("pci", "theirs")]


def test_a_machine_that_names_one_waits_for_it() -> None:
    web = bare(name="web", extra={"hostpci0": "mapping=gpu,pcie=1"})
    shares = bare(name="db", extra={"virtiofs0": "share,cache=auto"})
    assert [one.name for one in (GPU, KEY, SHARE) if one.is_wanted_by(web)] == ["gpu"]
    assert [one.name for one in (GPU, KEY, SHARE) if one.is_wanted_by(shares)] == ["share"]
