"""The resource type `resources.volumes`: what NixOps asks of a volume. The deploy of its machine makes it, and that of
the volume itself if no machine has it. Nothing but `nixops proxmox volume delete` deletes it."""

# No `from __future__ import annotations` here: NixOps takes the annotation of `config` for a class.

import json
from collections.abc import Iterable
from typing import Any

import nixops.deployment
import nixops.resources

from nixops_proxmox.errors import DeployError
from nixops_proxmox.kinds.volume.facts import VolumePhase
from nixops_proxmox.kinds.volume.table import OUT, THERE
from nixops_proxmox.messages.volumes import plan_line
from nixops_proxmox.nixops2.book import KeptVolumeRecord
from nixops_proxmox.nixops2.definition import volume_spec_of
from nixops_proxmox.nixops2.described import said_of
from nixops_proxmox.nixops2.errors import told, translated
from nixops_proxmox.nixops2.gated import Gated
from nixops_proxmox.nixops2.run import Run, run_of
from nixops_proxmox.nixops2.spelling import spelled
from nixops_proxmox.nixops2.volumes import TYPE, described_machines
from nixops_proxmox.spec import VolumeSpec
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.texts import shown

RECORD = "proxmox.volume"


class ProxmoxVolumeOptions(nixops.resources.ResourceOptions):
    """Our own specification validates it."""


class ProxmoxVolumeDefinition(nixops.resources.ResourceDefinition):
    """What is wanted of a volume."""

    config: ProxmoxVolumeOptions

    @classmethod
    def get_type(cls) -> str:
        return TYPE

    @classmethod
    def get_resource_type(cls) -> str:
        return "volumes"

    def __init__(self, name: str, config: nixops.resources.ResourceEval) -> None:
        super().__init__(name, config)
        with translated():
            self.spec = volume_spec_of(name, config)
            self.said = said_of("volumes", VolumeSpec, config)

    def show_type(self) -> str:
        return f"{TYPE} [{self.spec.profile}]"


class ProxmoxVolumeState(Gated, nixops.resources.DiffEngineResourceState[ProxmoxVolumeDefinition]):
    """What is known of a volume: one record, and NixOps's state beside it."""

    definition_type = ProxmoxVolumeDefinition

    def __init__(self, depl: nixops.deployment.Deployment, name: str, id: Any) -> None:
        super().__init__(depl, name, id)
        self._read: tuple[str, KeptVolumeRecord] = ("", KeptVolumeRecord())

    @classmethod
    def get_type(cls) -> str:
        return TYPE

    # The record: satisfies `volumes.KeptVolume`.

    @property
    def record(self) -> KeptVolumeRecord:
        text = self._get_attr(RECORD)
        if not isinstance(text, str):
            return KeptVolumeRecord()
        if text != self._read[0]:
            self._read = (text, KeptVolumeRecord.from_json(json.loads(text)))
        return self._read[1]

    def write(self, record: KeptVolumeRecord) -> None:
        state = self.UP if record.phase in THERE else self.MISSING
        self._set_attrs({RECORD: json.dumps(record.to_json(), sort_keys=True), "state": state})
        with translated():
            self._session.checkpoint()

    @property
    def _run(self) -> Run:
        return run_of(self.depl, self._title())

    def _holder(self) -> str:
        """The machine that describes it; empty: none does."""
        machines = described_machines(self.depl.definitions)
        return next((name for name, spec in machines.items() if self.name in spec.volumes), "")

    # Made and unmade.

    def create_after(self, resources: Iterable[Any], defn: Any) -> set[Any]:
        """The machine that has it makes it, on its own node."""
        holder = self._holder() if defn is not None else ""
        return {one for one in resources if one.name == holder}

    def create(self, defn: Any, check: bool, allow_reboot: bool, allow_recreate: bool) -> None:
        with translated():
            run = self._run
            run.volume_record.book(self.name).keep(spec=defn.spec)
            run.volumes.ensure(self.name, "", self._holder())

    def plan(self, defn: Any) -> None:
        """`nixops deploy --plan-only`."""
        with translated():
            (shown_now,) = self._run.volumes.look({self.name: self._holder()}, only=self.name)
        self.logger.log(shown(spelled(plan_line(shown_now))))

    def destroy(self, wipe: bool = False) -> bool:
        """NixOps's word ends machines. A volume outlives it."""
        if self.record.phase is VolumePhase.ABSENT and not self.record.facts.parker:
            return True
        how = command(Verb.VOLUME_DELETE, self.name)
        self.logger.log(spelled(f"it is kept, with its data; {how} deletes it"))
        return False

    # Looking.

    def _check(self) -> None:
        try:
            (found,) = self._run.volumes.look({self.name: self._holder()}, only=self.name)
        except DeployError as error:
            self.state = self.UNKNOWN
            self.logger.warn(told(error).strip())
            return
        self.state = self.MISSING if found.spot is None else self.UP
        if found.spot is None and self.record.facts.serial:
            self.logger.warn(f"no VM that we may see has a disk with the serial {found.serial}")

    def show_type(self) -> str:
        facts = self.record.facts
        return f"{TYPE} [{facts.profile}: {facts.node}]" if facts.node else TYPE

    def show_state(self) -> str:
        """As `nixops info` shows it."""
        record = self.record
        if record.phase in OUT and record.facts.machine:
            return f"Attached to {record.facts.machine}"
        return str(record.phase.value).capitalize() if record.phase in THERE else str(super().show_state())

    @property
    def resource_id(self) -> str | None:
        return self.record.facts.serial or None
