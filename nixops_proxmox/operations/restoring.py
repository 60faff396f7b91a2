"""A backup brought back: looked at before anything is overwritten, and always with a way back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nixops_proxmox.errors import DeployError, Locked, NeedsPermission, NotFound, PveRefused, StateError
from nixops_proxmox.guest.agent import Agent
from nixops_proxmox.guest.system import read_host_key
from nixops_proxmox.kinds.machine.errands.restoring import Restore, find_standing
from nixops_proxmox.kinds.machine.ports import Clock
from nixops_proxmox.model import Archive, Machine, Phase, Vm
from nixops_proxmox.operations.backups import list_archives
from nixops_proxmox.operations.pursuit import Pursuit
from nixops_proxmox.pve.cluster.containers import NO_PROOF
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor
from nixops_proxmox.pve.vm.container import restored_volumes, unsaved_mounts
from nixops_proxmox.pve.vm.identity import find_mark
from nixops_proxmox.pve.wire.properties import drives_of, is_cdrom, storage_of
from nixops_proxmox.reach.patience import Patience
from nixops_proxmox.spelling import Verb, command

USUAL = Patience()


@dataclass(frozen=True)
class Chosen:
    """A backup and the configuration that is in it."""

    archive: Archive
    config: Mapping[str, str]
    uuid: str

    def whose(self) -> str:
        name = self.config.get("name") or self.config.get("hostname", "a VM without a name")
        mark = find_mark(self.config.get("description", ""))
        marked = f", marked as {mark.machine!r} of the deployment {mark.deployment!r}" if mark is not None else ""
        return f"{name}, with the UUID {self.uuid}{marked}"


def choose_archive(hypervisor: PveHypervisor, machine: Machine, wanted: str = "", *, foreign: bool = False) -> Chosen:
    """The backup, or the newest of ours. Only looks. Raises NeedsPermission if another machine is in it, unless
    `foreign`."""
    archive = _pick(list_archives(hypervisor, machine.facts), wanted, machine.name)
    config = hypervisor.client.get_archive_config(archive.node, archive.volume)
    chosen = Chosen(archive, config, hypervisor.kind.uuid_of(config))
    if chosen.uuid == machine.facts.uuid.lower():
        return chosen
    if not chosen.uuid:
        raise PveRefused(f"{machine.name}: what is in {archive.volume} has no UUID to know it by")
    if machine.facts.container:
        raise PveRefused(f"{machine.name}: {archive.volume} holds another machine: {chosen.whose()}; {NO_PROOF}")
    if not foreign:
        raise NeedsPermission(
            f"{machine.name}: {archive.volume} holds another machine: {chosen.whose()}; nothing was done",
            hint="take a backup of its own;"
            f" {command(Verb.RESTORE, '--foreign', machine.name, archive.volume)} makes this one the machine",
        )
    return chosen


def restore(
    hypervisor: PveHypervisor, pursuit: Pursuit, archive: str = "", *, foreign: bool = False, boot: float = USUAL.boot
) -> Machine:
    """Bring a machine back to what it was in the backup (default: the newest of ours). It runs afterwards if it ran
    before. A machine whose VM is lost comes back with its identity. `foreign`: the backup of another machine becomes
    this one, which has `boot` seconds to tell its host key."""
    chosen = choose_archive(hypervisor, pursuit.machine, archive, foreign=foreign)
    pursuit.machine = pursuit.as_seen()

    def fits(machine: Machine) -> None:
        _refuse_unfit(hypervisor, machine, chosen, _find_standing(hypervisor, machine))

    def read_key(machine: Machine) -> str:
        return _read_key(hypervisor, machine, boot, pursuit.world.clock)

    machine = pursuit.run(Restore(chosen.archive, chosen.uuid, fits=fits, read_key=read_key))
    return pursuit.to(Phase.READY) if machine.phase is Phase.RUNNING else machine


def _pick(archives: Sequence[Archive], wanted: str, name: str) -> Archive:
    fitting = [one for one in archives if (one.volume == wanted if wanted else one.ours)]
    if not fitting:
        have = ", ".join(one.volume for one in archives) or "none"
        what = f"no backup {wanted!r} of it" if wanted else "no backup of it that is marked as its own"
        raise NotFound(f"{name}: there is {what}", hint=f"there are: {have}")
    return fitting[-1]


def _find_standing(hypervisor: PveHypervisor, machine: Machine) -> Vm | None:
    """None: nothing stands at the machine's VMID. Raises StateError for what is not ours, with the way on."""
    facts = machine.facts
    standing = find_standing(hypervisor, facts)
    if standing is not None:
        return standing
    guest, uuid = hypervisor.guest_at(facts.vmid)
    if guest is None or hypervisor.find_remains(facts):
        return None
    what = f"the UUID {uuid}" if uuid else "no UUID"
    raise StateError(
        f"{machine.name}: at its VMID {facts.vmid}, on {guest.node}, stands {guest.name or 'a guest'} with {what},"
        f" and the machine's is {facts.uuid}; nothing was done",
        hint=f"if a restore made this of the machine, `qm set {facts.vmid} --smbios1 uuid={facts.uuid}` on"
        f" {guest.node} makes it the machine again, and the same command overwrites it; if it is somebody else's,"
        " it must go to another VMID first",
    )


