"""A backup brought back: looked at before anything is overwritten, and always with a way back."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nixops_proxmox.errors import DeployError, NeedsWord, NotFound, PveRefused, StateError
from nixops_proxmox.guest.agent import Agent
from nixops_proxmox.guest.system import read_host_key
from nixops_proxmox.model import Facts, Machine, Phase, Power, Vm
from nixops_proxmox.pve.answers import GuestSeen
from nixops_proxmox.pve.hypervisor import PveHypervisor
from nixops_proxmox.pve.identity import find_mark, uuid_of
from nixops_proxmox.pve.properties import drives_of, is_cdrom, storage_of
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.wiring.backups import Archive, changed, list_archives
from nixops_proxmox.wiring.pursuit import Pursuit
from nixops_proxmox.wiring.recovery import macs_of

RESTORING = "restoring"  # in the facts' `extra`: the UUID that the VM has until a foreign backup is made ours
BOOT_TIME = 300.0  # seconds for the agent of what was restored to answer


@dataclass(frozen=True)
class Chosen:
    """A backup and the configuration that is in it."""

    archive: Archive
    config: Mapping[str, str]

    @property
    def uuid(self) -> str:
        return uuid_of(self.config)

    def whose(self) -> str:
        name = self.config.get("name", "a VM without a name")
        mark = find_mark(self.config.get("description", ""))
        marked = f", marked as {mark.machine!r} of the deployment {mark.deployment!r}" if mark is not None else ""
        return f"{name}, with the UUID {self.uuid}{marked}"


@dataclass(frozen=True)
class _Standing:
    """What is overwritten: our VM, or what a restore that did not come to its end left there."""

    uuid: str
    vm: Vm


def choose_archive(hypervisor: PveHypervisor, machine: Machine, wanted: str = "", *, foreign: bool = False) -> Chosen:
    """The backup, or the newest of ours. Only looks; NeedsWord if another machine is in it, unless `foreign`."""
    archive = _pick(list_archives(hypervisor, machine.facts), wanted, machine.name)
    chosen = Chosen(archive, hypervisor.client.get_archive_config(archive.node, archive.volume))
    if chosen.uuid == machine.facts.uuid.lower():
        return chosen
    if not chosen.uuid:
        raise PveRefused(f"{machine.name}: the VM in {archive.volume} has no SMBIOS UUID to know it by")
    if not foreign:
        raise NeedsWord(
            f"{machine.name}: {archive.volume} holds another machine: {chosen.whose()}; nothing was done",
            hint="take a backup of its own;"
            f" {command(Verb.RESTORE, '--foreign', machine.name, archive.volume)} makes this one the machine",
        )
    return chosen


def restore(
    hypervisor: PveHypervisor, pursuit: Pursuit, archive: str = "", *, foreign: bool = False, boot: float = BOOT_TIME
) -> Machine:
    """Everything is as it was in the backup, or in the newest of ours; the machine runs afterwards if it ran before.
    A machine whose VM is lost comes back with its identity. `foreign`: another machine's becomes this one, and has
    `boot` seconds to tell its host key."""
    chosen = choose_archive(hypervisor, pursuit.machine, archive, foreign=foreign)
    before = pursuit.looked_at()
    standing = _find_standing(hypervisor, before)
    _refuse_unfit(hypervisor, before, chosen, standing)
    ran = before.phase not in (Phase.STOPPED, Phase.LOST)
    machine = before if before.phase is Phase.LOST else pursuit.to(Phase.STOPPED)
    if chosen.uuid != machine.facts.uuid.lower():
        machine = _remember(pursuit, machine, chosen.uuid, f"restoring {chosen.archive.volume}, which is foreign")
    machine = _overwrite(hypervisor, machine, chosen, standing)
    _prove(hypervisor, pursuit, machine, chosen)
    if chosen.uuid != machine.facts.uuid.lower():
        return _make_ours(hypervisor, pursuit, machine, chosen, boot)
    machine = changed(pursuit, _forgotten(machine.facts), f"restored from {chosen.archive.volume}")
    return pursuit.to(Phase.READY) if ran else machine


def _pick(archives: tuple[Archive, ...], wanted: str, name: str) -> Archive:
    fitting = [one for one in archives if (one.volume == wanted if wanted else one.ours)]
    if not fitting:
        have = ", ".join(one.volume for one in archives) or "none"
        what = f"no backup {wanted!r} of it" if wanted else "no backup of it that is marked as its own"
        raise NotFound(f"{name}: there is {what}", hint=f"there are: {have}")
    return fitting[-1]


def _find_standing(hypervisor: PveHypervisor, machine: Machine) -> _Standing | None:
    """None: nothing stands at the machine's VMID. Raises StateError for what is not ours, with the way on."""
    facts = machine.facts
    for uuid in filter(None, (facts.uuid, facts.extra.get(RESTORING, ""))):
        vm = hypervisor.find_vm(replace(facts, uuid=uuid))
        if vm is not None:
            return _Standing(uuid, vm)
    guest, uuid = _find_guest(hypervisor, facts.vmid)
    if guest is None:
        return None
    what = f"the UUID {uuid}" if uuid else "no UUID"
    raise StateError(
        f"{machine.name}: at its VMID {facts.vmid}, on {guest.node}, stands {guest.name or 'a guest'} with {what},"
        f" and the machine's is {facts.uuid}; nothing was done",
        hint=f"if a restore made this of the machine, `qm set {facts.vmid} --smbios1 uuid={facts.uuid}` on"
        f" {guest.node} makes it the machine again, and the same command overwrites it; if it is somebody else's,"
        " it must go to another VMID first",
    )


