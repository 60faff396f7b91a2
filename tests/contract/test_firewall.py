"""The firewall's kinds, by the real client against the lab: made, followed, put right, removed; others' rules stay."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from nixops_proxmox.core.engine import pursue
from nixops_proxmox.core.kind import Known, Presence, Thing
from nixops_proxmox.errors import DeployError, PermissionDenied, StateError
from nixops_proxmox.kinds.firewall.cluster import needs as cluster_needs
from nixops_proxmox.kinds.firewall.names import needs as firewall_needs
from nixops_proxmox.kinds.registry import find_kinds
from nixops_proxmox.kinds.resource import ResourceWorld, Setting
from nixops_proxmox.lab.testing import start_lab
from nixops_proxmox.model import Address, Machine, Phase, Reach
from nixops_proxmox.options import Silent
from nixops_proxmox.pve.api.versions import Release
from nixops_proxmox.pve.cluster.permissions import Need
from nixops_proxmox.spec import NetworkSpec
from nixops_proxmox.spec.firewall import AddressAlias, ClusterFirewall, IpSet, MachineFirewall, SecurityGroup
from nixops_proxmox.spec.marks import mark_of
from nixops_proxmox.spec.resource import ResourceSpec
from tests.contract.clerk import Clerk
from tests.contract.client_bench import MAC, Bench
from tests.kinds.record import Record

FIREWALL = "/cluster/firewall"
ADMINS = IpSet(name="admins", set="our-admins", addresses=("192.0.2.0/24", "!192.0.2.9", "machine:web"))
OFFICE = AddressAlias(name="office", address="198.51.100.0/24", comment="upstairs")
WEBS = SecurityGroup.model_validate(
    {"name": "webs", "rules": [{"macro": "https"}, {"proto": "tcp", "port": "8080:8090"}]}
)
RULES: list[dict[str, Any]] = [
    {"macro": "ssh", "sources": ("set:admins", "alias:office", "203.0.113.7")},
    {"group": "webs", "nic": "net0"},
    {"proto": "icmp", "icmp_type": "echo-request", "log": "info", "comment": "who is there"},
    {"direction": "out", "action": "REJECT", "to": ("10.0.0.0/8", "fd00::/8"), "enable": False},
]
GUARD = MachineFirewall.model_validate({"name": "web", "rules": RULES, "ip_sets": {"ipfilter-net0": ("machine:web",)}})
OUTER = ClusterFirewall.model_validate(
    {
        "name": "outer",
        "enable": True,
        "policy_out": "REJECT",
        "rules": [{"group": "webs"}, {"proto": "tcp", "port": "8006", "sources": ("set:admins",)}],
    }
)
BARE = ClusterFirewall(name="outer", policy_out="REJECT")
ALL: tuple[ResourceSpec, ...] = (ADMINS, OFFICE, WEBS, GUARD, OUTER)


class Cluster:
    """One machine and its firewall on a lab."""

    def __init__(self, bench: Bench) -> None:
        self.bench, made, self.hypervisor = bench, bench.created(), bench.hypervisor
        seen = Address(ip_address("10.0.0.5"), Reach.PRIVATE, "eth0", MAC)
        self.machine = made.moved(Phase.READY, replace(made.facts, addresses=(seen,)))
        self.records: dict[str, Record[Thing]] = {}
        self.vm = f"/nodes/{made.facts.node}/qemu/{made.facts.vmid}/firewall"

    def ask(self, method: Any, path: str, **values: Any) -> Any:
        return self.bench.hypervisor.client._ask(method, path, {key.replace("_", "-"): v for key, v in values.items()})

    def world(self, spec: ResourceSpec) -> Any:
        def machines() -> list[Machine]:
            return [self.machine]

        hypervisor = self.hypervisor
        setting = Setting("demo", NetworkSpec(name="demo", resources=ALL), machines, lambda _: None, self, Silent())
        mark, store = mark_of("demo", spec.name), hypervisor.firewall_store
        return ResourceWorld(spec, mark, store, self, Silent(), hypervisor.wait_for_task, setting)

    def run(self, spec: ResourceSpec, goal: Presence = Presence.PRESENT) -> Thing:
        key = f"{spec.kind} {spec.name}"
        record = self.records.setdefault(key, Record(Thing(spec.kind, "demo", spec.name), Known.from_json))
        thing: Thing = pursue(find_kinds()[spec.kind].lifecycle, goal, record.thing, self.world(spec), record)
        return thing

    def now(self) -> float:
        return self.bench.now()

    def sleep(self, seconds: float) -> None:
        self.bench.sleep(seconds)

    def outer(self) -> dict[str, Any]:
        """The options of the cluster's firewall."""
        return {key: value for key, value in self.ask("GET", f"{FIREWALL}/options").items() if key != "digest"}

    def rules(self) -> list[str]:
        said = ("type", "action", "macro", "source", "dest")
        return [" ".join(str(rule[key]) for key in said if key in rule) for rule in self.ask("GET", f"{self.vm}/rules")]


