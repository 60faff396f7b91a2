"""The machine backend `proxmox`: what NixOps asks of a machine, in terms of the lifecycle that every door shares."""

# No `from __future__ import annotations` here: NixOps takes the annotation of `config` for a class.

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import nixops.backends
import nixops.deployment
import nixops.nix_expr
import nixops.resources
import nixops.util
from nixops.exceptions import NixError
from nixops.ssh_util import SSHConnectionFailed
from nixops.util import CommandFailed
from typing_extensions import override

from nixops_proxmox.core.graph import Ref
from nixops_proxmox.errors import DeployError, NoPath
from nixops_proxmox.kinds.machine.shape import Permissions
from nixops_proxmox.kinds.machine.steps.hardware import find_changes
from nixops_proxmox.kinds.names import MACHINE
from nixops_proxmox.model import Machine, Phase, Power, Reach
from nixops_proxmox.nixops2.addresses import find_common, find_ipv4, hosts_of, own_addresses
from nixops_proxmox.nixops2.backups import Backups
from nixops_proxmox.nixops2.book import Book, MachineRecord
from nixops_proxmox.nixops2.console import read_log
from nixops_proxmox.nixops2.copying import Copying
from nixops_proxmox.nixops2.definition import spec_of
from nixops_proxmox.nixops2.described import Defined, find_states, plain
from nixops_proxmox.nixops2.errors import ProxmoxError, told, translated
from nixops_proxmox.nixops2.gated import Gated
from nixops_proxmox.nixops2.hardware import learn_hardware
from nixops_proxmox.nixops2.original import SECRETS, Meet, as_it_is, is_originals, take_over
from nixops_proxmox.nixops2.physical import physical_module
from nixops_proxmox.nixops2.planning import Planning
from nixops_proxmox.nixops2.rightful import Rightful
from nixops_proxmox.nixops2.run import HARDWARE_AS_IT_IS, Run, run_of
from nixops_proxmox.nixops2.spelling import spelled
from nixops_proxmox.nixops2.ssh import Way, find_way
from nixops_proxmox.nixops2.standing import STOPPED, UNREACHABLE, UP, standing
from nixops_proxmox.nixops2.volumes import machines_before, refuse_wrong_volumes
from nixops_proxmox.operations.addressing import recorded_for_systems
from nixops_proxmox.operations.pursuit import Pursuit
from nixops_proxmox.operations.read_only import Checked, check_machine
from nixops_proxmox.options import MAKE_ANOTHER, is_said
from nixops_proxmox.pve.wire.networks import usual_profile
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.texts import shown, shown_line

RECORD = "proxmox.record"

_MachineState = nixops.backends.MachineState


class ProxmoxOptions(nixops.backends.MachineOptions):
    """Our own specification validates it and names the option that is wrong, which NixOps's validation does not."""

    proxmox: Mapping[str, Any]


class ProxmoxDefinition(nixops.backends.MachineDefinition):
    """What is wanted of a machine."""

    config: ProxmoxOptions

    @classmethod
    def get_type(cls) -> str:
        return "proxmox"

    def __init__(self, name: str, config: nixops.resources.ResourceEval) -> None:
        super().__init__(name, config)
        with translated():
            self.spec = spec_of(name, config["proxmox"])
            self.said = Defined("", plain(config["proxmox"]))

    def show_type(self) -> str:
        return f"{self.get_type()} [{self.spec.profile}]"


