"""What a resource stands among: all that NixOps 4 has described of its deployment, as the record has it.

NixOps 4 applies one resource at a time, and tells nothing of the others. So what it says of each is recorded with what
was made of it, and goes away with it. From all of this, the same network is read as the command line reads from a file.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from nixops_proxmox.errors import StateError, StateTooNew
from nixops_proxmox.kinds.registry import Entry
from nixops_proxmox.kinds.resource import SAID
from nixops_proxmox.model import Machine, Phase
from nixops_proxmox.operations.recorded import recorded_thing
from nixops_proxmox.spec import MachineSpec, NetworkSpec, parse_part
from nixops_proxmox.spec.macs import MAC_POOLS, MAC_SCHEMES
from nixops_proxmox.spec.names import OF_RESOURCES
from nixops_proxmox.spec.tree import below
from nixops_proxmox.state import Deployment

SPEC = "nixops4.proxmox"  # where the record keeps a `vm`'s description for the `nixos` that is put on it
INPUTS = "nixops4.inputs"  # and what a `vm` was told, which others are read among

Inputs = Mapping[str, Any]
M = TypeVar("M", bound=BaseModel)


class _Recorded(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SaidOfVm(_Recorded):
    """What a `vm` was told."""

    proxmox: dict[str, Any]
    macPools: dict[str, Any] = {}
    macSchemes: dict[str, Any] = {}


class SaidOfThing(_Recorded):
    """What another resource was told: one of `resources.<option>`."""

    option: str
    inputs: dict[str, Any]


@dataclass(frozen=True)
class Among:
    """What is described, by name. `older`: machines of which another version has recorded only how they were read."""

    deployment: str
    machines: Mapping[str, SaidOfVm]
    things: Mapping[tuple[str, str], Inputs]  # by option and name
    older: tuple[MachineSpec, ...] = ()

    @classmethod
    def recorded(cls, record: Deployment, kinds: Mapping[str, Entry]) -> "Among":
        """StateError for a record that cannot be read."""
        there = [one for one in record.machines() if one.phase is not Phase.ABSENT]
        texts = {one.name: one.facts.extra[INPUTS] for one in there if INPUTS in one.facts.extra}
        vms = {name: _read(SaidOfVm, text, name) for name, text in texts.items()}
        older = tuple(spec_of_vm(one) for one in there if one.name not in vms and SPEC in one.facts.extra)
        return cls(record.name, vms, dict(_recorded_things(record, kinds)), older)

    def with_vm(self, name: str, said: SaidOfVm) -> "Among":
        others = {key: one for key, one in self.machines.items() if key != name}
        older = tuple(one for one in self.older if one.name != name)
        return Among(self.deployment, {**others, name: said}, self.things, older)  # last: it is what is at fault

    def with_thing(self, option: str, name: str, inputs: Inputs) -> "Among":
        others = {key: one for key, one in self.things.items() if key != (option, name)}
        return Among(self.deployment, self.machines, {**others, (option, name): inputs}, self.older)

    def network(self, about: Collection[str], kinds: Mapping[str, Entry]) -> NetworkSpec:
        """All of it, read. SpecError for a mistake in what is at these paths."""
        resources: dict[str, dict[str, Inputs]] = {}
        for (option, name), inputs in self.things.items():
            resources.setdefault(option, {})[name] = inputs
        for place, lists in ((MAC_POOLS, "macPools"), (MAC_SCHEMES, "macSchemes")):
            found = {key: one for vm in self.machines.values() for key, one in getattr(vm, lists).items()}
            resources[place.rpartition(".")[2]] = found
        machines = {name: {"proxmox": vm.proxmox} for name, vm in self.machines.items()}
        models = {one.described.spec.option: one.described.spec for one in kinds.values() if one.described is not None}
        data = {"machines": machines, "resources": resources}
        return parse_part(self.deployment, data, about, models, self.older)


def places_of_vm(name: str, said: SaidOfVm) -> list[str]:
    """Where what a `vm` is told can be wrong, with what it stands for."""
    own = [one for option in OF_RESOURCES.values() for one in _places(f"resources.{option}", name)]
    lists = [
        place
        for where, found in ((MAC_POOLS, said.macPools), (MAC_SCHEMES, said.macSchemes))
        for one in found
        for place in _places(where, one)
    ]
    return [f"{below('', name)}.deployment.proxmox", *own, *lists]


def places_of_thing(option: str, name: str, thing_option: str) -> list[str]:
    """The same of another resource. `thing_option`: of the thing that stands for it."""
    own = [key for key, place in OF_RESOURCES.items() if place == option]
    as_machine = [f"{below('', name)}.deployment.proxmox.{key}" for key in own]
    return [*_places(f"resources.{option}", name), *_places(f"resources.{thing_option}", name), *as_machine]


def _places(path: str, name: str) -> list[str]:
    return [f"{path}.{name}", below(path, name)]


def spec_of_vm(machine: Machine) -> MachineSpec:
    """How a `vm`'s description was read when it was last applied. KeyError: no `vm` made it."""
    try:
        return MachineSpec.model_validate_json(machine.facts.extra[SPEC])
    except ValidationError as error:
        first = error.errors()[0]
        raise StateTooNew(
            f"{machine.name}: the recorded description cannot be read: {'.'.join(map(str, first['loc']))}:"
            f" {first['msg']}",
            hint="did another version of nixops-proxmox write it? Apply the `vm` resource first",
        ) from error


def _recorded_things(record: Deployment, kinds: Mapping[str, Entry]) -> Iterator[tuple[tuple[str, str], Inputs]]:
    for kind in sorted(kinds):
        for stored in record.stored(kind):
            values = recorded_thing(record.name, kind, stored.name, stored).facts.values
            if SAID in values:
                said = _read(SaidOfThing, values[SAID], f"the {kind} {stored.name}")
                yield (said.option, stored.name), said.inputs


def _read(model: type[M], text: str, what: str) -> M:
    try:
        return model.model_validate(json.loads(text))
    except ValueError as error:
        raise StateError(
            f"{what}: what NixOps said of it is recorded, and cannot be read: {error}",
            hint="upgrade nixops-proxmox, or restore the state from a backup",
        ) from error
