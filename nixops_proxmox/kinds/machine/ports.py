"""What the core needs from outside. Adapters satisfy these by shape. mypy checks the fit in `compose`.

Every method may raise the errors of `nixops_proxmox.errors`. Every wait has a deadline of its own and says, on
giving up, which layer is missing. Nothing here retries a call whose outcome is unknown: that is the step's business.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from nixops_proxmox.core import ports
from nixops_proxmox.core.ports import NoteTask
from nixops_proxmox.model import (
    Archive,
    Awaiting,
    Bearer,
    Booted,
    Change,
    Completed,
    Endpoint,
    Facts,
    FileForDisk,
    GrownDisk,
    GuestDisk,
    Job,
    Machine,
    OneBoot,
    Place,
    Probation,
    Transfer,
    Vm,
)
from nixops_proxmox.spec import DeploySpec, Disk, MachineSpec, Sink


class Saves(Protocol):
    """Snapshots and backups of our VMs. Every effect tells its task's UPID, and waits."""

    def snapshots(self, facts: Facts) -> Mapping[str, bool]:
        """By name, the oldest first: is it complete?"""
        ...

    def can_snapshot(self, facts: Facts) -> bool:
        """Whether PVE takes snapshots of all of its disks."""
        ...

    def uuid_in_snapshot(self, facts: Facts, name: str) -> str:
        """The UUID that the VM had when the snapshot was taken, in lower case."""
        ...

    def take_snapshot(self, facts: Facts, name: str, note: NoteTask, *, description: str, ram: bool) -> None: ...
    def delete_snapshot(self, facts: Facts, name: str, note: NoteTask) -> None: ...
    def return_to_snapshot(self, facts: Facts, name: str, note: NoteTask) -> None: ...

    def archives(self, facts: Facts) -> Sequence[Archive]:
        """Every backup of the machine's VMID, the oldest first."""
        ...

    def choose_storage(self, facts: Facts) -> str:
        """Where to back the VM up to. Raises NotFound if no storage takes backups."""
        ...

    def back_up(self, facts: Facts, storage: str, mode: str, note: NoteTask) -> None: ...
    def delete_archive(self, node: str, volume: str, note: NoteTask) -> None: ...

    def restore(self, facts: Facts, archive: Archive, note: NoteTask, *, over: str, storage: str = "") -> None:
        """Make the VM as it is in the backup. `over`: the UUID of the VM that stands there. Empty: none does.
        `storage`: for all of its disks. Empty: each goes where it was."""
        ...


class Moves(Protocol):
    """Our VMs taken to other nodes."""

    def foresee(self, facts: Facts, spec: MachineSpec, target: str) -> Transfer:
        """Only looks: what a migration would be, and what forbids it. `target` empty: one is chosen; PveRefused if no
        node is left."""
        ...

    def migrate(self, facts: Facts, migration: Transfer, note: NoteTask) -> None:
        """Live if it runs; waits until it is there."""
        ...


class Discs(Protocol):
    """A machine's own small CD, which its system reads at its first boot. It holds a secret, and soon goes."""

    def choose(self, vm: Vm, spec: MachineSpec, uuid: str) -> str:
        """The volume ID that the machine's CD has on the VM's node. PveRefused if no storage there takes one."""
        ...

    def is_inserted(self, vm: Vm, volume: str) -> bool: ...

    def insert(self, vm: Vm, spec: MachineSpec, volume: str, content: bytes, note: NoteTask) -> None:
        """Put the CD on its storage and into our VM, which stands still. PVE's own cloud-init drive leaves the VM: a
        system reads the first that it finds."""
        ...

    def remove(self, facts: Facts, node: str, volume: str, note: NoteTask) -> None:
        """Eject it from our VM, if that is there, and delete the file; fine if it is gone."""
        ...


