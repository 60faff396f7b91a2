"""Resources that somebody else made, on the lab: seen before they are ours, taken over with one mark, then ours."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.core.kind import Presence
from nixops_proxmox.errors import ConfigError, DeployError, StateError
from nixops_proxmox.kinds.registry import find_described
from nixops_proxmox.operations import Deployed
from nixops_proxmox.spec.firewall import AddressAlias, IpSet, MachineFirewall, SecurityGroup
from nixops_proxmox.spec.ha import HaRuleSpec, HaSpec
from nixops_proxmox.spec.mapping import MappingEntry, MappingSpec
from nixops_proxmox.spec.pool import PoolSpec
from nixops_proxmox.spec.replication import ReplicationSpec
from nixops_proxmox.spec.resource import ResourceSpec, place_of
from nixops_proxmox.spec.virtual_network import VirtualNetwork
from tests.contract.client_bench import Bench, bare, start_bench
from tests.contract.machines import Deployment

FIREWALL, HAND = "/cluster/firewall", "by hand"
GPU = MappingEntry(node="pve1", path="0000:01:00.0", id="10de:1b80")
SHARED: dict[str, Any] = {"disks": ({"slot": "scsi0", "storage": "shared", "size": 1 << 30},)}
SSH: dict[str, Any] = {"type": "in", "action": "ACCEPT", "macro": "SSH", "enable": 1}
WEB: dict[str, Any] = {"type": "in", "action": "ACCEPT", "proto": "tcp", "dport": "443", "enable": 1}
RULES = ({"macro": "SSH"}, {"proto": "tcp", "port": "443"})
# By kind: what is described, and the calls by which somebody else has made the same. SID, VM and JOB are the machine's.
THINGS: Mapping[str, tuple[ResourceSpec, list[tuple[str, dict[str, Any]]]]] = {
    "pool": (PoolSpec(name="front", comment=HAND), [("/pools", {"poolid": "front", "comment": HAND})]),
    "mapping": (
        MappingSpec(name="gpu", type="pci", entries=(GPU,), comment=HAND),
        [("/cluster/mapping/pci", {"id": "gpu", "map": [GPU.print()], "description": HAND})],
    ),
    "ha": (HaSpec(name="web", comment=HAND), [("/cluster/ha/resources", {"sid": "SID", "comment": HAND})]),
    "ha-rule": (
        HaRuleSpec(name="near", machines=("web",), nodes={"pve2": 2}, comment=HAND),
        [
            ("/cluster/ha/resources", {"sid": "SID"}),
            (
                "/cluster/ha/rules",
                {"rule": "near", "type": "node-affinity", "resources": "SID", "nodes": "pve2:2", "comment": HAND},
            ),
        ],
    ),
    "replication": (
        ReplicationSpec(name="copy", machine="web", target="pve1", comment=HAND),
        [
            ("/storage", {"storage": "tank", "type": "zfspool", "pool": "tank"}),
            ("VM/config", {"scsi1": "tank:1"}),
            ("/cluster/replication", {"id": "JOB", "type": "local", "target": "pve1", "comment": HAND}),
        ],
    ),
    "ip-set": (
        IpSet(name="admins", addresses=("192.0.2.7",), comment=HAND),
        [
            (f"{FIREWALL}/ipset", {"name": "admins", "comment": HAND}),
            (f"{FIREWALL}/ipset/admins", {"cidr": "192.0.2.7"}),
        ],
    ),
    "address-alias": (
        AddressAlias(name="office", address="198.51.100.0/24", comment=HAND),
        [(f"{FIREWALL}/aliases", {"name": "office", "cidr": "198.51.100.0/24", "comment": HAND})],
    ),
    "security-group": (
        SecurityGroup.model_validate({"name": "webs", "rules": RULES, "comment": HAND}),
        [
            (f"{FIREWALL}/groups", {"group": "webs", "comment": HAND}),
            (f"{FIREWALL}/groups/webs", WEB),
            (f"{FIREWALL}/groups/webs", SSH),
        ],
    ),
    "firewall": (
        MachineFirewall.model_validate({"name": "web", "enable": False, "dhcp": False, "rules": RULES[:1]}),
        [("VM/firewall/rules", {**SSH, "action": "DROP"}), ("VM/firewall/rules", SSH)],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def lab() -> Iterator[Bench]:
    with start_bench("9.1") as made:
        yield made


@pytest.fixture
def made(lab: Bench, tmp_path: Path) -> Deployment:
    lab.empty()
    found = Deployment(lab, tmp_path)
    found.make(node="pve2", **SHARED)
    return found


def by_hand(made: Deployment, calls: list[tuple[str, dict[str, Any]]]) -> None:
    facts = made.recorded().facts
    names = {"SID": f"vm:{facts.vmid}", "VM": f"/nodes/{facts.node}/qemu/{facts.vmid}", "JOB": f"{facts.vmid}-0"}
    for path, values in calls:
        made.by_hand(
            "POST", path.replace("VM", names["VM"]), **{key: names.get(str(v), v) for key, v in values.items()}
        )


def phase(deployed: Deployed, spec: ResourceSpec) -> tuple[Presence, tuple[str, ...]]:
    found = next(one for one in deployed.list_resources() if (one.ref.kind, one.ref.name) == (spec.kind, spec.name))
    return found.phase, found.differences


@pytest.mark.parametrize("kind", THINGS)
def test_what_somebody_else_made_is_taken_over_with_one_mark(made: Deployment, kind: str) -> None:
    spec, calls = THINGS[kind]
    by_hand(made, calls)
    place, web = place_of(spec), bare(name="web", **SHARED)
    beside = (spec, HaSpec(name="web")) if kind == "ha-rule" else (spec,)
    with made.opened(web, beside=beside) as deployed:
        assert phase(deployed, spec)[0] is Presence.ABSENT
        ((_, stranger),) = deployed.strange_resources([place])
        assert (stranger.comment, list(stranger.differences)) == ("" if kind == "firewall" else HAND, [])
        assert phase(deployed, spec)[0] is Presence.ABSENT, "looking changed it"
        deployed.adopt_resources([place])
        assert phase(deployed, spec) == (Presence.PRESENT, ())
        with pytest.raises(ConfigError, match="it is ours already"):
            deployed.strange_resources([place])
    if kind != "firewall":  # its marks are in its rules, and another deployment's rules are its own
        other = Deployment(made.bench, made.folder, name="other")
        other.record(made.recorded())
        with (
            other.opened(web, beside=beside) as deployed,
            pytest.raises(ConfigError, match=f"belongs to demo/{spec.name}"),
        ):
            deployed.adopt_resources([place])


def test_what_a_deploy_would_change_is_told_before_and_done_after(made: Deployment) -> None:
    spec, place = PoolSpec(name="front", comment="web servers"), "resources.pools.front"
    by_hand(made, THINGS["pool"][1])
    with made.opened(bare(name="web"), beside=(spec,)) as deployed:
        ((_, stranger),) = deployed.strange_resources([place])
        told = ("comment: 'by hand' becomes 'web servers'",)
        assert tuple(stranger.differences) == told
        assert "it is not ours" in ensure(deployed)
        deployed.adopt_resources([place])
        assert phase(deployed, spec) == (Presence.DIFFERS, told)
        assert ensure(deployed) == ""
        assert phase(deployed, spec) == (Presence.PRESENT, ())


def test_a_run_that_ended_before_the_mark_goes_on(made: Deployment) -> None:
    spec, place = PoolSpec(name="front", comment=HAND), "resources.pools.front"
    by_hand(made, THINGS["pool"][1])
    with made.opened(bare(name="web"), beside=(spec,)) as deployed:
        made.bench.fault("refuse", "PUT", "/pools*", text="not now")
        with pytest.raises(DeployError, match="not now"):
            deployed.adopt_resources([place])
        assert phase(deployed, spec)[0] is Presence.ABSENT and "it is not ours" in ensure(deployed)
        deployed.adopt_resources([place])
        assert phase(deployed, spec) == (Presence.PRESENT, ())


def ensure(deployed: Deployed) -> str:
    """What went wrong."""
    with deployed.record.lease() as lease:
        deployed._keep(lease)
        try:
            for ref in deployed.resources.described():
                deployed.resources.ensure(ref)
        except StateError as error:
            return error.message
    return ""


def test_what_is_not_there_and_what_cannot_be_taken_over_is_told(made: Deployment) -> None:
    beside = (PoolSpec(name="front"), VirtualNetwork(name="lan", bridge="vmbr0"))
    with made.opened(bare(name="web"), beside=beside) as deployed:
        with pytest.raises(ConfigError, match="there is none: a deploy makes it"):
            deployed.strange_resources(["resources.pools.front"])
        with pytest.raises(ConfigError, match="things of the kind network cannot be taken over"):
            deployed.strange_resources(["resources.networks.lan"])
        with pytest.raises(ConfigError, match=r"nothing is described at resources.pools.back"):
            deployed.strange_resources(["resources.pools.back"])


def test_each_kind_with_marks_in_comments_is_tried_here() -> None:
    kinds = {entry.name for entry in find_described().values() if entry.described and entry.described.stranger}
    of_routers = {"routing"}  # tests/kinds/test_routing.py and its twin for OPNsense
    assert kinds == {*THINGS, "cluster-firewall", *of_routers}