def _find_guest(hypervisor: PveHypervisor, vmid: int) -> tuple[GuestSeen | None, str]:
    """Whatever stands at the VMID now, and its UUID; a container has none."""
    guest = hypervisor.client.get_resources(0.0).guests.get(vmid)
    if guest is None or guest.kind != "qemu":
        return guest, ""
    return guest, uuid_of(hypervisor.client.get_config(guest.node, vmid).values)


def _refuse_unfit(hypervisor: PveHypervisor, machine: Machine, chosen: Chosen, standing: _Standing | None) -> None:
    """What PVE would refuse only when the machine was stopped already, or when its disks were gone."""
    archive = chosen.archive
    node = standing.vm.node if standing is not None else archive.node
    if standing is not None and standing.vm.protected:
        raise NeedsWord(
            f"{machine.name}: VM {standing.vm.vmid} is protected, so PVE does not overwrite it",
            hint="set `protection = false` and deploy, then restore it",
        )
    if node != archive.node and not archive.shared:
        raise NotFound(
            f"{machine.name}: it is on {node}, which cannot read {archive.volume}: that is on {archive.node}",
            hint=f"migrate the VM to {archive.node} first, or copy the backup to a storage that both have",
        )
    drives = drives_of(chosen.config).values()
    wanted = {storage_of(drive.get("file", "")) for drive in drives if not is_cdrom(drive)} - {""}
    have = {one.storage for one in hypervisor.resources().storages if one.available and one.node == node}
    if missing := sorted(wanted - have):
        raise NotFound(
            f"{machine.name}: the disks in {archive.volume} were on {', '.join(missing)}, which {node} now lacks",
            hint="make the storage available there first: PVE restores disks to where they were",
        )


def _overwrite(hypervisor: PveHypervisor, machine: Machine, chosen: Chosen, standing: _Standing | None) -> Machine:
    facts, archive = machine.facts, chosen.archive
    doing = f"{machine.name}: restoring {archive.volume}"
    if standing is None:
        hypervisor.wait_for_task(hypervisor.client.restore_vm(archive.node, facts.vmid, archive.volume))
        return machine.moved(machine.phase, replace(facts, node=archive.node))
    there = replace(facts, uuid=standing.uuid)
    if machine.phase is Phase.LOST and standing.vm.power is Power.RUNNING:
        hypervisor.stop_vm(there, lambda _upid: None)

    def post(node: str) -> str:
        return hypervisor.client.restore_vm(node, facts.vmid, archive.volume, force=True)

    hypervisor.run_task("qmrestore", there, post, doing)
    return machine


def _prove(hypervisor: PveHypervisor, pursuit: Pursuit, machine: Machine, chosen: Chosen) -> None:
    """What came back is what was looked at. If it is not, that is recorded, so that the next restore may go over it."""
    facts = machine.facts
    if hypervisor.find_vm(replace(facts, uuid=chosen.uuid)) is not None:
        return
    _, uuid = _find_guest(hypervisor, facts.vmid)
    _remember(pursuit, machine.moved(Phase.LOST, facts), uuid, "what was restored is another machine")
    raise StateError(
        f"{machine.name}: what came back from {chosen.archive.volume} is another machine, with"
        f" {f'the UUID {uuid}' if uuid else 'no UUID'}",
        hint=f"{command(Verb.RESTORE, machine.name)} with a backup of its own goes over it",
    )


def _make_ours(hypervisor: PveHypervisor, pursuit: Pursuit, machine: Machine, chosen: Chosen, boot: float) -> Machine:
    """The VM gets the machine's mark; it is started, since only its agent can tell the host key that it has."""
    vm = hypervisor.give_mark(machine, chosen.uuid)
    facts = replace(_forgotten(machine.facts), macs=macs_of(vm.config), host_key="")
    machine = changed(pursuit, facts, f"restored from {chosen.archive.volume}, which was foreign")
    hypervisor.start_vm(machine.facts, lambda _upid: None)
    try:
        agent = Agent(hypervisor.client, vm.node, vm.vmid)
        agent.wait_for_agent(boot)
        key = read_host_key(agent.read_file)
    except DeployError as error:
        raise StateError(
            f"{machine.name}: it was restored and runs, but its agent did not tell its host key: {error.message}",
            hint=f"when its agent answers: {command(Verb.DESTROY, '--forget', machine.name)} and then"
            f" {command(Verb.RECOVER)} record it with its key",
        ) from error
    machine = changed(pursuit, replace(machine.facts, host_key=key), "read its host key through its agent")
    return pursuit.to(Phase.READY)


def _remember(pursuit: Pursuit, machine: Machine, uuid: str, what: str) -> Machine:
    extra = {**machine.facts.extra, RESTORING: uuid}
    return pursuit.record(machine.moved(machine.phase, replace(machine.facts, extra=extra)), what)


def _forgotten(facts: Facts) -> Facts:
    return replace(facts, extra={key: value for key, value in facts.extra.items() if key != RESTORING})
