"""A cluster, its guests and a record that outlive a process, and a fuse that breaks a run at its n-th boundary.

Strict on purpose: a sweep only sees what the cluster minds. A running VM cannot be started, a taken VMID cannot be
used, a job cannot be started twice, a partition script that runs on a disk which it has already written counts.
"""

import base64
import io
import json
import re
import shlex
import tarfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nixops_proxmox.core.ports import NoteTask
from nixops_proxmox.errors import (
    ConfigError,
    GuestLost,
    NoEndpoint,
    NotFound,
    PveRefused,
    SwitchRefused,
    VmidTaken,
    WrongDisk,
)
from nixops_proxmox.kinds.machine.encrypted import ROOT
from nixops_proxmox.kinds.machine.encryption import SLOTS, Use
from nixops_proxmox.kinds.machine.engine import pursue
from nixops_proxmox.kinds.machine.no_volumes import NoVolumes
from nixops_proxmox.kinds.machine.ports import InstallerSeen
from nixops_proxmox.kinds.machine.shape import Permissions, World
from nixops_proxmox.model import (
    Archive,
    Awaiting,
    Bearer,
    Booted,
    Change,
    Completed,
    Endpoint,
    Facts,
    GrownDisk,
    GuestDisk,
    Job,
    JobPhase,
    Machine,
    OneBoot,
    Phase,
    Place,
    Power,
    Probation,
    ProbationState,
    Transfer,
    Vm,
)
from nixops_proxmox.nixeval.activate import active_script, generations_script, rollback_script
from nixops_proxmox.spec import (
    ContainerSpec,
    DeploySpec,
    Disk,
    InstallSource,
    InstallSpec,
    MachineKind,
    MachineSpec,
    Nic,
    RootSpec,
    Sink,
)
from nixops_proxmox.spec.images import is_file_here
from nixops_proxmox.texts import script_marker
from tests.clocks import SteppedClock

SPEC = MachineSpec(
    name="web",
    disks=(Disk(slot="scsi0", storage="local-lvm", size=8 << 30),),
    network=(Nic(slot="net0", bridge="vmbr0"),),
    memory=1024,
    install=InstallSpec.model_validate({"from": "iso", "iso": "local:iso/nixos.iso", "partition": "make-partitions"}),
)
COPIES = {
    "image": SPEC.model_copy(
        update={"install": InstallSpec.model_validate({"from": "image", "image": "local:import/a.raw"})}
    ),
    "file": SPEC.model_copy(update={"install": InstallSpec.model_validate({"from": "image", "image": "./a.raw"})}),
    "template": SPEC.model_copy(
        update={"install": InstallSpec.model_validate({"from": "template", "template": "9000"})}
    ),
    "cloud-init": SPEC.model_copy(
        update={
            "install": InstallSpec.model_validate(
                {"from": "image", "image": "local:import/a.raw", "identity": "cloud-init"}
            ),
            "agent": False,
        }
    ),
}
CONTAINER = MachineSpec(
    name="web",
    kind=MachineKind.CONTAINER,
    network=SPEC.network,
    memory=1024,
    container=ContainerSpec(template="local:vztmpl/nixos.tar.xz", root=RootSpec(storage="local-lvm", size=8 << 30)),
)
PLAIN = "/nix/store/22222222222222222222222222222222-copied"
SYSTEM = "/nix/store/00000000000000000000000000000000-system"
TYPES = {"start_vm": "qmstart", "stop_vm": "qmstop", "shut_down_vm": "qmshutdown"}  # of PVE's tasks


def name_task(number: int, kind: str) -> str:
    """A UPID."""
    return f"UPID:pve1:{number:08X}:00000000:00000000:{kind}:100:root@pam:"