class ProxmoxState(
    Gated,
    Rightful,
    Copying,
    Planning,
    nixops.backends.MachineState[ProxmoxDefinition],
    nixops.resources.DiffEngineResourceState[ProxmoxDefinition],
):
    """What is known of a machine: one record, and beside it what NixOps itself reads."""

    definition_type = ProxmoxDefinition

    state = nixops.util.attr_property("state", _MachineState.MISSING, int)
    public_ipv4 = nixops.util.attr_property("publicIPv4", None)
    private_ipv4 = nixops.util.attr_property("privateIPv4", None)

    def __init__(self, depl: nixops.deployment.Deployment, name: str, id: Any) -> None:
        super().__init__(depl, name, id)
        self._read: tuple[str, MachineRecord] = ("", MachineRecord())
        self._way: tuple[Any, Way | None] = (None, None)

    @classmethod
    def get_type(cls) -> str:
        return "proxmox"

    # The record.

    @property
    @override
    def record(self) -> MachineRecord:
        """The record as it was last written. It is parsed only when it has changed."""
        text = self._get_attr(RECORD)
        if not isinstance(text, str):
            return MachineRecord()
        if text != self._read[0]:
            self._read = (text, MachineRecord.from_json(json.loads(text)))
        return self._read[1]

    def write(self, record: MachineRecord) -> None:
        """Write all in one go, the record first, so that NixOps's database is held no longer than that."""
        facts, old = record.facts, self.record.facts
        addresses = own_addresses(record.phase, record.spec, facts)
        self._set_attrs(
            {
                RECORD: json.dumps(record.to_json(), sort_keys=True),
                "vmId": str(facts.vmid) if facts.vmid else None,
                "state": self._standing(record.phase),
                "publicIPv4": find_ipv4(addresses, facts, Reach.PUBLIC),
                "privateIPv4": find_ipv4(addresses, facts, Reach.PRIVATE),
            }
        )
        with translated():
            self._session.checkpoint()
        if facts.endpoint != old.endpoint or facts.boot_id != old.boot_id or record.phase is not Phase.READY:
            self._forget_connection()

    def _standing(self, phase: Phase, power: Power | None = None, *, reachable: bool | None = None) -> int:
        before = next((name for name in (UP, STOPPED, UNREACHABLE) if self.state == getattr(self, name)), "")
        state: int = getattr(self, standing(phase, power, reachable=reachable, before=before))
        return state

    def _see(self, pursuit: Pursuit, book: Book, former: MachineSpec | None) -> None:
        """Record what is true after a deploy that failed: its power, and the description that its VM still fits."""
        machine = self._machine
        with suppress(DeployError):
            vm = pursuit.world.hypervisor.find_vm(machine.facts) if machine.facts.vmid else None
            kept = replace(pursuit.world, spec=former or pursuit.world.spec)
            if vm is not None and not find_changes(kept, vm, machine):
                book.keep(spec=kept.spec)  # else `start` would go on with what was refused
            self.state = self._standing(machine.phase, None if vm is None else vm.power)

    def _forget_connection(self) -> None:
        self.ssh_pinged = False
        self._ssh_pinged_this_time = False
        self.ssh.reset()

    def _trust_connection(self) -> None:
        """The endpoint is proven, so NixOps need not wait for it. It would wait without end."""
        self.ssh_pinged = True
        self._ssh_pinged_this_time = True

    @property
    @override
    def _run(self) -> Run:
        return run_of(self.depl, self._title())

    @property
    def _machine(self) -> Machine:
        return self.record.machine(self._run.title, self.name)

    @override
    def _pursuit(
        self, spec: MachineSpec | None = None, permissions: Permissions = HARDWARE_AS_IT_IS, *, meet: bool = True
    ) -> tuple[Pursuit, Book]:
        """Open the machine for a verb. Without `spec`, by the recorded description. `meet`: we must reach it."""
        book = Book(self._take_over(spec, meet=meet), self.write)
        spec = spec or self._get_spec(book.record_now)
        return self._run.pursuit(self.name, as_it_is(spec, book.record_now.facts), book, permissions), book

    def _take_over(self, spec: MachineSpec | None, *, meet: bool) -> MachineRecord:
        """A machine that the original plugin made becomes ours at the first touch."""
        record, run = self.record, self._run
        attributes = self.export()
        if record.phase is Phase.ABSENT and is_originals(attributes):
            self.logger.log("taking it over from the original plugin...")
            profile = spec.profile if spec is not None else usual_profile()
            record = take_over(self.name, attributes, profile, run.parts.hypervisor(profile))
            self.write(record)
        if meet and is_originals(attributes) and not record.facts.host_key:
            book = Book(self.record, self.write)
            machine = run.pursuit(self.name, self._get_spec(record), book).run(Meet(run.parts))
            book.keep(hardware={"round": machine.facts.round})
            self._set_attrs(dict.fromkeys(SECRETS))
        return self.record

    def _get_spec(self, record: MachineRecord) -> MachineSpec:
        if record.spec is None and record.phase is not Phase.ABSENT:
            return MachineSpec(name=self.name, profile=record.facts.profile)  # recovered, and not deployed since
        if record.spec is None:
            raise NoPath(f"{self.name}: it does not exist yet", hint="`nixops deploy` creates it")
        return record.spec

    # Made and unmade.

    def create(self, defn: ProxmoxDefinition, check: bool, allow_reboot: bool, allow_recreate: bool) -> None:
        """Bring it to `ready`: installed, reachable, proven. NixOps then builds, copies and activates."""
        with translated():
            refuse_wrong_volumes(self.depl.definitions)
            self.set_common_state(defn)
            another = is_said(MAKE_ANOTHER, os.environ)
            permissions = Permissions(allow_reboot=allow_reboot, make_another=another, check=check)
            self._take_addresses()
            pursuit, book = self._pursuit(self._run.machine(self.name), permissions)
            spec, former = pursuit.world.spec, book.record_now.spec
            self.find_place(pursuit.machine, spec)
            book.keep(spec=spec)
            try:
                machine = self._proven(pursuit.deploy(allow_recreate=allow_recreate), spec, book)
            except DeployError:
                self._see(pursuit, book, former)
                raise
            learn_hardware(machine, spec, book, self._run)
            for ref in self._run.resources.following([Ref(MACHINE, self.name)]):
                self._run.resources.ensure(ref)
            assert machine.facts.endpoint is not None
            self.ssh_user, self.ssh_port = machine.facts.endpoint.user, machine.facts.endpoint.port
            self._trust_connection()

    def _take_addresses(self) -> None:
        """What its NICs are to have from lists of MACs. Raises why it can have none."""
        addresses = self._run.addresses
        _, errors = addresses.take([self.name], None)
        for error in (errors | addresses.refuse_doubles([self.name])).values():
            raise error

    def _proven(self, machine: Machine, spec: MachineSpec, book: Book) -> Machine:
        """Its address may have changed since it was last proven, and NixOps would wait for the old one without end."""
        endpoint = machine.facts.endpoint
        guests = self._run.parts.guests
        if endpoint is None or not guests.answers(endpoint, machine.facts.host_keys):
            machine = machine.moved(machine.phase, guests.meet_system(machine, spec))
            book.record(machine, "seen: it has another address")
        return machine

    def destroy(self, wipe: bool = False) -> bool:
        record = self.record
        if record.phase is Phase.ABSENT and not self.vm_id:
            return True
        where = f"VM {self.vm_id} on {record.facts.node}" if record.facts.node else f"VM {self.vm_id}"
        more = "".join(f"\n  also deleted: {line}" for line in self._losses())
        more += "".join(f"\n  kept: volume {volume}" for volume in self._kept_volumes())
        if not self.depl.logger.confirm(
            f"are you sure you want to destroy ‘{self.name}’ ({where}) with all of its disks?{more}"
        ):
            return False
        if wipe:
            self.logger.warn("--wipe does nothing here: the storage decides whether freed disks are overwritten")
        with translated():
            keeper = self._run.resources
            for ref in keeper.in_order_of_removal(keeper.dependents(Ref(MACHINE, self.name))):
                keeper.remove(ref)
            followers = keeper.followers(self.name)
            self._pursuit(meet=False)[0].to(Phase.ABSENT)
            keeper.follow(self.name)
            for ref in followers:
                keeper.refresh(ref)
        return True

    def destroy_before(self, resources: Iterable[Any]) -> set[Any]:
        """What it needs is destroyed after it, and what its own firewall and HA need, for they go with it."""
        with translated():
            keeper, spec = self._run.resources, self.record.spec
            made = {ref: keeper.made_as(ref) for ref in keeper.recorded()}
            needed = [ref for ref, one in made.items() if spec and one is not None and one.is_wanted_by(spec)]
            own = keeper.dependents(Ref(MACHINE, self.name))
            needed += [ref for one in own for ref in keeper.wants_as_recorded(one)]
        return set(find_states(resources, needed)) - {self}

    def _losses(self) -> Sequence[str]:
        """Volumes that go with the VM beside the disks that we made."""
        machine = self._machine
        with translated():
            hypervisor = self._run.parts.hypervisor(machine.facts.profile or usual_profile())
            vm = hypervisor.find_vm(machine.facts)
        return () if vm is None else hypervisor.losses(vm, machine)

    def _kept_volumes(self) -> Sequence[str]:
        with translated():
            return self._run.volumes.attached(self._machine)

    def create_after(self, resources: Iterable[Any], defn: ProxmoxDefinition | None) -> set[Any]:
        """NixOps may make machines side by side, because we protect PVE ourselves. One that lets go of a volume comes
        before the one that gets it."""
        with translated():
            if defn is None:
                return set()
            wanted = self._run.resources.wanted_by(self._run.machine(self.name))
            return machines_before(self.depl, self.name) | set(find_states(resources, wanted))

    # Power.

    def stop(self) -> None:
        if self.record.phase is Phase.ABSENT and not self.vm_id:
            self.logger.warn("it does not exist yet")
            return
        if not self.depl.logger.confirm(f"are you sure you want to stop ‘{self.name}’?"):
            return
        with translated():
            self._pursuit(meet=False)[0].to(Phase.STOPPED)

    def start(self) -> None:
        with translated():
            pursuit, book = self._pursuit()
            machine = pursuit.to(Phase.READY)
            self._proven(machine, pursuit.world.spec, book)
        self._trust_connection()
        self.send_keys()

    def reboot(self, hard: bool = False) -> None:
        """Without waiting for it to come up again."""
        if not hard and self.record.phase is not Phase.RESCUE:
            super().reboot()
            self._forget_connection()
            return
        with translated():
            pursuit, _ = self._pursuit()
            pursuit.reset()
        self.state = self.STARTING
        self._forget_connection()

    def reboot_sync(self, hard: bool = False) -> None:
        self.logger.log("rebooting...")
        with translated():
            self._pursuit()[0].reboot(hard=hard)
        self._trust_connection()
        self.send_keys()

    def reboot_rescue(self, hard: bool = False) -> None:
        with translated():
            self._pursuit()[0].to(Phase.RESCUE)
        self.logger.log("the installer runs beside the untouched system; `nixops start` leads back")

    # Looking.

    def show_type(self) -> str:
        facts = self.record.facts
        return f"{self.get_type()} [{facts.profile}: {facts.node}]" if facts.node else self.get_type()

    @property
    def resource_id(self) -> str | None:
        vmid: str | None = self.vm_id
        return vmid

    @property
    def public_host_key(self) -> str | None:
        """The host key of the installed system. NixOps makes it known to all machines."""
        return " ".join(self.record.facts.host_key.split()[:2]) or None

    def address_to(self, r: Any) -> str | None:
        """The best address by which this machine reaches another."""
        known: str | None = getattr(r, "public_ipv4", None)
        if not isinstance(r, ProxmoxState):
            return known
        mine, theirs = self.record, r.record
        if mine.spec is None or theirs.spec is None:
            return known
        there = own_addresses(theirs.phase, theirs.spec, theirs.facts)
        here = own_addresses(mine.phase, mine.spec, mine.facts)
        return find_common((mine.spec, mine.facts, here), (theirs.spec, theirs.facts, there))

    def _hosts(self) -> dict[str, list[str]]:
        """The other machines' names by the address at which this one reaches them."""
        others = {name: one for name, one in self.depl.active_machines.items() if name != self.name}
        return hosts_of({name: self.address_to(one) for name, one in others.items()})

    def _check(self, res: Any) -> None:
        """Fill in NixOps's table with what is true. If we cannot look at a machine, a note in its row and the exit
        status say so. Change nothing if the hypervisor cannot tell."""
        try:
            self._look(res)
        except (DeployError, NixError, SSHConnectionFailed, CommandFailed) as error:
            res.messages.append((told(error) if isinstance(error, DeployError) else shown(str(error))).strip())
            res.is_reachable = False

    def _look(self, res: Any) -> None:
        if self.record.phase is Phase.ABSENT and not self.vm_id:
            res.exists = False
            return
        try:
            pursuit, _ = self._pursuit(permissions=Permissions(), meet=False)
            described = bool(pursuit.world.spec.disks)  # nothing is, of a machine that was only taken over
            world = self._run.parts.hurried(pursuit.world)
            checked = check_machine(pursuit.machine, world, described=described)
        finally:
            self._run.parts.guests.leave(self.name)
        self._tell(checked, res)
        if checked.reachable:
            super()._check(res)

    def _tell(self, checked: Checked, res: Any) -> None:
        res.exists, res.is_up, res.is_reachable = checked.exists, checked.running, checked.reachable
        if checked.exists:
            res.disks_ok = not any(change.key.startswith(("scsi", "virtio", "sata")) for change in checked.changes)
        told = [f"{c.key}: {c.have or '(none)'}, and {c.want or '(none)'} is described" for c in checked.changes]
        told += [f"{key} waits for a stop and start" for key in checked.pending]
        res.messages += [shown_line(spelled(line)) for line in (*told, *checked.problems)]
        power = Power.RUNNING if checked.running else Power.STOPPED
        self.state = self._standing(checked.phase, power, reachable=checked.reachable)

    def get_console_output(self) -> str:
        with translated():
            self._get_spec(self.record)
            return read_log(self._machine, self._run.parts)

    # What NixOps puts into the configuration.

    def get_physical_spec(self) -> dict[Any, Any]:
        """What keeps it bootable and reachable, however little its configuration says."""
        record = self.record
        if record.spec is None or not record.facts.uuid:
            return {}
        key = self._run.parts.keys.client_key().public
        users = dict.fromkeys(("root", record.spec.ssh.user), (key, *record.spec.ssh.authorized_keys))
        volumes = {name: self._run.volumes.serial(name) for name in record.spec.volumes}
        taken = recorded_for_systems(self._run.record).get(self.name, {})
        text = physical_module(record.spec, record.facts, record.hardware, users, self._hosts(), volumes, taken)
        return {"imports": [nixops.nix_expr.RawValue(text)]}

    # SSH. Called several times for each command: nothing here asks the network.

    def _get_way(self) -> Way:
        facts, spec = self.record.facts, self.record.spec
        if spec is None or facts.endpoint is None:
            raise ProxmoxError(
                f"error: {self.name}: it has no known address\nhint: `nixops deploy` makes it reachable\n"
            )
        about = (facts.endpoint, facts.installer_keys, facts.host_keys, spec)
        if self._way[0] != about or self._way[1] is None:
            with translated():
                self._way = (about, find_way(self._machine, spec, self._run.parts.guests))
        way = self._way[1]
        assert way is not None
        return way

    def get_ssh_name(self) -> str:
        return self._get_way().name

    def get_ssh_flags(self, *args: Any, **kwargs: Any) -> list[str]:
        """Ours first: ssh takes the first of each, so what pins the host key cannot be undone."""
        return [*self._get_way().flags, *self.ssh_options]

    def get_ssh_private_key_file(self) -> str | None:
        return self._get_way().identity

    def get_ssh_host_keys(self) -> str | None:
        return self._get_way().host_keys

    # Backups.

    def backup(self, defn: ProxmoxDefinition, backup_id: str, devices: Sequence[str] = ()) -> None:
        with translated():
            self._backups().make(backup_id, devices)

    def restore(self, defn: ProxmoxDefinition, backup_id: str | None, devices: Sequence[str] = ()) -> None:
        with translated():
            self._backups().restore(backup_id, devices, self.depl.logger.confirm)

    def remove_backup(self, backup_id: str, keep_physical: bool = False) -> None:
        with translated():
            if backup_id in self.record.backups:  # NixOps asks every machine, also one that was never made
                self._backups().remove(backup_id, keep_physical=keep_physical)

    def get_backups(self) -> Mapping[str, Mapping[str, Any]]:
        with translated():
            return self._backups().find() if self.record.backups else {}

    def _backups(self) -> Backups:
        pursuit, book = self._pursuit()
        return Backups(self._run.parts.hypervisor(pursuit.world.spec.profile), pursuit, book)
