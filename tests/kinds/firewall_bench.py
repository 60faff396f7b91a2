"""A cluster's firewall in memory, as one process changes it; and the worlds of the kinds that live in it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any, ClassVar

from nixops_proxmox.core.engine import pursue
from nixops_proxmox.core.kind import Known, Presence, Thing
from nixops_proxmox.kinds.firewall import cluster, group, machine, names
from nixops_proxmox.kinds.resource import ResourceWorld, Setting
from nixops_proxmox.model import Address, Facts, Machine, Phase, Reach
from nixops_proxmox.options import Silent
from nixops_proxmox.pve.api.firewall import Where, of_cluster, of_group, of_vm
from nixops_proxmox.pve.wire.refusals import ConfigChanged
from nixops_proxmox.spec import NetworkSpec
from nixops_proxmox.spec.firewall import AddressAlias, ClusterFirewall, IpSet, MachineFirewall, SecurityGroup
from nixops_proxmox.spec.marks import mark_of
from nixops_proxmox.spec.resource import ResourceSpec
from tests.clocks import SteppedClock
from tests.kinds.machine.cluster import Fuse
from tests.kinds.record import Record

CLUSTER, WEB = of_cluster(), of_vm("pve1", 100)
THEIRS = {"type": "in", "action": "DROP", "enable": "1", "comment": "not ours"}
MODIFIED = "detected modified configuration - file changed by other user? Try again."


class Firewall:
    """By place. A digest is how often its lists were changed."""

    def __init__(self, fuse: Fuse) -> None:
        self.fuse = fuse
        self.rules_at: dict[str, list[dict[str, str]]] = {}
        self.sets_at: dict[str, dict[str, tuple[str, dict[str, dict[str, str]]]]] = {}
        self.options_at: dict[str, dict[str, str]] = {}
        self.all_aliases: dict[str, dict[str, str]] = {}
        self.all_groups: dict[str, str] = {}
        self.version = 0
        self.meddle: list[Callable[[], None]] = []  # what others do between a look of ours and the write that follows
        self.users: list[str] = []

    @contextmanager
    def _writing(self, digest: str = "") -> Iterator[None]:
        self.fuse.boundary()
        if self.meddle:
            self.meddle.pop(0)()
            self.version += 1
        if digest and digest != str(self.version):
            raise ConfigChanged(MODIFIED)
        yield
        self.version += 1
        self.fuse.boundary()

    def find_vm(self, facts: Facts, /) -> Where | None:
        return of_vm("pve1", facts.vmid) if facts.vmid else None

    def options(self, spot: Where, /) -> Mapping[str, Any]:
        return {**self.options_at.get(_key(spot), {}), "digest": str(self.version)}

    def set_options(self, spot: Where, values: Mapping[str, str], gone: Sequence[str], digest: str, /) -> None:
        with self._writing(digest):
            kept = {**self.options_at.get(_key(spot), {}), **values}
            self.options_at[_key(spot)] = {key: value for key, value in kept.items() if key not in gone}

    def rules(self, spot: Where, /) -> Sequence[Mapping[str, Any]]:
        return [{**one, "pos": n, "digest": str(self.version)} for n, one in enumerate(self._rules(spot))]

    def _rules(self, spot: Where) -> list[dict[str, str]]:
        return self.rules_at.setdefault(_key(spot), [])

    def add_rule(self, spot: Where, rule: Mapping[str, str], /) -> None:
        with self._writing():
            self._rules(spot).insert(0, dict(rule))

    def change_rule(
        self, spot: Where, place: int, values: Mapping[str, str], gone: Sequence[str], digest: str, /
    ) -> None:
        with self._writing(digest):
            kept = {**self._rules(spot)[place], **values}
            self._rules(spot)[place] = {key: value for key, value in kept.items() if key not in gone}

    def move_rule(self, spot: Where, place: int, before: int, digest: str, /) -> None:
        with self._writing(digest):
            rule = self._rules(spot).pop(place)
            self._rules(spot).insert(before - 1 if before > place else before, rule)

    def delete_rule(self, spot: Where, place: int, digest: str, /) -> None:
        with self._writing(digest):
            del self._rules(spot)[place]

    def groups(self) -> Mapping[str, str]:
        return dict(self.all_groups)

    def add_group(self, name: str, comment: str, /) -> None:
        with self._writing():
            assert name not in self.all_groups, "PVE would refuse a second one"
            self.all_groups[name] = comment

    def set_group_comment(self, name: str, comment: str, /) -> None:
        with self._writing():
            self.all_groups[name] = comment

    def delete_group(self, name: str, /) -> None:
        with self._writing():
            assert not self._rules(of_group(name)), "PVE would refuse one that is not empty"
            self.all_groups.pop(name, None)

    def _sets(self, spot: Where) -> dict[str, tuple[str, dict[str, dict[str, str]]]]:
        return self.sets_at.setdefault(_key(spot), {})

    def sets(self, spot: Where, /) -> Mapping[str, str]:
        return {name: comment for name, (comment, _) in self._sets(spot).items()}

    def members(self, spot: Where, name: str, /) -> Sequence[Mapping[str, Any]]:
        return [{**one, "digest": str(self.version)} for one in self._sets(spot)[name][1].values()]

    def add_set(self, spot: Where, name: str, comment: str, /) -> None:
        with self._writing():
            assert name not in self._sets(spot), "PVE would refuse a second one"
            self._sets(spot)[name] = (comment, {})

    def set_set_comment(self, spot: Where, name: str, comment: str, /) -> None:
        with self._writing():
            self._sets(spot)[name] = (comment, self._sets(spot)[name][1])

    def delete_set(self, spot: Where, name: str, /) -> None:
        with self._writing():
            assert not self._sets(spot)[name][1], "PVE would refuse one that is not empty"
            del self._sets(spot)[name]

    def add_member(self, spot: Where, name: str, member: Mapping[str, str], /) -> None:
        with self._writing():
            assert member["cidr"] not in self._sets(spot)[name][1], "PVE would refuse a second one"
            self._sets(spot)[name][1][member["cidr"]] = dict(member)

    def change_member(self, spot: Where, name: str, member: Mapping[str, str], digest: str, /) -> None:
        with self._writing(digest):
            self._sets(spot)[name][1][member["cidr"]] = dict(member)

    def delete_member(self, spot: Where, name: str, cidr: str, digest: str, /) -> None:
        with self._writing(digest):
            self._sets(spot)[name][1].pop(cidr, None)

    def aliases(self) -> Mapping[str, Mapping[str, Any]]:
        return {name: {**one, "digest": str(self.version)} for name, one in self.all_aliases.items()}

    def add_alias(self, alias: Mapping[str, str], /) -> None:
        with self._writing():
            assert alias["name"].lower() not in self.all_aliases, "PVE would refuse a second one"
            self.all_aliases[alias["name"].lower()] = dict(alias)

    def change_alias(self, alias: Mapping[str, str], digest: str, /) -> None:
        with self._writing(digest):
            self.all_aliases[alias["name"].lower()] = dict(alias)

    def delete_alias(self, name: str, digest: str, /) -> None:
        with self._writing(digest):
            self.all_aliases.pop(name.lower(), None)

    def users_of(self, word: str, /) -> Sequence[str]:
        del word
        return self.users


def _key(spot: Where) -> str:
    return spot.rules.format(**spot.values)


def machine_at(name: str, vmid: int, *addresses: str) -> Machine:
    mac = f"02:00:00:00:00:{vmid % 100:02x}"
    seen = tuple(Address(ip_address(one), Reach.PRIVATE, "eth0", mac) for one in addresses)
    return Machine("demo", name, Phase.READY, Facts(uuid=name, vmid=vmid, macs=(mac,), addresses=seen))


class FirewallBench:
    """One thing of `kind`, which is described by `spec`."""

    made_again: ClassVar[bool] = True
    lifecycle: ClassVar[Any] = None

    def __init__(self, spec: ResourceSpec) -> None:
        self.firewall = Firewall(Fuse())
        self.machines = [machine_at("web", 100, "10.0.0.5"), machine_at("db", 101, "10.0.0.7", "fd00::7", "fe80::7")]
        self.record = Record(Thing(spec.kind, "demo", spec.name), Known.from_json)
        self.spec = spec
        self.described: tuple[ResourceSpec, ...] = ()

    @property
    def mark(self) -> str:
        return mark_of("demo", self.spec.name)

    def world(self) -> Any:
        network = NetworkSpec(name="demo", resources=self.described)
        setting = Setting("demo", network, lambda: self.machines, lambda _: None, SteppedClock(), Silent())
        return ResourceWorld(self.spec, self.mark, self.firewall, SteppedClock(), Silent(), lambda _upid: None, setting)

    def run(self, fuse: Fuse, *, wanted: bool) -> Thing:
        self.record.fuse = self.firewall.fuse = fuse
        goal = Presence.PRESENT if wanted else Presence.ABSENT
        thing: Thing = pursue(self.lifecycle, goal, self.record.thing, self.world(), self.record)
        return thing

    def differences(self) -> tuple[str, ...]:
        _, shown = self.lifecycle.look_closely(self.world(), self.record.thing)
        return () if shown is None else tuple(shown.differences)


class IpSetBench(FirewallBench):
    lifecycle = names.SETS

    def __init__(self, spec: IpSet | None = None) -> None:
        super().__init__(spec or IpSet(name="admins", addresses=("192.0.2.0/24", "machine:db", "!192.0.2.9")))
        self.firewall.sets_at[_key(CLUSTER)] = {"theirs": ("", {})}

    def check(self, *, wanted: bool) -> None:
        sets = dict(self.firewall.sets_at[_key(CLUSTER)])
        assert sets.pop("theirs") == ("", {})
        found = {name: sorted(members) for name, (_, members) in sets.items()}
        assert found == ({"admins": ["10.0.0.7", "192.0.2.0/24", "192.0.2.9", "fd00::7"]} if wanted else {})


class AliasBench(FirewallBench):
    lifecycle = names.ALIASES

    def __init__(self, spec: AddressAlias | None = None) -> None:
        super().__init__(spec or AddressAlias(name="db", address="machine:db"))
        self.firewall.all_aliases["theirs"] = {"name": "theirs", "cidr": "10.9.9.9"}

    def check(self, *, wanted: bool) -> None:
        found = {name: one["cidr"] for name, one in self.firewall.all_aliases.items()}
        assert found == {"theirs": "10.9.9.9", **({"db": "10.0.0.7"} if wanted else {})}


RULES = (
    {"macro": "SSH", "sources": ("192.0.2.0/24", "machine:db")},
    {"proto": "tcp", "port": "443"},
    {"action": "DROP", "comment": "the rest"},
)


class GroupBench(FirewallBench):
    lifecycle = group.LIFECYCLE

    def __init__(self, spec: SecurityGroup | None = None) -> None:
        super().__init__(spec or SecurityGroup.model_validate({"name": "webs", "rules": RULES}))

    def check(self, *, wanted: bool) -> None:
        assert list(self.firewall.all_groups) == (["webs"] if wanted else [])
        assert [one.get("source", "") for one in self.firewall._rules(of_group("webs"))] == (
            ["192.0.2.0/24,10.0.0.7", "fd00::7", "", ""] if wanted else []
        )


class MachineFirewallBench(FirewallBench):
    lifecycle = machine.LIFECYCLE

    def __init__(self, spec: MachineFirewall | None = None) -> None:
        described = {"name": "web", "rules": RULES, "ip_sets": {"ipfilter-net0": ("machine:web",)}, "ip_filter": True}
        super().__init__(spec or MachineFirewall.model_validate(described))
        self.firewall.rules_at[_key(WEB)] = [dict(THEIRS)]
        self.firewall.options_at[_key(WEB)] = {"log_level_in": "info"}

    def ours(self) -> list[str]:
        return [one.get("source", one["action"]) for one in self.firewall._rules(WEB) if one != THEIRS]

    def check(self, *, wanted: bool) -> None:
        options = {"enable": "1", "policy_in": "DROP", "policy_out": "ACCEPT", "ipfilter": "1"} if wanted else {}
        written = {key: value for key, value in options.items() if value != machine.USUAL[key]}
        assert self.firewall.options_at[_key(WEB)] == {"log_level_in": "info", **written}
        rules = self.firewall._rules(WEB)
        assert rules[-1] == THEIRS and all(one["enable"] == "1" for one in rules)
        assert self.ours() == (["192.0.2.0/24,10.0.0.7", "fd00::7", "ACCEPT", "DROP"] if wanted else [])
        assert list(self.firewall._sets(WEB)) == (["ipfilter-net0"] if wanted else [])


class ClusterFirewallBench(FirewallBench):
    """Others have a rule, an option, and an address that may always reach the nodes."""

    lifecycle = cluster.LIFECYCLE

    def __init__(self, spec: ClusterFirewall | None = None) -> None:
        described = {"name": "outer", "rules": RULES, "enable": True, "policy_out": "REJECT", "ebtables": False}
        super().__init__(spec or ClusterFirewall.model_validate(described))
        self.firewall.rules_at[_key(CLUSTER)] = [dict(THEIRS)]
        self.firewall.options_at[_key(CLUSTER)] = {"log_ratelimit": "enable=1", "ebtables": "0"}
        self.firewall.sets_at[_key(CLUSTER)] = {"management": ("", {"192.0.2.1": {"cidr": "192.0.2.1"}})}

    def check(self, *, wanted: bool) -> None:
        written = {"enable": "1", "policy_out": "REJECT"} if wanted else {}
        assert self.firewall.options_at[_key(CLUSTER)] == {"log_ratelimit": "enable=1", "ebtables": "0", **written}
        rules = self.firewall._rules(CLUSTER)
        assert rules[-1] == THEIRS and all(one["enable"] == "1" for one in rules)
        assert len(rules) == (5 if wanted else 1)