def text_in(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    packed = tar.extractfile(member)
    assert packed is not None
    return packed.read().decode()


class Crash(BaseException):
    """The process is gone; a BaseException, so that nothing can swallow it."""


class Fuse:
    """Counts boundaries, before and after every effect, and blows at the n-th."""

    def __init__(self, at: int = -1, bang: Callable[[], BaseException] = Crash) -> None:
        self.at, self.bang, self.count = at, bang, 0

    def boundary(self) -> None:
        self.count += 1
        if self.count - 1 == self.at:
            raise self.bang()


def kernel_of(system: str) -> str:
    """Of a system in whose name it stands: …-linux-6.12."""
    return system.partition("-linux-")[2] or "1"


def refuses(vm: "FakeVm", system: str) -> bool:
    """NixOS does not switch to it live. Only the machine's boot makes it the active one."""
    return "-dbus-broker" in system and vm.active != system


@dataclass
class FakeDisk:
    """An encrypted data disk. It outlives the system that opens it."""

    uuid: str
    luks: dict[int, str]  # by slot: what opens it


@dataclass
class FakeVm:
    vmid: int
    uuid: str
    memory: int
    running: bool = False
    disk: int = 8 << 30  # scsi0 has so many bytes
    partition: int = 8 << 30  # so many are in its partition
    filled: int = 8 << 30  # and so many in its file system
    node: str = "pve1"
    boot: str = "installer"  # what it boots from the next start on
    pending: set[str] = field(default_factory=set)
    system: str = ""  # what runs: installer, installed or nothing
    boots: int = 0
    jobs: dict[str, Job] = field(default_factory=dict)  # of the installer boot that runs
    partitioned: bool = False  # on disk
    mounted: bool = False  # in the installer
    installed: str = ""  # the system on disk
    active: str = ""
    kernel: str = ""  # of the system that was booted
    host_key: str = ""
    keeps_keys: bool = False  # whatever cloud-init is told next
    made_key: str = ""  # of a container: the one that PVE made
    bears: tuple[str, str] = ("", "")  # the mark of a VM that no record knows
    volume: str = "local-lvm:vm-100-disk-0"
    tray: str = ""  # the CD for its first boot
    lost: tuple[str, ...] = ()  # what else goes with it
    keys: dict[str, dict[int, str]] = field(default_factory=dict)  # by volume and slot: in the installer's memory
    luks: dict[int, str] = field(default_factory=dict)  # by slot: what opens the encrypted disk
    luks_uuid: str = ""
    data: dict[str, FakeDisk] = field(default_factory=dict)  # its encrypted data disks, by slot
    files: dict[str, str] = field(default_factory=dict)  # on the root: what the system opens each of them with
    brought: dict[str, str] = field(default_factory=dict)  # keys in the memory of the system, by their files' names
    sealed: str = ""  # the key that is sealed in the system
    first_keys: dict[str, str] = field(default_factory=dict)  # what the SSH server of its first stage has
    first_stage: str = ""  # and in what the boot loader starts
    loader: bool = True  # it takes along what it is told to
    tang: bool = True  # its servers answer
    opened: int = 0  # the boot in which a key was typed
    snapshots: dict[str, "FakeVm"] = field(default_factory=dict)
    thick: bool = False  # its storage takes none
    shows: str = ""  # the host key of its sshd; empty: whatever is asked for
    old_key: str = ""  # beside it
    refuses_key: bool = False  # its sshd reads its key elsewhere
    key_at: str = ""  # where it has its key, too
    generations: dict[int, str] = field(default_factory=dict)
    generation: int = 0  # the current one
    probation: Probation | None = None  # the last one since the boot
    well: bool = True  # a system on probation lets people in
    once: str = ""  # the system that only the next boot takes
    booted: str = ""
    tried: bool = False  # that was such a boot
    dead: set[str] = field(default_factory=set)  # systems that let nobody in when they were booted
    why_not_once: str = ""  # its boot loader cannot do that
    firmware: dict[str, str] = field(default_factory=dict)  # what its configuration says of that

    @property
    def on_probation(self) -> bool:
        return self.probation is not None and self.probation.state is ProbationState.WAITING

    def pass_time(self) -> None:
        """The seconds that a probation has go by with each look; then the guest goes back by itself."""
        if self.on_probation and self.probation is not None:
            left = self.probation.left - 10
            why = "no confirmation came" if left < 0 else ""
            state = ProbationState.WAITING if left >= 0 else ProbationState.REVERTED
            self.probation = replace(self.probation, left=left, state=state, why=why)

    def saved(self, *, ram: bool) -> "FakeVm":
        """A copy as a snapshot or a backup holds it."""
        copy = replace(self, pending=set(), jobs={}, snapshots={})
        if not ram:
            copy.stop()
        return copy

    def start(self) -> None:
        if self.running:
            raise PveRefused(f"VM {self.vmid} already running")
        self.running, self.boots, self.jobs, self.mounted = True, self.boots + 1, {}, False
        self.keys, self.brought, self.probation = {}, {}, None
        self.pending.clear()
        self.system = "installer" if self.boot == "installer" else "installed"
        if self.system == "installed":
            assert self.installed, "a disk without a system was booted"
            if self.tray:
                self.host_key = f"told by {self.tray}"
            self.tried, chosen, self.once = bool(self.once), self.once or self.installed, ""
            self.active, self.booted, self.kernel = chosen, chosen, kernel_of(chosen)
            for slot, disk in self.data.items():
                assert self.files[slot] in disk.luks.values(), f"a system was booted that does not open {slot}"

    def stop(self) -> None:
        self.running, self.system, self.jobs, self.mounted = False, "", {}, False
        self.pending.clear()


class Cluster:
    """What is out there; outlives every process."""

    def __init__(self) -> None:
        self.vms: dict[int, FakeVm] = {}
        self.calls: list[str] = []
        self.files: dict[str, bytes] = {}
        self.images: list[str] = []  # the nodes of those that were uploaded
        self.tasks: list[str] = []
        self.archives: list[tuple[Archive, FakeVm]] = []
        self.running: dict[str, Callable[[], None]] = {}  # tasks that have not come to their end

    def ours(self, facts: Facts) -> FakeVm | None:
        vm = self.vms.get(facts.vmid)
        return vm if vm is not None and vm.uuid == facts.uuid else None

    def get(self, facts: Facts) -> FakeVm:
        vm = self.ours(facts)
        if vm is None:
            raise NotFound(f"VM {facts.vmid} does not exist")
        return vm


class Shelf:
    """Images that are files here, and the storage that they are put on."""

    def __init__(self, cluster: Cluster, fuse: Fuse) -> None:
        self.cluster, self.fuse = cluster, fuse

    def check(self, spec: MachineSpec) -> None:
        if spec.install.image == "./absent.raw":
            raise ConfigError("there is no file absent.raw")

    def put(self, machine: Machine, spec: MachineSpec) -> MachineSpec:
        if not is_file_here(spec.install.image):
            return spec
        if not self.cluster.images:
            self.fuse.boundary()
            self.cluster.images.append(machine.facts.node)
            self.fuse.boundary()
        return spec.model_copy(update={"install": spec.install.model_copy(update={"image": "local:import/a.raw"})})


class Saves:
    def __init__(self, hypervisor: "Hypervisor") -> None:
        self.hypervisor, self.cluster = hypervisor, hypervisor.cluster

    def snapshots(self, facts: Facts) -> Mapping[str, bool]:
        return dict.fromkeys(self.cluster.get(facts).snapshots, True)

    def can_snapshot(self, facts: Facts) -> bool:
        return not self.cluster.get(facts).thick

    def uuid_in_snapshot(self, facts: Facts, name: str) -> str:
        return self.cluster.get(facts).snapshots[name].uuid

    def take_snapshot(self, facts: Facts, name: str, note: NoteTask, *, description: str, ram: bool) -> None:
        def act() -> None:
            vm = self.cluster.get(facts)
            if name in vm.snapshots:
                raise PveRefused(f"snapshot name {name!r} already used")
            vm.snapshots[name] = vm.saved(ram=ram)

        self.hypervisor.effect("take_snapshot", act, note)

    def delete_snapshot(self, facts: Facts, name: str, note: NoteTask) -> None:
        def act() -> None:
            if self.cluster.get(facts).snapshots.pop(name, None) is None:
                raise PveRefused(f"snapshot {name!r} does not exist")

        self.hypervisor.effect("delete_snapshot", act, note)

    def return_to_snapshot(self, facts: Facts, name: str, note: NoteTask) -> None:
        def act() -> None:
            vm = self.cluster.get(facts)
            back = replace(vm.snapshots[name].saved(ram=True), boots=vm.boots + 1, snapshots=vm.snapshots)
            self.cluster.vms[facts.vmid] = back

        self.hypervisor.effect("return_to_snapshot", act, note)

    def archives(self, facts: Facts) -> Sequence[Archive]:
        return [archive for archive, _ in self.cluster.archives]

    def choose_storage(self, facts: Facts) -> str:
        return "local"

    def back_up(self, facts: Facts, storage: str, mode: str, note: NoteTask) -> None:
        def act() -> None:
            vm, number = self.cluster.get(facts), len(self.cluster.archives) + 1
            archive = Archive(f"{storage}:backup/{number}", "pve1", 1 << 20, number, ours=vm.uuid == facts.uuid)
            self.cluster.archives.append((archive, vm.saved(ram=False)))

        self.hypervisor.effect("back_up", act, note)

    def delete_archive(self, node: str, volume: str, note: NoteTask) -> None:
        def act() -> None:
            (found,) = [one for one in self.cluster.archives if one[0].volume == volume]
            self.cluster.archives.remove(found)

        self.hypervisor.effect("delete_archive", act, note)

    def restore(self, facts: Facts, archive: Archive, note: NoteTask, *, over: str, storage: str = "") -> None:
        def begin() -> None:
            standing = self.cluster.vms.get(facts.vmid)
            if (standing.uuid if standing is not None else "") != over:
                raise PveRefused(f"VM {facts.vmid} is not what was looked at")
            if standing is not None and standing.running:
                raise PveRefused(f"VM {facts.vmid} is running")
            self.cluster.vms.pop(facts.vmid, None)  # what was on the disks is gone before the new is there

        def end() -> None:
            (saved,) = [vm for one, vm in self.cluster.archives if one.volume == archive.volume]
            self.cluster.vms[facts.vmid] = saved.saved(ram=False)

        self.hypervisor.task("qmrestore", begin, end, note)


class Moves:
    """Between two nodes."""

    def __init__(self, hypervisor: "Hypervisor") -> None:
        self.hypervisor, self.cluster = hypervisor, hypervisor.cluster

    def foresee(self, facts: Facts, spec: MachineSpec, target: str) -> Transfer:
        vm = self.cluster.get(facts)
        other = {"pve1": "pve2", "pve2": "pve1"}[vm.node]
        return Transfer(vm.node, target or other, vm.running, (vm.volume,))

    def migrate(self, facts: Facts, migration: Transfer, note: NoteTask) -> None:
        vm, target = self.cluster.get(facts), migration.target

        def begin() -> None:
            if any(":qmigrate:" in upid for upid in self.cluster.running):
                raise PveRefused("VM is locked (migrate)")
            if vm.node == target:
                raise PveRefused("target is local node.")
            assert vm.running is migration.live

        def end() -> None:
            vm.node, vm.volume = target, f"{vm.volume}-moved"

        self.hypervisor.task("qmigrate", begin, end, note)


class Discs:
    """Files and trays. A file that is there at the end of a run is a secret that lies around."""

    def __init__(self, hypervisor: "Hypervisor") -> None:
        self.hypervisor, self.cluster = hypervisor, hypervisor.cluster

    def choose(self, vm: Vm, spec: MachineSpec, uuid: str) -> str:
        return f"local:iso/{uuid}.iso"

    def is_inserted(self, vm: Vm, volume: str) -> bool:
        return self.cluster.vms[vm.vmid].tray == volume

    def insert(self, vm: Vm, spec: MachineSpec, volume: str, content: bytes, note: NoteTask) -> None:
        def attach() -> None:
            fake = self.cluster.vms[vm.vmid]
            assert not fake.running, "what is inserted into a running VM is read by nobody"
            fake.tray = volume

        self.hypervisor.effect("upload", lambda: self.cluster.files.update({volume: content}), note)
        self.hypervisor.effect("attach", attach)

    def remove(self, facts: Facts, node: str, volume: str, note: NoteTask) -> None:
        vm = self.cluster.ours(facts)
        if vm is not None and vm.tray:
            self.hypervisor.effect("eject", lambda: setattr(vm, "tray", ""))
        if volume in self.cluster.files:
            self.hypervisor.effect("delete_file", lambda: self.cluster.files.pop(volume, None), note)


class Hypervisor:
    def __init__(self, cluster: Cluster, fuse: Fuse) -> None:
        self.cluster, self.fuse = cluster, fuse

    @property
    def moves(self) -> Moves:
        return Moves(self)

    @property
    def discs(self) -> Discs:
        return Discs(self)

    @property
    def saves(self) -> Saves:
        return Saves(self)

    def effect(self, name: str, act: Callable[[], object], note: NoteTask | None = None) -> None:
        self.fuse.boundary()
        self.cluster.calls.append(name)
        act()
        self.fuse.boundary()
        if note is not None:
            upid = name_task(len(self.cluster.tasks), TYPES.get(name, name))
            self.cluster.tasks.append(upid)
            note(upid)
            self.fuse.boundary()

    def task(self, kind: str, begin: Callable[[], None], end: Callable[[], None], note: NoteTask) -> None:
        """One that goes on when whoever began it is gone; it ends when somebody waits for it."""
        upid = name_task(len(self.cluster.tasks), kind)

        def act() -> None:
            begin()
            self.cluster.tasks.append(upid)
            self.cluster.running[upid] = end

        self.effect(kind, act)
        note(upid)
        self.fuse.boundary()
        self.wait_for_task(upid)
        self.fuse.boundary()

    def find_vm(self, facts: Facts, *, power: bool = True) -> Vm | None:
        vm = self.cluster.ours(facts)
        if vm is None:
            return None
        told = None if not power else Power.RUNNING if vm.running else Power.STOPPED
        return Vm(vm.vmid, vm.node, vm.uuid, told, {"memory": str(vm.memory), **vm.firmware}, tuple(vm.pending))

    def find_node(self, facts: Facts) -> str | None:
        vm = self.cluster.ours(facts)
        return None if vm is None else vm.node

    def find_bearers(self, deployment: str, machine: str, besides: Collection[int]) -> Sequence[Bearer]:
        """Of machines that this cluster's own record does not know."""
        unknown = (
            vm for vm in self.cluster.vms.values() if vm.vmid not in besides and vm.bears == (deployment, machine)
        )
        return [Bearer(vm.vmid, "pve1", vm.uuid) for vm in unknown]

    def choose_place(self, spec: MachineSpec) -> Place:
        return Place("pve1", next(n for n in range(100, 200) if n not in self.cluster.vms))

    def first_key(self, facts: Facts) -> str:
        """PVE makes it when it unpacks the template."""
        self.fuse.boundary()
        return self.cluster.get(facts).made_key

    def create_vm(self, spec: MachineSpec, machine: Machine, note: NoteTask, keys: Sequence[str] = ()) -> None:
        def act() -> None:
            if machine.facts.vmid in self.cluster.vms:
                raise VmidTaken(f"VM {machine.facts.vmid} already exists")
            assert not is_file_here(spec.install.image), "PVE has no file of ours"
            vmid = machine.facts.vmid
            fake = self.cluster.vms[vmid] = FakeVm(vmid, machine.facts.uuid, spec.memory or 512)
            if spec.install.source is not InstallSource.ISO:
                fake.boot, fake.installed = "disk", PLAIN
            if spec.is_container:
                assert keys, "a container is made with who may log in first, or with nobody"
                fake.boot, fake.installed, fake.made_key = "disk", PLAIN, f"ssh-ed25519 SHA256:of-{vmid}"
            if spec.install.source is InstallSource.TEMPLATE:
                fake.memory = 128  # the template's, until the first configuration write

        self.effect("create_vm", act, note)

    def start_vm(self, facts: Facts, note: NoteTask) -> None:
        if not self.cluster.get(facts).running:
            self.effect("start_vm", lambda: self.cluster.get(facts).start(), note)

    def stop_vm(self, facts: Facts, note: NoteTask) -> None:
        self.effect("stop_vm", lambda: self.cluster.get(facts).stop(), note)

    def shut_down_vm(self, facts: Facts, note: NoteTask, timeout: float) -> None:
        self.effect("shut_down_vm", lambda: self.cluster.get(facts).stop(), note)

    def wait_for_task(self, upid: str) -> None:
        if upid not in self.cluster.tasks:
            raise NotFound("no such task")
        self.cluster.running.pop(upid, lambda: None)()

    def find_task(self, facts: Facts, kind: str) -> str:
        return next((upid for upid in self.cluster.running if f":{kind}:" in upid), "")

    def boots_installer(self, vm: Vm, spec: MachineSpec) -> bool:
        return self.cluster.vms[vm.vmid].boot == "installer"

    def runs_installer(self, vm: Vm) -> bool:
        return self.cluster.vms[vm.vmid].system == "installer"

    def set_boot(self, vm: Vm, spec: MachineSpec, *, installer: bool) -> None:
        def act() -> None:
            fake = self.cluster.vms[vm.vmid]
            fake.boot = "installer" if installer else "disk"
            if fake.running:
                fake.pending.add("boot")

        self.effect("set_boot", act)

    def leftovers(self, vm: Vm, spec: MachineSpec, machine: Machine) -> Sequence[str]:
        return ()

    def needs_stop(self, vm: Vm, spec: MachineSpec) -> Sequence[str]:
        return ()

    def strangers(self, vm: Vm, spec: MachineSpec, machine: Machine) -> Sequence[Change]:
        return ()

    def losses(self, vm: Vm, machine: Machine) -> Sequence[str]:
        return self.cluster.vms[vm.vmid].lost

    def volumes(self, vm: Vm) -> Mapping[str, str]:
        return {"scsi0": self.cluster.vms[vm.vmid].volume}

    def lock_told(self, vm: Vm) -> str:
        return ""

    def changes(self, vm: Vm, spec: MachineSpec, machine: Machine) -> Sequence[Change]:
        fake, want = self.cluster.vms[vm.vmid], str(spec.memory)
        size = spec.disks[0].size if spec.disks else fake.disk
        if fake.disk < size:
            return [Change("scsi0", f"{fake.disk}", f"{size}", outgrows=fake.disk)]
        if str(fake.memory) != want:
            return [Change("memory", str(fake.memory), want, restart=True)]
        return [
            Change(key, "", want, True, waiting=True, missing=key not in ("memory", "boot"))
            for key in sorted(fake.pending)
        ]

    def apply_changes(self, vm: Vm, spec: MachineSpec, machine: Machine, note: NoteTask) -> Sequence[str]:
        def act() -> None:
            fake = self.cluster.vms[vm.vmid]
            if fake.memory != spec.memory and fake.running:
                fake.pending.add("memory")
            fake.memory = spec.memory or 512
            fake.disk = max([fake.disk, *(disk.size for disk in spec.disks[:1])])

        self.effect("apply_changes", act, note)
        return ()

    def find_remains(self, facts: Facts) -> str:
        return ""

    def uuid_at(self, vmid: int) -> str:
        vm = self.cluster.vms.get(vmid)
        return "" if vm is None else vm.uuid

    def give_mark(self, machine: Machine, uuid: str) -> Vm:
        def act() -> None:
            vm = self.cluster.vms[machine.facts.vmid]
            assert vm.uuid in (uuid, machine.facts.uuid)
            vm.uuid = machine.facts.uuid

        self.effect("give_mark", act)
        vm = self.find_vm(machine.facts)
        assert vm is not None
        return vm

    def put_mark(self, vm: Vm, machine: Machine) -> None:
        def act() -> None:
            self.cluster.vms[vm.vmid].bears = (machine.deployment, machine.name)

        self.effect("put_mark", act)

    def retire_vm(self, vm: Vm) -> None:
        self.effect("retire_vm", lambda: None)

    def macs(self, vm: Vm) -> tuple[str, ...]:
        return (f"bc:24:11:00:00:{vm.vmid % 100:02}",)

    def destroy_vm(self, facts: Facts, note: NoteTask, *, ran: bool = True) -> None:
        del ran
        if self.cluster.ours(facts) is not None:
            self.effect("destroy_vm", lambda: self.cluster.vms.pop(facts.vmid), note)


class Shell:
    def __init__(self, vm: FakeVm, fuse: Fuse, spec: MachineSpec, *, is_new: bool = False) -> None:
        self.vm, self.fuse, self.spec, self.boot, self.is_new = vm, fuse, spec, vm.boots, is_new

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("10.0.0.2")

    def run(self, script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed:
        self.fuse.boundary()
        if "/proc/self/mounts" in script:
            return Completed(0 if self.vm.mounted else 1)
        if script == generations_script():
            told = [f"{number} {system}" for number, system in self.vm.generations.items()]
            return Completed(0, "\n".join([*told, f"current system-{self.vm.generation}-link", ""]))
        if script == active_script():
            return Completed(0, self.vm.active)
        if "nix-env" in script:
            assert "--rollback" not in script, "it would go back once more if it was done again"
            self.vm.generation = next(n for n in self.vm.generations if script == rollback_script(n))
            self.vm.active = self.vm.installed = self.vm.generations[self.vm.generation]
            self.fuse.boundary()
            return Completed(0, f"nixops-proxmox: generation system-{self.vm.generation}-link\n")
        if script.startswith(script_marker("keys", ROOT)):
            with tarfile.open(fileobj=io.BytesIO(stdin)) as tar:
                self.vm.keys = {}
                for one in tar.getmembers():
                    volume, _, slot = one.name.partition(".")
                    self.vm.keys.setdefault(volume, {})[int(slot)] = text_in(tar, one)
        elif re.match(r"# \S+ luks-keys ", script):
            assert self.vm.system == "installed"
            with tarfile.open(fileobj=io.BytesIO(stdin)) as tar:
                self.vm.brought = {one.name: text_in(tar, one) for one in tar.getmembers()}
        elif done := self._work_on_slots(script, stdin):
            return done
        elif re.match(r"# \S+ rekey-", script):
            self._rekey(shlex.split(script.partition("\n")[0])[2:], stdin)
        elif "tar -x" in script:
            assert self.vm.mounted
            self.vm.host_key = "delivered"
        self.fuse.boundary()
        return Completed(0)

    def _rekey(self, words: Sequence[str], given: bytes) -> None:
        match words:
            case ["rekey-put", _]:
                with tarfile.open(fileobj=io.BytesIO(given)) as tar:
                    new = text_in(tar, tar.getmember("key.pub")).strip()
                self.vm.old_key = self.vm.old_key or (self.vm.shows if self.vm.shows != new else "")
                self.fuse.boundary()
                self.vm.shows = self.vm.shows if self.vm.refuses_key else new
            case ["rekey-back", _]:
                self.vm.shows, self.vm.old_key = self.vm.old_key or self.vm.shows, ""
            case ["rekey-clean", _]:
                self.vm.old_key = ""
            case ["rekey-move", _, to]:
                self.vm.key_at = to

    def _work_on_slots(self, script: str, given: bytes) -> Completed | None:
        """As cryptsetup does, one slot after the other. The scripts themselves are tried with a real one."""
        marker = shlex.split(script.partition("\n")[0])[2:]
        match marker:
            case ["luks-opened"]:
                how = "asked" if self.vm.opened == self.vm.boots else "sealed" if self.vm.sealed else "unknown"
                boot = f"00000000-0000-4000-8000-{self.vm.boots:012}"
                return Completed(0, f"nixops-proxmox-opened {boot} {1_800_000_000 + self.vm.boots} {how}\n")
            case ["luks-ssh", where]:
                assert (where == "/mnt") is (self.vm.system == "installer")
                with tarfile.open(fileobj=io.BytesIO(given)) as tar:
                    self.vm.first_keys = {one.name: text_in(tar, one) for one in tar.getmembers()}
                return Completed(0)
            case ["luks-first-stage"]:
                has = {"": "", self.vm.first_stage: "has"}.get(self.vm.sealed, "lacks /boot/initrd")
                return Completed(0, f"nixops-proxmox-first-stage {has}\n" if has else "")
            case ["luks-key", slot]:
                assert self.vm.system == "installed"
                return Completed(0, self.vm.files[slot]) if slot in self.vm.files else Completed(1)
            case [kind, uuid, *words] if kind.startswith("luks-"):
                volume = self._find(uuid)
                return None if volume is None else self._work_on(volume, kind, words, given.decode())
        return None

    def _find(self, uuid: str) -> str | None:
        """The volume of that UUID."""
        uuids = {ROOT: self.vm.luks_uuid} | {slot: disk.uuid for slot, disk in self.vm.data.items()}
        return next((volume for volume, theirs in uuids.items() if theirs == uuid), None)

    def _slots(self, volume: str) -> dict[int, str]:
        return self.vm.luks if volume == ROOT else self.vm.data[volume].luks

    def _work_on(self, volume: str, kind: str, words: Sequence[str], given: str) -> Completed | None:
        match [kind, *words]:
            case ["luks-header"]:
                return Completed(0, self._header(volume))
            case ["luks-backup"]:
                slots = "".join(f"{slot} {key}\n" for slot, key in sorted(self._slots(volume).items()))
                uuid = self.vm.luks_uuid if volume == ROOT else self.vm.data[volume].uuid
                header = b"LUKS\xba\xbe\0\2".ljust(168, b"\0") + f"{uuid}\0{slots}".encode()
                return Completed(0, base64.encodebytes(header).decode())
            case ["luks-test"]:
                opened = next((str(slot) for slot, key in sorted(self._slots(volume).items()) if key == given), "")
                return Completed(0, f"{self._header(volume)}nixops-proxmox-luks-opened {opened}\n")
            case ["luks-stage", slots, how]:
                return self._stage(volume, [int(slot) for slot in slots.split(",")], how)
            case ["luks-hand-on"]:
                new = self.vm.brought["root.2"]
                assert self.vm.luks.get(18) == new, "not staged"
                self.fuse.boundary()
                self.vm.sealed = self.vm.first_stage = new
                self.vm.brought = {}
                return Completed(0)
            case ["luks-settle", slots, emptied]:
                numbers = [[int(one) for one in text.split(",")] for text in (slots, emptied)]
                return self._settle(volume, *numbers)
        return None

    def _header(self, volume: str) -> str:
        slots = json.dumps({"keyslots": {str(slot): {} for slot in self._slots(volume)}})
        uuid = self.vm.luks_uuid if volume == ROOT else self.vm.data[volume].uuid
        return f"nixops-proxmox-luks {uuid}\n{slots}\n"

    def _put(self, luks: dict[int, str], slot: int, key: str) -> None:
        if luks.get(slot) == key:
            return
        self.fuse.boundary()
        luks.pop(slot, None)
        self.fuse.boundary()
        luks[slot] = key
        self.fuse.boundary()

    def _own_key(self, volume: str) -> list[str]:
        """What the system opens the volume with."""
        if volume != ROOT:
            return [self.vm.files[volume]]
        return [self.vm.luks[2]] if self.vm.tang and self.vm.sealed == self.vm.luks.get(2) else []

    def _stage(self, volume: str, slots: Sequence[int], how: str) -> Completed:
        luks = self._slots(volume)
        if not {*self.vm.brought.values(), *self._own_key(volume)} & {*luks.values()}:
            return Completed(90, "", "no key opens it")
        taken = [str(slot + 16) for slot in slots if slot + 16 in luks]
        if taken and how == "first":
            return Completed(91, "", taken[0])
        for slot in slots:
            self._put(luks, slot + 16, self.vm.brought[f"{volume}.{slot}"])
        if 2 in slots and volume == ROOT and not self.vm.tang:
            return Completed(1, "", "the tang server does not seal and unseal")
        return Completed(0)

    def _settle(self, volume: str, slots: Sequence[int], emptied: Sequence[int]) -> Completed:
        luks = self._slots(volume)
        new = {slot: self.vm.brought[f"{volume}.{slot}"] for slot in slots}
        assert all(key in (luks.get(slot + 16), luks.get(slot)) for slot, key in new.items()), "not staged"
        if 2 in slots:
            self.fuse.boundary()
            if volume == ROOT:
                self.vm.sealed = new[2]
                self.fuse.boundary()
                if not self.vm.loader:
                    return Completed(92, "", "/boot/initrd")
                self.vm.first_stage = new[2]
            else:
                self.vm.files[volume] = new[2]
        for slot in slots:
            self._put(luks, slot, new[slot])
        for slot in emptied:
            self.fuse.boundary()
            luks.pop(slot, None)
        self.fuse.boundary()
        self.vm.brought = {}
        return Completed(0, self._header(volume))

    def start_job(self, name: str, script: str) -> None:
        self.fuse.boundary()
        assert self.vm.system == "installer" and self.vm.boots == self.boot
        if name in self.vm.jobs:
            return
        self.vm.jobs[name] = Job(JobPhase.RUNNING)
        if name.startswith("partition"):
            self.vm.partitioned, self.vm.mounted = True, True
            self._encrypt(script)
        else:
            assert self.vm.mounted and self.vm.host_key, "installed without target or identity"
            self.vm.installed = SYSTEM
        self.fuse.boundary()

    def _encrypt(self, script: str) -> None:
        """The script has destroyed the keys that it made the volumes with, and put some of them into the system."""
        made = re.findall(r'luksFormat .*--uuid ([0-9a-f-]{36}).* "\$(root|DISK_\w+)"', script)
        if not made:
            return
        assert self.vm.keys, "an encrypted disk was made without keys"
        for uuid, device in made:
            volume = device.removeprefix("DISK_")
            if volume == ROOT:
                self.vm.luks, self.vm.luks_uuid = self.vm.keys[ROOT], uuid
                self.vm.sealed = self.vm.first_stage = self.vm.luks.get(SLOTS[Use.SEALED], "")
            else:
                self.vm.data[volume] = FakeDisk(uuid, self.vm.keys[volume])
        files = re.findall(r"cp \S+/(\w+)\.2 /mnt\S+/\1\.key", script)
        self.vm.files = {volume: self.vm.keys[volume][SLOTS[Use.SYSTEM]] for volume in files}
        self.vm.keys = {}

    def find_job(self, name: str) -> Job:
        return self.vm.jobs.get(name, Job(JobPhase.ABSENT))

    def discard_job(self, name: str) -> None:
        job = self.vm.jobs.pop(name, None)
        assert job is None or job.phase is not JobPhase.RUNNING

    def wait_for_job(self, name: str, *, timeout: float, tell: Callable[[str], None]) -> Job:
        self.fuse.boundary()
        job = self.vm.jobs[name] = Job(JobPhase.DONE, 0)
        return job


class Loader:
    """Of the guests. A boot takes the default, but for the one that was told another system."""

    def __init__(self, fuse: Fuse) -> None:
        self.fuse = fuse

    def stage(self, system: str, shell: Any, *, forgets: bool = False) -> OneBoot:
        vm: FakeVm = shell.vm
        assert forgets is (vm.firmware == {"bios": "ovmf"})
        self.fuse.boundary()
        assert vm.active and vm.active != system and not vm.tried, "nothing to go back to"
        if vm.why_not_once or forgets:
            return OneBoot(why=vm.why_not_once or "its firmware forgets it")
        number = next((one for one, has in vm.generations.items() if has == system), max(vm.generations, default=1) + 1)
        vm.generations[number] = system
        self.fuse.boundary()
        vm.installed, vm.once = vm.active, system
        self.fuse.boundary()
        return OneBoot(number, "GRUB")

    def unstage(self, shell: Any) -> None:
        self.fuse.boundary()
        shell.vm.once = ""
        self.fuse.boundary()

    def booted(self, shell: Any) -> Booted:
        return Booted(str(shell.vm.boots), shell.vm.booted)

    def keep(self, system: str, shell: Any) -> int:
        vm: FakeVm = shell.vm
        self.fuse.boundary()
        assert vm.booted == system and system not in vm.dead, "it was not seen well"
        vm.generation = next(one for one, has in vm.generations.items() if has == system)
        vm.installed, vm.tried = system, False
        self.fuse.boundary()
        return vm.generation


class Guest:
    def __init__(self, cluster: Cluster, fuse: Fuse) -> None:
        self.cluster, self.fuse = cluster, fuse

    def _installed(self, machine: Machine) -> FakeVm:
        """Its system, if it lets us in."""
        vm = self.cluster.get(machine.facts)
        if vm.booted in vm.dead:
            raise NoEndpoint("no address answers", attempts=["10.0.0.3:22: connection refused"])
        return vm

    def _installer(self, machine: Machine) -> FakeVm:
        vm = self.cluster.get(machine.facts)
        if vm.system != "installer":
            raise GuestLost(f"{machine.name}: the installer does not run")
        return vm

    def enter_installer(self, machine: Machine, spec: MachineSpec, *, keys: Sequence[str] = ()) -> InstallerSeen:
        self.fuse.boundary()
        vm = self._installer(machine)
        self.fuse.boundary()
        return InstallerSeen(str(vm.boots), ("ssh-ed25519 INSTALLER",), machine.facts)

    def installer_shell(self, machine: Machine, spec: MachineSpec) -> Shell:
        vm = self._installer(machine)
        if machine.facts.boot_id != str(vm.boots):
            raise GuestLost(f"{machine.name}: the installer was restarted")
        return Shell(vm, self.fuse, spec)

    def list_disks(self, shell: Any, machine: Machine, spec: MachineSpec) -> Sequence[GuestDisk]:
        return [GuestDisk(f"/dev/sd{'abc'[place]}", 8 << 30) for place, _ in enumerate(spec.disks)]

    def prove_disks(
        self, shell: Any, machine: Machine, spec: MachineSpec, accounted: Collection[str]
    ) -> Sequence[GuestDisk]:
        if shell.vm.partitioned and "scsi0" not in accounted:
            raise WrongDisk("the disk carries data that is not accounted for")
        return self.list_disks(shell, machine, spec)

    def grow_disk(
        self, shell: Any, machine: Machine, spec: MachineSpec, disk: Disk, tell: Callable[[str], None]
    ) -> GrownDisk:
        """Two rungs, each of which may be the last that this process sees."""
        vm = self.cluster.get(machine.facts)
        assert vm.system == "installed" and vm.disk >= disk.size, "grown before PVE had made it larger"
        for rung in ("partition", "filled"):
            self.fuse.boundary()
            setattr(vm, rung, vm.disk if rung == "partition" else vm.partition)
            self.fuse.boundary()
        return GrownDisk(disk.slot, ("partition 1", "ext4 /"), vm.filled)

    def foresee_growth(self, shell: Any, machine: Machine, spec: MachineSpec, disk: Disk) -> GrownDisk:
        return GrownDisk(disk.slot, ("partition 1", "ext4 /"))

    def introduce(
        self, machine: Machine, spec: MachineSpec, files: Mapping[str, tuple[str, int]], authorized: Sequence[str]
    ) -> None:
        self.fuse.boundary()
        vm = self.cluster.get(machine.facts)
        assert vm.system == "installed" and authorized
        assert spec.is_container or spec.install.source is not InstallSource.ISO
        assert not spec.is_container or machine.facts.first_key == vm.made_key, "nobody knows who answers"
        assert vm.memory == spec.memory, "booted before it was made what is described"
        vm.host_key = files[spec.ssh.host_key.lstrip("/")][0]
        vm.shows = files[f"{spec.ssh.host_key.lstrip('/')}.pub"][0].strip() if vm.shows else ""
        vm.keeps_keys = "ssh_deletekeys: false\n" in [text for text, _ in files.values()]
        self.fuse.boundary()

    def meet_system(self, machine: Machine, spec: MachineSpec) -> Facts:
        self.fuse.boundary()
        vm = self._installed(machine)
        assert vm.system == "installed" and vm.host_key
        prove(vm, machine)
        return replace(machine.facts, endpoint=Endpoint("10.0.0.3"))

    def system_shell(self, machine: Machine, spec: MachineSpec) -> Shell:
        prove(self._installed(machine), machine)
        return Shell(self._installed(machine), self.fuse, spec)

    def new_shell(self, machine: Machine, spec: MachineSpec) -> Shell:
        self.fuse.boundary()
        vm = self._installed(machine)
        vm.pass_time()
        if vm.on_probation and not vm.well:
            raise NoEndpoint("no address answers", attempts=["10.0.0.3:22: connection refused"])
        prove(vm, machine)
        return Shell(vm, self.fuse, spec, is_new=True)

    def voice(self, machine: Machine, spec: MachineSpec) -> Shell | None:
        return Shell(self.cluster.get(machine.facts), self.fuse, spec) if spec.agent else None

    def ailments(self, shell: Any, machine: Machine, spec: MachineSpec) -> Sequence[str]:
        return [f"tcp {port}: refused" for port in spec.deploy.health.tcp]

    def complaints(self, voice: Any) -> str:
        assert voice.vm.on_probation or voice.vm.tried, "the system before has nothing to say of it"
        return "sshd.service failed"


def prove(vm: FakeVm, machine: Machine) -> None:
    """A login needs one of the keys that are known."""
    if vm.shows and vm.shows not in machine.facts.host_keys:
        raise NoEndpoint("no address answers", attempts=["10.0.0.3:22: another host key"])


class Builder:
    def __init__(self, fuse: Fuse, system: str = SYSTEM) -> None:
        self.fuse, self.system = fuse, system

    def wanted_system(self, machine: Machine) -> str:
        return self.system

    def copy_system(self, system: str, machine: Machine, spec: MachineSpec, shell: Any, *, into_target: bool) -> None:
        self.fuse.boundary()

    def active_system(self, shell: Any) -> str:
        return "" if shell.vm.on_probation or shell.vm.tried else str(shell.vm.active)

    def inactive_reason(self, shell: Any, wanted: str) -> str:
        return f"{shell.vm.active} is active, and {wanted} is wanted"

    def find_awaiting(self, system: str, shell: Any) -> Awaiting:
        vm, kernel = shell.vm, kernel_of(system)
        changed = [f"kernel {vm.kernel} → {kernel}"] if kernel != vm.kernel else []
        return Awaiting(str(vm.boots), tuple(changed), ("dbus",) if refuses(vm, system) else ())

    def activate(self, system: str, shell: Any) -> int:
        self.fuse.boundary()
        shell.vm.installed = system
        if refuses(shell.vm, system):
            raise SwitchRefused("it takes effect only after a reboot")
        shell.vm.active = system
        shell.vm.generation = max(shell.vm.generations, default=1) + 1
        shell.vm.generations[shell.vm.generation] = system
        self.fuse.boundary()
        return 2

    def begin_probation(
        self, system: str, shell: Any, number: str, deploy: DeploySpec, generation: int | None = None
    ) -> Probation | None:
        self.fuse.boundary()
        vm: FakeVm = shell.vm
        assert not vm.on_probation, "two probations at once"
        if not vm.active:
            return None
        if refuses(vm, system):
            vm.installed = system
            return Probation(number, ProbationState.NEXT_BOOT, system)
        vm.probation = Probation(
            number,
            ProbationState.WAITING,
            system,
            vm.active,
            generation=generation or 0,
            boot=str(vm.boots),
            left=deploy.probation,
        )
        self.fuse.boundary()
        return vm.probation

    def find_probation(self, voice: Any) -> Probation | None:
        return voice.vm.probation or Probation(boot=str(voice.vm.boots))

    def confirm_probation(self, voice: Any, number: str) -> Probation | None:
        self.fuse.boundary()
        vm: FakeVm = voice.vm
        assert voice.is_new and vm.well, "it was not seen well"
        if vm.on_probation and vm.probation is not None and vm.probation.number == number:
            vm.active = vm.installed = vm.probation.system
            vm.generation = vm.probation.generation or max(vm.generations, default=1) + 1
            vm.generations[vm.generation] = vm.active
            vm.probation = replace(vm.probation, state=ProbationState.CONFIRMED, generation=vm.generation)
        self.fuse.boundary()
        return vm.probation

    def refuse_probation(self, voice: Any, number: str, why: str) -> Probation | None:
        self.fuse.boundary()
        vm: FakeVm = voice.vm
        if vm.on_probation and vm.probation is not None and vm.probation.number == number:
            vm.probation = replace(vm.probation, state=ProbationState.REVERTED, why=why, refused=True)
        self.fuse.boundary()
        return vm.probation


class Keys:
    def __init__(self) -> None:
        self.keys: dict[str, str] = {}
        self.following: dict[str, str] = {}
        self.disks: dict[tuple[str, str], str] = {}
        self.minted = 0

    def host_key(self, uuid: str) -> tuple[str, str]:
        return self.keys.setdefault(uuid, f"private of {uuid}"), f"ssh-ed25519 {uuid}"

    def first_stage_key(self, uuid: str) -> tuple[str, str]:
        return f"private of the first stage of {uuid}", f"ssh-ed25519 first stage of {uuid}"

    def next_host_key(self, uuid: str) -> tuple[str, str]:
        self.minted += uuid not in self.following
        number = self.following.setdefault(uuid, str(self.minted))
        return f"private {number}", f"ssh-ed25519 {number}"

    def forget_next_host_key(self, uuid: str) -> None:
        self.following.pop(uuid, None)

    def has_host_key(self, uuid: str) -> bool:
        return uuid in self.keys

    def keep_host_key(self, uuid: str, private: str) -> None:
        self.keys[uuid] = private

    def forget(self, uuid: str) -> None:
        self.keys.pop(uuid, None)
        self.disks.clear()

    def authorized_keys(self, spec: MachineSpec) -> Sequence[str]:
        return ["ssh-ed25519 CLIENT"]

    def disk_key(self, uuid: str, volume: str, use: str) -> str:
        self.minted += (volume, use) not in self.disks
        return self.disks.setdefault((volume, use), f"{use} {volume} {self.minted}")

    def find_disk_key(self, uuid: str, volume: str, use: str) -> str | None:
        return self.disks.get((volume, use))

    def keep_disk_key(self, uuid: str, volume: str, use: str, key: str) -> None:
        self.disks[volume, use] = key

    def forget_disk_keys(self, uuid: str, kept: Collection[tuple[str, str]]) -> None:
        self.disks = {which: key for which, key in self.disks.items() if which in kept}


class Vault:
    """A sink, which survives the process: by volume, what it was given last."""

    def __init__(self) -> None:
        self.held: dict[str, str] = {}
        self.headers: dict[str, bytes] = {}
        self.given = 0
        self.refuses = False
        self.is_readable = True
        self.fuse = Fuse()

    def hand_over(self, sink: Sink, machine: Machine, name: str, volume: str, key: str) -> str:
        self.fuse.boundary()
        if self.refuses:
            raise ConfigError("the sink is full")
        self.held[volume] = key
        self.given += 1
        self.fuse.boundary()
        return f"vault {volume}"

    def hand_over_header(self, sink: Sink, machine: Machine, name: str, volume: str, header: bytes) -> str:
        self.fuse.boundary()
        if self.refuses:
            raise ConfigError("the sink is full")
        self.headers[volume] = header
        self.fuse.boundary()
        return "vault"

    def find_key(self, place: str) -> str | None:
        return self.held.get(place.removeprefix("vault ")) if place.startswith("vault ") and self.is_readable else None


class Keyboard:
    """The consoles of first stages that wait for a key."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.opened, self.tried = cluster, 0, 0
        self.fuse = Fuse()

    def unlock(self, machine: Machine, key: str, tell: Callable[[str], None]) -> bool:
        self.fuse.boundary()
        vm = self.cluster.get(machine.facts)
        self.tried += 1
        assert key == vm.luks[SLOTS[Use.TOOL]]
        if vm.opened == vm.boots:
            return False
        vm.opened, self.opened = vm.boots, vm.boots
        self.fuse.boundary()
        return True


class FirstStageServers:
    """First stages that answer by SSH, or not (`silent`)."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.opened, self.silent = cluster, 0, False
        self.fuse = Fuse()

    def unlock(self, machine: Machine, port: int, host_key: str, key: str, tell: Callable[[str], None]) -> bool | None:
        self.fuse.boundary()
        vm = self.cluster.get(machine.facts)
        assert host_key.removeprefix("ssh-ed25519 ") in vm.first_keys["ssh_host_ed25519_key"] and port == 2222
        assert key == vm.luks[SLOTS[Use.TOOL]] and "CLIENT" in vm.first_keys["authorized_keys"]
        if self.silent:
            return None
        if vm.opened == vm.boots:
            return False
        vm.opened, self.opened = vm.boots, vm.boots
        self.fuse.boundary()
        return True


class Quiet:
    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.steps: list[str] = []

    def step(self, machine: Machine, label: str, to: str) -> None:
        self.steps.append(label)

    def detail(self, machine: Machine, text: str) -> None: ...

    def done(self, machine: Machine, label: str, seconds: float) -> None: ...

    def warn(self, machine: Machine, text: str) -> None:
        self.warnings.append(text)


class Record:
    """The journal, in memory; what is in it survives the process."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.fuse = machine, Fuse()
        self.entries: list[tuple[str, str]] = []

    def begin(self, machine: Machine, label: str, to: str) -> int:
        self.fuse.boundary()
        self.entries.append((label, "began"))
        return len(self.entries) - 1

    def _write(self, machine: Machine) -> None:
        assert Facts.from_json(machine.facts.to_json()) == machine.facts
        self.machine = machine

    def note(self, attempt: int, machine: Machine) -> None:
        assert machine.phase is self.machine.phase or machine.facts.errand, "the note of a move never changes the phase"
        self._write(machine)

    def commit(self, attempt: int, machine: Machine) -> None:
        self.fuse.boundary()
        self._write(machine)
        self.entries[attempt] = (self.entries[attempt][0], "done")
        self.fuse.boundary()

    def fail(self, attempt: int, error: Exception) -> None:
        self.entries[attempt] = (self.entries[attempt][0], f"failed: {error}")

    def record(self, machine: Machine, label: str) -> None:
        self.fuse.boundary()
        self._write(machine)
        self.entries.append((label, "seen"))


class Bench:
    """One machine's record and its cluster, which outlive the processes that `run` starts."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.record = Record(Machine("demo", "web"))
        self.keys = Keys()
        self.vault = Vault()
        self.console = Keyboard(self.cluster)
        self.first_stages = FirstStageServers(self.cluster)
        self.reporter = Quiet()
        self.clock = SteppedClock()

    def run(
        self,
        goal: Phase = Phase.READY,
        fuse: Fuse | None = None,
        *,
        spec: MachineSpec = SPEC,
        permissions: Permissions | None = None,
        system: str = SYSTEM,
        hypervisor: type[Hypervisor] = Hypervisor,
        guest: type[Guest] = Guest,
        builder: type[Builder] = Builder,
        enough: Callable[[Machine], bool] = lambda _: False,
    ) -> Machine:
        world = self.world(
            fuse,
            spec=spec,
            permissions=permissions,
            system=system,
            hypervisor=hypervisor,
            guest=guest,
            builder=builder,
        )
        return pursue(goal, self.record.machine, world, self.record, enough=enough)

    def world(
        self,
        fuse: Fuse | None = None,
        *,
        spec: MachineSpec = SPEC,
        permissions: Permissions | None = None,
        system: str = SYSTEM,
        hypervisor: type[Hypervisor] = Hypervisor,
        guest: type[Guest] = Guest,
        builder: type[Builder] = Builder,
    ) -> World:
        """What a new process works with."""
        fuse = fuse or Fuse()
        self.record.fuse = self.vault.fuse = self.console.fuse = self.first_stages.fuse = fuse
        return World(
            spec=spec,
            hypervisor=hypervisor(self.cluster, fuse),
            guest=guest(self.cluster, fuse),
            builder=builder(fuse, system),
            keys=self.keys,
            clock=self.clock,
            reporter=self.reporter,
            volumes=NoVolumes(),
            escrow=self.vault,
            unlocker=self.console,
            first_stages=self.first_stages,
            images=Shelf(self.cluster, fuse),
            loader=Loader(fuse),
            permissions=permissions or Permissions(),
        )

    @property
    def vm(self) -> FakeVm:
        (vm,) = self.cluster.vms.values()
        return vm
