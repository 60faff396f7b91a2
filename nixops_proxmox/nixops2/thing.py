"""The resource types `resources.pools`, `resources.networks` and all the others: what NixOps asks of them. NixOps finds
the classes by their names, so each kind has two, and they are made from what the registry has."""

# No `from __future__ import annotations` here: NixOps takes the annotation of `config` for a class.

from collections.abc import Iterable
from typing import Any, ClassVar

import nixops.deployment
import nixops.resources

from nixops_proxmox.core.graph import Ref
from nixops_proxmox.core.kind import Presence
from nixops_proxmox.errors import DeployError
from nixops_proxmox.kinds.registry import find_resource_types
from nixops_proxmox.messages.resources import describe_resource
from nixops_proxmox.nixops2.described import Defined, find_states, said_of
from nixops_proxmox.nixops2.errors import ProxmoxError, told, translated
from nixops_proxmox.nixops2.gated import Gated
from nixops_proxmox.nixops2.run import Run, run_of
from nixops_proxmox.nixops2.spelling import spelled
from nixops_proxmox.operations.resources import ResourceKeeper
from nixops_proxmox.spec.macs import MAC_POOLS, MAC_SCHEMES, MacPoolSpec, MacSchemeSpec
from nixops_proxmox.texts import shown


class ProxmoxThingOptions(nixops.resources.ResourceOptions):
    """Our own specification validates it."""


class ThingDefinition(nixops.resources.ResourceDefinition):
    """What is wanted of a thing. `option`: below `resources`; `model`: of its options."""

    config: ProxmoxThingOptions
    option: ClassVar[str] = ""
    model: ClassVar[Any] = None
    type_name: ClassVar[str] = "proxmox-thing"

    @classmethod
    def get_type(cls) -> str:
        return cls.type_name

    @classmethod
    def get_resource_type(cls) -> str:
        return cls.option

    def __init__(self, name: str, config: nixops.resources.ResourceEval) -> None:
        super().__init__(name, config)
        self.said: Defined = said_of(self.option, self.model, config)


class ThingState(Gated, nixops.resources.DiffEngineResourceState[ThingDefinition]):
    """What NixOps shows of a thing. Its record is with those of all others, see `things.py`. `kind` empty: it is only
    described, and nothing is made of it."""

    definition_type = ThingDefinition
    kind: ClassVar[str] = ""
    type_name: ClassVar[str] = "proxmox-thing"

    @classmethod
    def get_type(cls) -> str:
        return cls.type_name

    @property
    def _run(self) -> Run:
        return run_of(self.depl, self._title())

    @property
    def _keeper(self) -> ResourceKeeper:
        return self._run.resources

    @property
    def ref(self) -> Ref:
        return Ref(self.kind, self.name)

    # Made and unmade.

    def create(self, defn: Any, check: bool, allow_reboot: bool, allow_recreate: bool) -> None:
        with translated():
            keeper = self._keeper  # reads the whole network
            if self.kind:
                keeper.ensure(self.ref)
                for ref in keeper.following([self.ref]):
                    keeper.ensure(ref)
        self.state = self.UP

    def create_after(self, resources: Iterable[Any], defn: Any) -> set[Any]:
        """What it wants, and what it follows."""
        if defn is None or not self.kind:
            return set()
        with translated():
            before = {*self._keeper.wants(self.ref), *self._keeper.comes_after(self.ref)}
        return set(find_states(resources, before)) - {self}

    def destroy_before(self, resources: Iterable[Any]) -> set[Any]:
        """What it wanted when it was made."""
        with translated():
            wanted = set(self._keeper.wants_as_recorded(self.ref)) if self.kind else set()
        return set(find_states(resources, wanted)) - {self}

    def plan(self, defn: Any) -> None:
        """`nixops deploy --plan-only`."""
        with translated():
            keeper = self._keeper
            looked = keeper.look_at(self.ref) if self.kind else None
        for line in () if looked is None else describe_resource(looked):
            self.logger.log(shown(spelled(line)))
        if looked is not None and looked.error is not None:
            raise ProxmoxError(told(looked.error))

    def destroy(self, wipe: bool = False) -> bool:
        with translated():
            if self.kind and self.ref in self._keeper.recorded():
                if not self.depl.logger.confirm(f"are you sure you want to remove the {self.kind} ‘{self.name}’?"):
                    return False
                self._keeper.remove(self.ref)
        return True

    # Looking.

    def _check(self) -> None:
        if not self.kind:
            return
        try:
            looked = self._keeper.look_at(self.ref)
            if looked.error is not None:
                raise looked.error
        except DeployError as error:
            self.state = self.UNKNOWN
            self.logger.warn(told(error).strip())
            return
        self.state = self.MISSING if looked.phase is Presence.ABSENT else self.UP
        for line in (*looked.differences, *looked.remarks):
            self.logger.warn(shown(line))

    def show_type(self) -> str:
        spec = self._keeper.made_as(self.ref) if self.kind else None
        return f"{self.type_name} [{spec.profile}]" if spec is not None and spec.profile else self.type_name

    @property
    def resource_id(self) -> str | None:
        spec = self._keeper.made_as(self.ref) if self.kind else None
        return None if spec is None else spec.given_name


def make_classes() -> dict[str, type]:
    """Two for each kind, by their names. NixOps looks for them among the subclasses of its own."""
    found: dict[str, type] = {}
    for one in find_resource_types().values():
        if one.model is not None:
            found |= _classes_of(one.name, one.model.option, one.model, one.thing)
    found |= _classes_of("macPool", MAC_POOLS.rpartition(".")[2], MacPoolSpec, "")
    return found | _classes_of("macScheme", MAC_SCHEMES.rpartition(".")[2], MacSchemeSpec, "")


def _classes_of(name: str, option: str, model: Any, kind: str) -> dict[str, type]:
    title, type_name = name[0].upper() + name[1:], f"proxmox-{name}"
    more = {"__annotations__": {"config": ProxmoxThingOptions}, "__module__": __name__}
    said = {"option": option, "model": model, "type_name": type_name}
    definition = type(f"{title}Definition", (ThingDefinition,), {**more, **said})
    of_state = {"definition_type": definition, "kind": kind, "type_name": type_name, "__module__": __name__}
    state = type(f"{title}State", (ThingState,), of_state)
    return {definition.__name__: definition, state.__name__: state}


CLASSES = make_classes()