class Hypervisor(Protocol):
    """One PVE API. A VM is ours if its SMBIOS UUID is the machine's. No other VM is ever touched."""

    @property
    def saves(self) -> Saves: ...

    @property
    def moves(self) -> Moves: ...

    @property
    def discs(self) -> Discs: ...

    def find_remains(self, facts: Facts) -> str:
        """The node where a restore of ours failed and left an empty VM without a mark. Empty: there is none."""
        ...

    def find_node(self, facts: Facts) -> str | None:
        """Where our VM is, for what does no harm if it has moved. A look of a moment ago is good enough."""
        ...

    def find_vm(self, facts: Facts, *, power: bool = True) -> Vm | None:
        """Our VM, wherever it is now. None only if the cluster says for certain that there is none, and never because
        we may not see it (PermissionDenied). Without `power`, it does not ask whether the VM runs."""
        ...

    def find_bearers(self, deployment: str, machine: str, besides: Collection[int]) -> Sequence[Bearer]:
        """The VMs that bear this machine's mark, wherever they are, but those with VMIDs in `besides`."""
        ...

    def choose_place(self, spec: MachineSpec) -> Place:
        """A node that fits the spec (online, storages, bridges, ISO, most free memory) and a VMID not in use."""
        ...

    def create_vm(self, spec: MachineSpec, machine: Machine, note: NoteTask, keys: Sequence[str] = ()) -> None:
        """Create VM and disks and wait. Raises VmidTaken if the VMID belongs to somebody else. `keys`: who may log in
        to a container before it has its identity."""
        ...

    def first_key(self, facts: Facts) -> str:
        """What tells the host key that a container has before its first start: a public key, or its fingerprint in the
        place of the key. Empty for a VM, which gets ours on its disk."""
        ...

    def start_vm(self, facts: Facts, note: NoteTask) -> None:
        """Start and wait until it runs. A running VM is fine."""
        ...

    def stop_vm(self, facts: Facts, note: NoteTask) -> None:
        """Power off, hard, and wait. A stopped VM is fine."""
        ...

    def shut_down_vm(self, facts: Facts, note: NoteTask, timeout: float) -> None:
        """Ask the guest to shut down and wait. After `timeout` seconds power it off."""
        ...

    def wait_for_task(self, upid: str) -> None:
        """Wait for a task of an earlier run. Raises TaskFailed, or NotFound if PVE has forgotten it."""
        ...

    def find_task(self, facts: Facts, kind: str) -> str:
        """The UPID of a task of that type that runs now for the machine's VMID. Empty: none does."""
        ...

    def boots_installer(self, vm: Vm, spec: MachineSpec) -> bool:
        """Would the VM boot the installer if it was started now?"""
        ...

    def runs_installer(self, vm: Vm) -> bool:
        """Was the VM, if it runs, booted from the installer, whatever it boots next?"""
        ...

    def set_boot(self, vm: Vm, spec: MachineSpec, *, installer: bool) -> None:
        """Boot from the installer ISO (inserted) or from the disk (ISO ejected), from the next start on."""
        ...

    def changes(self, vm: Vm, spec: MachineSpec, machine: Machine) -> Sequence[Change]:
        """How the VM differs from the description, semantically. What the description leaves unset is no difference."""
        ...

    def needs_stop(self, vm: Vm, spec: MachineSpec) -> Sequence[str]:
        """The keys of a VM that runs whose changes PVE makes only while it is stopped."""
        ...

    def leftovers(self, vm: Vm, spec: MachineSpec, machine: Machine) -> Sequence[str]:
        """What the VM has beyond the description and keeps, a line each, with what resets it."""
        ...

    def strangers(self, vm: Vm, spec: MachineSpec, machine: Machine) -> Sequence[Change]:
        """Described disks in whose slot is a volume that is not the machine's own: why, and what to do."""
        ...

    def losses(self, vm: Vm, machine: Machine) -> Sequence[str]:
        """Volumes that `destroy_vm` deletes beside the disks that we made: detached ones, and those added by hand."""
        ...

    def volumes(self, vm: Vm) -> Mapping[str, str]:
        """PVE's names of the disk volumes that the VM has now, whatever is pending, by slot."""
        ...

    def lock_told(self, vm: Vm) -> str:
        """Who holds the VM's lock, and since when, in a sentence. Empty: it has no lock."""
        ...

    def apply_changes(self, vm: Vm, spec: MachineSpec, machine: Machine, note: NoteTask) -> Sequence[str]:
        """Make the VM as described. A removed disk is detached, never destroyed. Returns why devices could not be
        plugged in or out while it runs: they wait for a restart."""
        ...

    def uuid_at(self, vmid: int) -> str:
        """The UUID of whatever stands at the VMID now, lower case. Empty: nothing does, or it has none."""
        ...

    def give_mark(self, machine: Machine, uuid: str) -> Vm:
        """The VM with this UUID, which a backup of another machine left at the machine's VMID, becomes the machine's,
        unless it is already."""
        ...

    def put_mark(self, vm: Vm, machine: Machine) -> None:
        """Write the machine's mark into the VM's notes and tags, and give it the machine's name. All else stays."""
        ...

    def retire_vm(self, vm: Vm) -> None:
        """See to it that our VM, which stands still, does not start with its node."""
        ...

    def macs(self, vm: Vm) -> tuple[str, ...]:
        """Lower case, in the order of the NICs."""
        ...

    def destroy_vm(self, facts: Facts, note: NoteTask, *, ran: bool = True) -> None:
        """Stop and delete our VM and all its volumes. Does nothing without a VM. NeedsPermission if it is protected.
        One that never `ran` is only stopped if PVE says that it runs."""
        ...