def _refuse_unfit(hypervisor: PveHypervisor, machine: Machine, chosen: Chosen, standing: Vm | None) -> None:
    """What PVE would refuse only when the machine was stopped already, or when its disks were gone."""
    archive = chosen.archive
    node = standing.node if standing is not None else archive.node
    if standing is not None and standing.protected:
        raise NeedsPermission(
            f"{machine.name}: {hypervisor.kind.word} {standing.vmid} is protected, so PVE will not overwrite it",
            hint="set `protection = false` and deploy, then restore it",
        )
    if node != archive.node and not archive.shared:
        raise NotFound(
            f"{machine.name}: it is on {node}, which cannot read {archive.volume}: that is on {archive.node}",
            hint=f"migrate the machine to {archive.node} first, or copy the backup to a storage that both have",
        )
    _refuse_losses(machine, chosen, standing)
    drives = drives_of(chosen.config).values()
    mounts = restored_volumes(chosen.config) if machine.facts.container else {}
    wanted = {storage_of(drive.get("file", "")) for drive in drives if not is_cdrom(drive)} - {""}
    wanted |= {storage_of(str(mount)) for mount in mounts.values()}
    have = {one.storage for one in hypervisor.resources().storages if one.available and one.node == node}
    if missing := sorted(wanted - have):
        raise NotFound(
            f"{machine.name}: the disks in {archive.volume} were on {', '.join(missing)}, which {node} now lacks",
            hint="make the storage available there first: PVE restores disks to where they were",
        )


def _refuse_losses(machine: Machine, chosen: Chosen, standing: Vm | None) -> None:
    """PVE deletes all mount points of a container that it overwrites, and most are in no backup."""
    lost = unsaved_mounts(standing.config, chosen.config) if standing is not None and machine.facts.container else []
    if lost:
        adopt = command(Verb.VOLUME_ADOPT, "NAME", "--disk", f"{machine.name}:{lost[0].partition(' ')[0]}")
        raise NeedsPermission(
            f"{machine.name}: {chosen.archive.volume} has nothing of {', '.join(lost)}, and a restore would delete it",
            hint=f"{adopt} makes it a volume, which stays; or set its `backup = true`, and take another backup",
        )


def _read_key(hypervisor: PveHypervisor, machine: Machine, boot: float, clock: Clock) -> str:
    """Only the agent of what was restored can tell the host key that it has."""
    node = hypervisor.find_node(machine.facts) or machine.facts.node
    try:
        agent = Agent(hypervisor.client, node, machine.facts.vmid, clock=clock)
        agent.wait_for_agent(boot, USUAL.growth)
        return read_host_key(agent.read_file)
    except Locked:
        raise
    except DeployError as error:
        raise StateError(
            f"{machine.name}: it was restored and runs, but its agent did not tell its host key: {error.message}",
            hint=f"when its agent answers: {command(Verb.DESTROY, '--forget', machine.name)} and then"
            f" {command(Verb.RECOVER)} record it with its key",
        ) from error
