"""What PVE's HA does with machines: keep them running, elsewhere if a node fails, and where."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from typing_extensions import override

from nixops_proxmox.spec import values as v
from nixops_proxmox.spec.resource import Comment, Objection, ResourceSpec

if TYPE_CHECKING:
    from nixops_proxmox.spec.machine import MachineSpec

HA, HA_RULE = "ha", "ha-rule"
Tries = Annotated[int, Field(ge=0, le=100)]
Priority = Annotated[int, Field(ge=0, le=1000)]


class HaSpec(ResourceSpec):
    """The HA resource of one machine, which has its name. Described as `ha` of the machine, or under `resources`."""

    kind = HA
    option = "ha"

    state: Literal["started", "ignored"] = "started"  # ignored: HA knows it, and does nothing
    max_restart: Tries = 1
    max_relocate: Tries = 1
    failback: bool = True  # does it go back to a better node that is there again?
    affinity: bool = False  # do rules of HA follow the machine's `placement`?
    comment: Comment = ""

    @property
    @override
    def wants(self) -> Collection[tuple[str, str]]:
        return [("machine", self.name)]

    @override
    def comes_after(self, machines: "Sequence[MachineSpec]") -> Collection[tuple[str, str]]:
        del machines
        return [("machine", self.name)]

    @override
    def objections(self, machines: "Sequence[MachineSpec]", others: "Sequence[ResourceSpec]") -> Iterable[Objection]:
        del others
        machine = next((one for one in machines if one.name == self.name), None)
        if machine is None:
            yield Objection("", f"there is no machine {self.name}")
        elif machine.profile != self.profile:
            yield Objection("profile", f"the machine {self.name} is on {machine.profile}")


class HaRuleSpec(ResourceSpec):
    """One of `resources.haRules`: on which nodes HA keeps machines (`nodes`), or whether it keeps them together or
    apart (`affinity`)."""

    kind = HA_RULE
    option = "haRules"

    rule: v.ConfigId | None = None  # PVE's name of it; None: the name here
    machines: Annotated[tuple[v.DnsName, ...], v.OneOrMore]
    nodes: Mapping[v.NodeName, Priority] = {}  # the highest is preferred
    strict: bool = False  # are they never on other nodes?
    affinity: Literal["positive", "negative"] | None = None
    enabled: bool = True
    comment: Comment = ""

    @property
    def ruleid(self) -> str:
        return self.rule or self.name

    @property
    @override
    def given_name(self) -> str:
        return self.ruleid

    @property
    @override
    def identity(self) -> tuple[str, ...]:
        return (self.profile, self.ruleid, "nodes" if self.nodes else "guests")

    @property
    @override
    def wants(self) -> Collection[tuple[str, str]]:
        return [(kind, name) for name in self.machines for kind in ("machine", HA)]

    @override
    def comes_after(self, machines: "Sequence[MachineSpec]") -> Collection[tuple[str, str]]:
        del machines
        return [("machine", name) for name in self.machines]

    @override
    def objections(self, machines: "Sequence[MachineSpec]", others: "Sequence[ResourceSpec]") -> Iterable[Objection]:
        del machines
        yield from self._about_itself()
        managed = {spec.name: spec for spec in others if isinstance(spec, HaSpec)}
        for name in self.machines:
            if name not in managed:
                hint = f"{name}.deployment.proxmox.ha = {{ }};"
                yield Objection("machines", f"HA does not manage {name}: it has no `ha`", hint=hint)
            elif managed[name].profile != self.profile:
                yield Objection("machines", f"{name} is on another hypervisor, {managed[name].profile}")
        for other in others:
            if isinstance(other, HaRuleSpec) and other.name < self.name and self.nodes and other.nodes:
                for name in sorted({*self.machines} & {*other.machines}):
                    yield Objection("machines", f"{name} has its nodes by the rule {other.name}; one rule can say them")

    def _about_itself(self) -> Iterator[Objection]:
        if bool(self.nodes) == (self.affinity is not None):
            yield Objection("", "say nodes, or affinity, and not both")
        if self.affinity is not None and self.strict:
            yield Objection("strict", "has no meaning with affinity, which is always a condition")
        if self.affinity is not None and len(self.machines) < 2:
            yield Objection("machines", "name two machines or more: one alone is neither together nor apart")


def rules_of_placement(
    network: str, machines: "Sequence[MachineSpec]", resources: Sequence[ResourceSpec]
) -> Iterator[HaRuleSpec]:
    """The rules that follow from `placement` of the machines whose `ha` says `affinity`."""
    wanting = {(spec.name, spec.profile) for spec in resources if isinstance(spec, HaSpec) and spec.affinity}
    chosen = [machine for machine in machines if (machine.name, machine.profile) in wanting]
    for profile in sorted({machine.profile for machine in chosen}):
        here = [machine for machine in chosen if machine.profile == profile]
        suffix = "" if len({machine.profile for machine in chosen}) == 1 else f"-{profile}"
        for name, told in _groups(here):
            rule = _pve_name(f"{network}-{name}{suffix}")
            yield HaRuleSpec.model_validate({"name": f"{name}{suffix}", "profile": profile, "rule": rule, **told})


def _groups(machines: "Sequence[MachineSpec]") -> Iterator[tuple[str, dict[str, object]]]:
    """Names, and what else is said in a rule."""
    found: dict[str, dict[str, object]] = {}
    for machine in machines:
        place = machine.placement
        for word, group, affinity in (("spread", place.spread, "negative"), ("together", place.together, "positive")):
            if group is not None:
                told = found.setdefault(f"{word}-{_dns_name(group)}", {"affinity": affinity, "machines": ()})
                told["machines"] = (*_names(told), machine.name)
        if place.nodes:
            key, nodes = f"on-{'-'.join(sorted(place.nodes))}", dict.fromkeys(sorted(place.nodes), 0)
            told = found.setdefault(key, {"nodes": nodes, "strict": True, "machines": ()})
            told["machines"] = (*_names(told), machine.name)
    for key, told in found.items():
        if "nodes" in told or len(_names(told)) > 1:
            yield key, told


def _names(told: Mapping[str, object]) -> tuple[str, ...]:
    names = told["machines"]
    return names if isinstance(names, tuple) else ()


def _dns_name(group: str) -> str:
    return "".join(letter if letter.isalnum() or letter == "-" else "-" for letter in group.lower()).strip("-")


def _pve_name(text: str) -> str:
    """PVE's names begin with a letter."""
    name = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in text)
    return name if name[:1].isalpha() else f"n-{name}"