class VolumeKeeper(Protocol):
    """The disks of the deployment that outlive its machines. A machine has those attached that its description names;
    before its VM goes, all of them are parked in another."""

    def changes(self, spec: MachineSpec, vm: Vm) -> Sequence[Change]:
        """Volumes that are to be attached, grown or parked. One is parked only while the VM stands still."""
        ...

    def unwanted(self, spec: MachineSpec, vm: Vm) -> Sequence[str]:
        """The names of attached volumes that the description does not name any more."""
        ...

    def disks(self, spec: MachineSpec) -> Sequence[Disk]:
        """The described volumes as disks, of which the guest can make use: their names stand for slots."""
        ...

    def used(self, spec: MachineSpec) -> Mapping[str, int]:
        """By the slots of `disks`, for described volumes that were made larger: the bytes that guests use so far."""
        ...

    def note_grown(self, slot: str) -> None:
        """The guest uses all of this disk now. Does nothing if it is no volume."""
        ...

    def settle(self, machine: Machine, spec: MachineSpec) -> None:
        """Attach the described volumes. Park the others, if the VM is stopped. What is right already stays."""
        ...

    def park_all(self, machine: Machine) -> None:
        """Park every volume that the machine's VM has, which stands still. Raises if one cannot be parked, or if one
        that the machine had is found nowhere."""
        ...

    def refuse_rollback(self, machine: Machine, snapshot: str) -> None:
        """NeedsPermission if the snapshot knows other volumes than the VM has: PVE would detach them."""
        ...

    def attached(self, machine: Machine) -> Sequence[str]:
        """The names of the volumes that the record shows attached to the machine."""
        ...