@pytest.fixture(params=["7.4", "8.4", "9.1"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with start_lab(version=request.param) as lab:
        bench = Bench(lab)
        yield Cluster(bench)
        for client in bench.made:
            client.close()


def test_a_firewall_is_made_put_right_and_removed(cluster: Cluster) -> None:
    cluster.ask("POST", f"{cluster.vm}/rules", type="in", action="DROP", comment="theirs", enable=1)
    for spec in ALL:
        assert cluster.run(spec).phase is Presence.PRESENT
    expected = ["in ACCEPT SSH 203.0.113.7", "in ACCEPT SSH +our-admins", "in ACCEPT SSH office", "group webs",
                "in ACCEPT", "out REJECT 10.0.0.0/8", "out REJECT fd00::/8", "in DROP"]  # fmt: skip
    assert cluster.rules() == expected
    assert [rule["enable"] for rule in cluster.ask("GET", f"{cluster.vm}/rules")] == [1, 1, 1, 1, 1, 0, 0, 1]
    options = cluster.ask("GET", f"{cluster.vm}/options")
    assert options["enable"] == 1
    members = {one["cidr"]: one.get("nomatch", 0) for one in cluster.ask("GET", f"{FIREWALL}/ipset/our-admins")}
    assert members == {"192.0.2.0/24": 0, "192.0.2.9": 1, "10.0.0.5": 0}
    assert [one["cidr"] for one in cluster.ask("GET", f"{cluster.vm}/ipset/ipfilter-net0")] == ["10.0.0.5"]

    assert [one["action"] for one in cluster.ask("GET", f"{FIREWALL}/rules")] == ["webs", "ACCEPT"]
    assert cluster.outer() == {"enable": 1, "policy_out": "REJECT"}

    cluster.bench.calls()
    for spec in ALL:
        cluster.run(spec)
    assert not [name for name in cluster.bench.calls() if not name.startswith("GET")], "a second run only looks"

    cluster.ask("PUT", f"{cluster.vm}/rules/0", moveto=8)
    cluster.ask("DELETE", f"{cluster.vm}/rules/1")
    cluster.ask(
        "PUT", f"{FIREWALL}/aliases/office", cidr="198.51.100.7", comment=f"upstairs {mark_of('demo', 'office')}"
    )
    for spec in ALL:
        cluster.run(spec)
    assert [rule for rule in cluster.rules() if rule != "in DROP"] == expected[:-1]
    assert cluster.ask("GET", f"{FIREWALL}/aliases/office")["cidr"] == "198.51.100.0/24"

    with pytest.raises(
        StateError, match=r"cannot delete the IP set our-admins: it is named by the cluster's rules, VM \d+"
    ):
        cluster.run(ADMINS, Presence.ABSENT)
    with pytest.raises(
        StateError, match="cannot delete the security group webs: it is named by the cluster's rules, VM"
    ):
        cluster.run(WEBS, Presence.ABSENT)
    for spec in reversed(ALL):
        assert cluster.run(spec, Presence.ABSENT).phase is Presence.ABSENT
    assert cluster.rules() == ["in DROP"]
    assert "enable" not in cluster.ask("GET", f"{cluster.vm}/options")
    assert [cluster.ask("GET", f"{FIREWALL}/{name}") for name in ("ipset", "aliases", "groups", "rules")] == [[]] * 4
    assert cluster.outer() == {}


def test_a_change_at_the_same_moment_is_looked_at_again(cluster: Cluster) -> None:
    cluster.run(WEBS)
    rules = f"{FIREWALL}/groups/webs"
    cluster.ask("PUT", f"{rules}/0", action="DROP")
    text = "detected modified configuration - file changed by other user? Try again."
    cluster.bench.fault("refuse", "PUT", f"{rules}/0", text=text)
    assert cluster.run(WEBS).phase is Presence.PRESENT
    assert cluster.ask("GET", rules)[0]["action"] == "ACCEPT"


def rights_of(spec: ResourceSpec, release: Release) -> list[Need]:
    """What a machine's firewall needs: what the machine itself does, on its VM."""
    vm = [Need(("/vms",), (name,), "as the machine") for name in ("VM.Audit", "VM.Config.Network")]
    if isinstance(spec, ClusterFirewall):
        return list(cluster_needs(spec, release))
    return list(firewall_needs(spec, release)) if isinstance(spec, IpSet | AddressAlias | SecurityGroup) else vm


@pytest.mark.parametrize(
    "spec", [ADMINS, OFFICE, WEBS, MachineFirewall(name="web"), BARE], ids=lambda spec: str(spec.kind)
)
def test_the_rights_that_the_doctor_asks_for_are_enough_and_each_is_needed(spec: ResourceSpec) -> None:
    with start_lab(version="8.4") as lab:
        bench = Bench(lab)
        cluster = Cluster(bench)
        needed = rights_of(spec, Release(8, 4))
        for number, lacking in enumerate([*needed, None]):
            granted: dict[str, list[str]] = {}
            for need in needed:
                if need != lacking:
                    granted.setdefault(need.paths[0], []).extend(need.privileges)
            cluster.records.clear()
            cluster.hypervisor = Clerk(bench, granted, name=f"clerk{number}@pve").hypervisor
            if lacking is None:
                assert cluster.run(spec).phase is Presence.PRESENT
                assert cluster.run(spec, Presence.ABSENT).phase is Presence.ABSENT
            else:
                with pytest.raises(DeployError) as refused:
                    cluster.run(spec)
                assert isinstance(refused.value, PermissionDenied) or lacking.privileges == ("VM.Audit",), lacking
        for client in bench.made:
            client.close()
