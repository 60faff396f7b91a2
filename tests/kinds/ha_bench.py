"""HA of a cluster in memory, and the benches of its two kinds."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from nixops_proxmox.core.engine import pursue
from nixops_proxmox.core.kind import Known, Presence, Thing
from nixops_proxmox.kinds.ha import resource, rule
from nixops_proxmox.kinds.resource import ResourceWorld, Setting
from nixops_proxmox.model import Facts, Machine, Phase
from nixops_proxmox.options import Silent
from nixops_proxmox.pve.api.ha import HaRuleSeen
from nixops_proxmox.spec import NetworkSpec
from nixops_proxmox.spec.ha import HaRuleSpec, HaSpec
from nixops_proxmox.spec.marks import mark_of
from tests.clocks import SteppedClock
from tests.kinds.machine.cluster import Fuse
from tests.kinds.record import Record

THEIRS = HaRuleSeen(frozenset({"vm:900"}), {"pve1": 0}, strict=False, affinity="", enabled=True, comment="not ours")


class Ha:
    """As one process changes it. `rules`: since 9.0."""

    def __init__(self, fuse: Fuse, *, rules: bool = True) -> None:
        self.services: dict[str, dict[str, str]] = {"vm:900": {"comment": "not ours"}}
        self.rules: dict[str, HaRuleSeen] = {"theirs": THEIRS}
        self.fuse, self.with_rules, self.nodes = fuse, rules, 3

    def has_rules(self) -> bool:
        return self.with_rules

    def count_nodes(self) -> int:
        return self.nodes

    def resources(self) -> Mapping[str, Mapping[str, str]]:
        return dict(self.services)

    def add(self, sid: str, settings: Mapping[str, str], /) -> None:
        self.fuse.boundary()
        assert sid not in self.services, "PVE would refuse a second one"
        self.services[sid] = dict(settings)
        self.fuse.boundary()

    def change(self, sid: str, settings: Mapping[str, str], /) -> None:
        self.fuse.boundary()
        self.services[sid] |= settings
        self.fuse.boundary()

    def remove(self, sid: str, /) -> None:
        self.fuse.boundary()
        self.services.pop(sid, None)
        self.fuse.boundary()

    def find_rule(self, name: str, /) -> HaRuleSeen | None:
        return self.rules.get(name)

    def put_rule(self, name: str, wanted: HaRuleSeen, have: HaRuleSeen | None, /) -> None:
        self.fuse.boundary()
        assert (name in self.rules) == (have is not None), "PVE would refuse it"
        self.rules[name] = wanted
        self.fuse.boundary()

    def remove_rule(self, name: str, members: Sequence[str], /) -> None:
        self.fuse.boundary()
        self.rules.pop(name, None)
        self.fuse.boundary()


class _Bench:
    def __init__(self, kind: str, name: str) -> None:
        self.ha = Ha(Fuse())
        self.vmids = {"web": 100, "db": 101}
        self.containers: set[str] = set()
        self.record = Record(Thing(kind, "demo", name), Known.from_json)

    def world(self, fuse: Fuse, spec: Any, described: NetworkSpec | None = None) -> Any:
        self.record.fuse = self.ha.fuse = fuse
        clock, reporter = SteppedClock(), Silent()
        machines = [
            Machine("demo", name, Phase.READY, Facts(uuid=name, vmid=vmid, container=name in self.containers))
            for name, vmid in self.vmids.items()
        ]
        setting = Setting("demo", described, lambda: machines, lambda _profile: None, clock, reporter)
        mark = mark_of("demo", spec.name)
        return ResourceWorld(spec, mark, self.ha, clock, reporter, lambda _upid: None, setting)


class HaBench(_Bench):
    made_again: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__("ha", "web")

    def run(self, fuse: Fuse, *, wanted: bool, **spec: Any) -> Thing:
        world = self.world(fuse, HaSpec(name="web", **spec))
        goal = Presence.PRESENT if wanted else Presence.ABSENT
        return pursue(resource.LIFECYCLE, goal, self.record.thing, world, self.record)

    def check(self, *, wanted: bool) -> None:
        assert self.ha.services.pop("vm:900") == {"comment": "not ours"}
        assert list(self.ha.services) == (["vm:100"] if wanted else [])


class HaRuleBench(_Bench):
    made_again: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__("ha-rule", "apart")

    def run(self, fuse: Fuse, *, wanted: bool, described: NetworkSpec | None = None, **spec: Any) -> Thing:
        given = {"name": "apart", "machines": ("web", "db"), "affinity": "negative", **spec}
        world = self.world(fuse, HaRuleSpec(**given), described)
        goal = Presence.PRESENT if wanted else Presence.ABSENT
        return pursue(rule.LIFECYCLE, goal, self.record.thing, world, self.record)

    def check(self, *, wanted: bool) -> None:
        assert self.ha.rules.pop("theirs") == THEIRS
        assert [sorted(one.members) for one in self.ha.rules.values()] == ([["vm:100", "vm:101"]] if wanted else [])