class Voice(Protocol):
    """Scripts in a guest, by a way that needs no network."""

    def run(self, script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed: ...


class Shell(Protocol):
    """Commands in a guest, over SSH, with the host key proven."""

    @property
    def endpoint(self) -> Endpoint: ...

    def run(self, script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed:
        """Run a `/bin/sh` script. ConnectionLost if it broke on the way."""
        ...

    def start_job(self, name: str, script: str) -> None:
        """Start a detached job, unless one of that name exists, running or done."""
        ...

    def find_job(self, name: str) -> Job: ...

    def discard_job(self, name: str) -> None:
        """Set the record of a job that is not running aside, so that the name can be started again."""
        ...

    def wait_for_job(self, name: str, *, timeout: float, tell: Callable[[str], None]) -> Job:
        """Wait until the job has ended. Reconnects by itself. `tell` gets the log's last line when it changes."""
        ...


class Loader(Protocol):
    """The boot loader of a guest that runs an installed system."""

    def stage(self, system: str, shell: Shell, *, forgets: bool = False) -> OneBoot:
        """The next boot takes that system, which is in the guest's store, and the one after it takes the system that
        runs now. Nothing that runs changes. `forgets`: the firmware has other variables after a stop. Safe to repeat.
        Raises ActivationFailed."""
        ...

    def unstage(self, shell: Shell) -> None:
        """The next boot takes the default."""
        ...

    def booted(self, shell: Shell) -> Booted: ...

    def keep(self, system: str, shell: Shell) -> int:
        """The system that was booted becomes the current generation and the default. The generation's number. Safe to
        repeat. Raises ActivationFailed."""
        ...


class HookRunner(Protocol):
    """What runs the user's own commands here, before and after a machine is changed."""

    def has(self, when: str) -> bool:
        """Whether there is a command for that."""
        ...

    def run(self, when: str, machine: Machine, spec: MachineSpec, system: str) -> None:
        """Run it to its end; it is told of the machine. `system`: the wanted one. Raises HookFailed."""
        ...


class Courier(Protocol):
    """What brings a machine the keys of its description's `deployment.keys`."""

    def paths(self) -> Mapping[str, str]:
        """Where they will be, by name."""
        ...

    def placed(self, machine: Machine) -> Sequence[FileForDisk]:
        """The files of `deployment.files`. ConfigError if one cannot be read."""
        ...

    def find_lacking(self, machine: Machine, shell: Shell) -> Sequence[str]:
        """The names of those that are not there, or not as described. A key that a command prints only has to be there:
        commands may ask their user for something. ConfigError if a file cannot be read."""
        ...

    def send(self, machine: Machine, shell: Shell) -> Sequence[str]:
        """Write them where they belong. Safe to repeat. Returns the names of those whose user or group the system does
        not have. ConfigError if one cannot be read, and then none was sent; GuestError."""
        ...


@dataclass(frozen=True)
class InstallerSeen:
    """What the agent told about the live system that is running."""

    boot_id: str
    host_keys: tuple[str, ...]
    facts: Facts  # with addresses and endpoint of the installer


class Guest(Protocol):
    """The OS inside, through the agent and then through SSH."""

    def enter_installer(self, machine: Machine, spec: MachineSpec, *, keys: Sequence[str] = ()) -> InstallerSeen:
        """Wait for the installer's agent, see that it is the installer, authorize our ephemeral key (and `keys`), read
        its host keys, and prove an endpoint. GuestLost if the installed system answers instead."""
        ...

    def installer_shell(self, machine: Machine, spec: MachineSpec) -> Shell:
        """The way into the installer. Enters again if this process has not. GuestLost if it is another boot
        than `machine.facts.boot_id`."""
        ...

    def list_disks(self, shell: Shell, machine: Machine, spec: MachineSpec) -> Sequence[GuestDisk]:
        """The guest's disks in the order of `spec.disks`, told apart by serial. Raises WrongDisk if one is missing."""
        ...

    def prove_disks(
        self, shell: Shell, machine: Machine, spec: MachineSpec, accounted: Collection[str]
    ) -> Sequence[GuestDisk]:
        """The guest's disks in the order of `spec.disks`, each proven to be the declared one (serial, size). Raises
        WrongDisk if one is not, or carries data and its slot is not among those whose content is accounted for."""
        ...

    def grow_disk(
        self, shell: Shell, machine: Machine, spec: MachineSpec, disk: Disk, tell: Callable[[str], None]
    ) -> GrownDisk:
        """Take a disk that was made larger into use up to its end, while the guest runs: partition, LUKS, LVM, file
        system. It looks before it acts, so a run that broke off goes on. WrongDisk if it is not there."""
        ...

    def foresee_growth(self, shell: Shell, machine: Machine, spec: MachineSpec, disk: Disk) -> GrownDisk:
        """What `grow_disk` would grow. Changes nothing."""
        ...

    def introduce(
        self, machine: Machine, spec: MachineSpec, files: Mapping[str, tuple[str, int]], authorized: Sequence[str]
    ) -> None:
        """Wait for a copied system's agent. Put files (text and mode, by path from the root) and keys into it, and have
        its sshd take the host key among them. Before that, no login is possible."""
        ...

    def meet_system(self, machine: Machine, spec: MachineSpec) -> Facts:
        """Wait for the installed system, learn its addresses, prove the best endpoint by the machine's host key."""
        ...

    def system_shell(self, machine: Machine, spec: MachineSpec) -> Shell:
        """The way into the installed system, by the endpoint in the facts. Looks for another when that is silent."""
        ...

    def new_shell(self, machine: Machine, spec: MachineSpec) -> Shell:
        """A new login, by one race of all addresses that the machine has now. No connection from before is used.
        NoEndpoint says what each address did."""
        ...

    def voice(self, machine: Machine, spec: MachineSpec) -> Voice | None:
        """The way in by the hypervisor. None where there is none."""
        ...

    def ailments(self, shell: Shell, machine: Machine, spec: MachineSpec) -> Sequence[str]:
        """What of `deploy.health` does not hold now, a sentence each."""
        ...

    def complaints(self, voice: Voice) -> str:
        """What the system itself says of what fails in it."""
        ...


class Builder(Protocol):
    """What Nix does for a machine. A door that activates systems itself uses one that wants nothing."""

    def wanted_system(self, machine: Machine) -> str:
        """The store path of the system the machine should run. Empty: nothing is asked of us. It is built, unless its
        facts say that the machine has it."""
        ...

    def copy_system(self, system: str, machine: Machine, spec: MachineSpec, shell: Shell, *, into_target: bool) -> None:
        """Copy the closure, built, to the guest, where nothing collects it. `into_target`: into the installer's /mnt
        instead of its own store. `shell`: the way into the guest."""
        ...

    def active_system(self, shell: Shell) -> str: ...

    def inactive_reason(self, shell: Shell, wanted: str) -> str:
        """Why the wanted system does not count as active, in a sentence for people."""
        ...

    def activate(self, system: str, shell: Shell) -> int:
        """Make it the next generation and switch to it. Returns the generation number. SwitchRefused: it waits for a
        boot."""
        ...

    def begin_probation(
        self, system: str, shell: Shell, number: str, deploy: DeploySpec, generation: int | None = None
    ) -> Probation | None:
        """Switch to it on probation, and wait until it is active, or is not going to be. `generation`: the one that it
        is already. None: the guest runs no system to go back to, and nothing was done."""
        ...

    def find_probation(self, voice: Voice) -> Probation | None:
        """What the guest says of its last probation since it booted. None if what it says makes no sense."""
        ...

    def confirm_probation(self, voice: Voice, number: str) -> Probation | None:
        """Make what is on probation the system that boots, unless it is too late. Waits for the end of it."""
        ...

    def refuse_probation(self, voice: Voice, number: str, why: str) -> Probation | None:
        """Go back to the system before. Waits for the end of it."""
        ...

    def find_awaiting(self, system: str, shell: Shell) -> Awaiting:
        """What of the system only a boot takes up, held against what the guest was booted with. Changes nothing."""
        ...


class Images(Protocol):
    """Images of disks that are files here, and go to a storage before a machine is made of one."""

    def check(self, spec: MachineSpec) -> None:
        """Have the machine's image built, if Nix builds it, and look at it. ConfigError or SpecError if no machine can
        be made of it."""
        ...

    def put(self, machine: Machine, spec: MachineSpec) -> MachineSpec:
        """The image is on a storage of the machine's node, once, and the description names that volume. One that names
        a volume already stays as it is."""
        ...


class KeyStore(Protocol):
    """Private keys, in files of mode 0600 outside of the state."""

    def host_key(self, uuid: str) -> tuple[str, str]:
        """(private in OpenSSH format, public) of the machine. Made at the first call."""
        ...

    def has_host_key(self, uuid: str) -> bool: ...

    def keep_host_key(self, uuid: str, private: str) -> None:
        """Take over a private key that was read from the guest itself."""
        ...

    def next_host_key(self, uuid: str) -> tuple[str, str]:
        """The same, of the one that it gets in the place of its own. Made at the first call."""
        ...

    def forget_next_host_key(self, uuid: str) -> None: ...

    def forget(self, uuid: str) -> None:
        """Remove the machine's private key, if there is one."""
        ...

    def first_stage_key(self, uuid: str) -> tuple[str, str]:
        """The same for the SSH server of its first stage, which never has the machine's own key."""
        ...

    def authorized_keys(self, spec: MachineSpec) -> Sequence[str]:
        """Who may log in: the deployment's own client key and those of the description."""
        ...

    def disk_key(self, uuid: str, volume: str, use: str) -> str:
        """A key of an encrypted volume (its LUKS UUID) of the machine. Made at the first call."""
        ...

    def find_disk_key(self, uuid: str, volume: str, use: str) -> str | None:
        """The same key, if this store has it."""
        ...

    def keep_disk_key(self, uuid: str, volume: str, use: str, key: str) -> None:
        """Put it into the place of the key with that use."""
        ...

    def forget_disk_keys(self, uuid: str, kept: Collection[tuple[str, str]]) -> None:
        """Remove the keys of the machine's volumes, but the `kept`: by volume and use."""
        ...


class Unlocker(Protocol):
    """The way to a first stage that asks for the passphrase of a disk."""

    def unlock(self, machine: Machine, key: str, tell: Callable[[str], None]) -> bool:
        """Give it the key. False if nothing asks: the system is up. StateError if the key does not open the disk, and
        NoPath if something else asks: it gets nothing."""
        ...


class FirstStages(Protocol):
    """The SSH servers of first stages."""

    def unlock(self, machine: Machine, port: int, host_key: str, key: str, tell: Callable[[str], None]) -> bool | None:
        """Hand the key to the one that proves itself by its host key. False if the system is up, None if none answers.
        StateError if the key does not open the disk, HostKeyChanged if another host key answers."""
        ...


class Escrow(Protocol):
    """Where recovery keys go."""

    def hand_over(self, sink: Sink, machine: Machine, name: str, volume: str, key: str) -> str:
        """Give the key of the machine's encrypted volume to the sink. It may have been given before. Returns what kind
        of place it is, for the record. EscrowFailed if the sink did not take it."""
        ...

    def hand_over_header(self, sink: Sink, machine: Machine, name: str, volume: str, header: bytes) -> str:
        """The same for a backup of the volume's header."""
        ...

    def find_key(self, place: str) -> str | None:
        """The key that lies at that place of the record, if it can be read here."""
        ...


Clock = ports.Clock
Reporter: TypeAlias = ports.Reporter[Machine]
Journal: TypeAlias = ports.Journal[Machine]
