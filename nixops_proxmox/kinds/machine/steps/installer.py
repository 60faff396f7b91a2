"""What happens while the installer runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nixops_proxmox.core.table import Repeatable
from nixops_proxmox.errors import CommandFailed, ConnectionLost, GuestLost, JobStillRunning, SshUnreachable
from nixops_proxmox.kinds.machine.answers import deliver
from nixops_proxmox.kinds.machine.encrypted import disks_to_keep
from nixops_proxmox.kinds.machine.growth import in_use
from nixops_proxmox.kinds.machine.laid_out import with_layout
from nixops_proxmox.kinds.machine.ports import Shell
from nixops_proxmox.kinds.machine.scripts import (
    delivery,
    device_path,
    install_script,
    partition_script,
    placing,
    reads_only,
)
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.kinds.machine.steps.encrypting import (
    bring_first_stage_key,
    bring_keys,
    forget_keys,
    record_headers,
)
from nixops_proxmox.kinds.machine.steps.hardware import (
    SHUTDOWN,
    change_hardware,
    find_changes,
    get_vm,
    refuse_strangers,
)
from nixops_proxmox.kinds.machine.steps.identity import at_place
from nixops_proxmox.kinds.machine.steps.kept_disks import refuse_other_kept
from nixops_proxmox.model import Facts, GuestDisk, Job, JobPhase, Machine, Power
from nixops_proxmox.spec import InstallMethod, MachineSpec
from nixops_proxmox.spelling import Verb, command

REBOOT_ASKED = 100  # the partition script's exit status for "reboot the installer and go on"
PARTITION_TIME = 1800.0  # seconds
INSTALL_TIME = 7200.0
SPELL = 30.0  # seconds of waiting for a job before a silent guest is looked after


class BootInstaller:
    """Boot the installer"""

    def already(self, world: World, machine: Machine) -> Facts | None:
        vm = get_vm(world, machine)
        running = vm.power is Power.RUNNING and not vm.pending and world.hypervisor.boots_installer(vm, world.spec)
        return machine.facts if running and not find_changes(world, vm, machine) else None

    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: nothing is installed yet, so the VM may be stopped and started again."""
        vm = get_vm(world, machine)
        change_hardware(world, machine, vm, attempt)  # nothing is installed yet: the description may still change
        if not world.hypervisor.boots_installer(vm, world.spec):
            world.hypervisor.set_boot(vm, world.spec, installer=True)
        if vm.power is Power.RUNNING:
            world.hypervisor.stop_vm(machine.facts, attempt.note_task)
        world.before_boot(machine.name)
        world.hypervisor.start_vm(machine.facts, attempt.note_task)
        return attempt.facts


class EnterInstaller(Repeatable):
    """Enter the installer through the guest agent"""

    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: it looks at the installer, and puts the same keys into it."""
        seen = world.guest.enter_installer(machine, world.spec)
        _, host_key = world.keys.host_key(machine.facts.uuid)
        return replace(seen.facts, boot_id=seen.boot_id, installer_keys=seen.host_keys, host_key=host_key)


class Partition:
    """Partition the disks"""

    def already(self, world: World, machine: Machine) -> Facts | None:
        if machine.facts.claimed != machine.facts.round:
            return None
        shell = world.guest.installer_shell(machine, world.spec)
        job = shell.find_job(self._job(machine.facts))
        done = job.phase is JobPhase.DONE and job.status == 0
        return self._facts(world, machine, machine.facts, shell) if done else None

    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: a job that runs or has ended well is found. Another one is only started after the disks have
        been proven again."""
        shell = world.guest.installer_shell(machine, world.spec)
        name = self._job(machine.facts)
        if not _stands(shell.find_job(name), REBOOT_ASKED):
            self._start(world, machine, attempt, shell, name)
        job = _wait(world, machine, shell, name, PARTITION_TIME)
        if job.status == REBOOT_ASKED:
            world.hypervisor.stop_vm(attempt.facts, attempt.note_task)
            attempt.note(replace(attempt.facts, passes=attempt.facts.passes + 1))
            raise GuestLost(f"{machine.name}: the partition script asked to reboot the installer")
        refuse_failure(
            machine, job, "the partition script", f"correct `install.partition`, then {command(Verb.DEPLOY)}"
        )
        _require_target(machine, shell)
        return self._facts(world, machine, attempt.facts, shell)

    def _start(self, world: World, machine: Machine, attempt: Attempt, shell: Shell, name: str) -> None:
        vm = get_vm(world, machine)
        refuse_strangers(world, machine, vm)
        volumes = world.hypervisor.volumes(vm)
        disks = world.guest.prove_disks(shell, machine, world.spec, accounted(world.spec, machine.facts, volumes))
        attempt.note(replace(attempt.facts, claimed=machine.facts.round, volumes=volumes))
        again = machine.facts.claimed >= 0 and machine.facts.round > 0
        if again:
            refuse_other_kept(machine, world)
            _protect(machine, shell, reads_only(world.spec, disks))
        shell.discard_job(name)
        bring_keys(world, machine, attempt, shell, disks_to_keep(world.spec) if again else ())
        shell.start_job(name, partition_script(world.spec, attempt.facts, disks, again=again))

    def _job(self, facts: Facts) -> str:
        return f"partition-{facts.round}-{facts.passes}"

    def _facts(self, world: World, machine: Machine, facts: Facts, shell: Shell) -> Facts:
        """Beside what was done, by what the disks are known when PVE has moved them to other volumes."""
        seen = world.guest.list_disks(shell, machine, world.spec)
        contents = {disk.slot: one.content for disk, one in zip(world.spec.disks, seen, strict=True) if one.content}
        facts = record_headers(world, machine, facts, shell, disks_to_keep(world.spec) if facts.round else ())
        return with_layout(replace(facts, passes=0, contents=contents), world.spec)


def accounted(spec: MachineSpec, facts: Facts, volumes: Mapping[str, str]) -> frozenset[str]:
    """The slots whose disks may hold data: those that a reinstall keeps, and the very volumes that were claimed. A
    record without volumes is of a machine that was found with its disks."""
    if facts.claimed < 0:
        return frozenset()
    kept = {disk.slot for disk in spec.disks if disk.keep and facts.round > 0}
    claimed = {slot for slot, volume in volumes.items() if facts.volumes.get(slot) == volume}
    return frozenset(kept | (claimed if facts.volumes else volumes.keys()))


class Install:
    """Install the system"""

    def already(self, world: World, machine: Machine) -> Facts | None:
        job = world.guest.installer_shell(machine, world.spec).find_job(self._job(machine.facts))
        done = job.phase is JobPhase.DONE and job.status == 0
        return self._facts(world, machine, machine.facts) if done else None

    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: a job that runs or has ended well is found. Another try puts the same files on a disk that
        has no other data."""
        shell = world.guest.installer_shell(machine, world.spec)
        name = self._job(machine.facts)
        if not _stands(shell.find_job(name)):
            _require_target(machine, shell)
            self._start(world, machine, attempt, shell, name)
        job = _wait(world, machine, shell, name, INSTALL_TIME)
        refuse_failure(machine, job, "nixos-install", f"the end of the log is above; {command(Verb.DEPLOY)} goes on")
        return self._facts(world, machine, attempt.facts)

    def _start(self, world: World, machine: Machine, attempt: Attempt, shell: Shell, name: str) -> None:
        system = ""
        if world.spec.install.method is InstallMethod.CLOSURE:
            system = world.builder.wanted_system(machine)
            world.reporter.detail(machine, f"copying {system}")
            world.builder.copy_system(system, machine, world.spec, shell, into_target=True)
        refuse_strangers(world, machine, get_vm(world, machine))
        private, public = world.keys.host_key(machine.facts.uuid)
        boot_device = device_path(world.guest.list_disks(shell, machine, world.spec)[0])
        script, archive = delivery(
            machine, world.spec, private, public, world.keys.authorized_keys(world.spec), boot_device
        )
        deliver(
            shell,
            script,
            archive,
            f"{machine.name}: the machine's keys could not be put on its disk",
            "is the target mounted on /mnt, and does it have free space?",
        )
        self._place_files(world, machine, shell)
        attempt.note(bring_first_stage_key(world, machine, attempt.facts, shell, "/mnt"))
        shell.discard_job(name)
        shell.start_job(name, install_script(world.spec, system))

    def _place_files(self, world: World, machine: Machine, shell: Shell) -> None:
        """Safe to repeat: the same files take the place of those of before."""
        files = world.courier.placed(machine) if world.courier is not None else ()
        if files:
            world.reporter.detail(machine, f"putting {len(files)} file{'s' * (len(files) > 1)} onto the disk")
            failed = f"{machine.name}: deployment.files could not be put on its disk"
            deliver(shell, *placing(files), failed, "is there a folder in the place of a file, or too little space?")

    def _job(self, facts: Facts) -> str:
        return f"install-{facts.round}"

    def _facts(self, world: World, machine: Machine, facts: Facts) -> Facts:
        """A closure is the first generation of its new profile. A configuration is built in the guest: unknown."""
        closure = world.spec.install.method is InstallMethod.CLOSURE
        forget_keys(world, facts)
        return replace(
            at_place(facts, world.spec),
            system=world.builder.wanted_system(machine) if closure else "",
            generation=1 if closure else 0,
            installed_by=world.spec.install.method.value,
            sizes=in_use(facts, world.spec),
            installer_keys=(),
            endpoint=None,
        )


class EnterRescue(Repeatable):
    """Boot the installer beside the system, for rescue"""

    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: an installer that runs already is not booted again, and gets the same keys."""
        vm = get_vm(world, machine)
        in_installer = world.hypervisor.boots_installer(vm, world.spec)
        if not in_installer:
            world.hypervisor.set_boot(vm, world.spec, installer=True)
        if vm.power is Power.RUNNING and not (in_installer and world.hypervisor.runs_installer(vm)):
            world.hypervisor.shut_down_vm(machine.facts, attempt.note_task, SHUTDOWN)
        world.hypervisor.start_vm(machine.facts, attempt.note_task)
        seen = world.guest.enter_installer(machine, world.spec, keys=world.keys.authorized_keys(world.spec))
        return replace(seen.facts, boot_id=seen.boot_id, installer_keys=seen.host_keys, task="")


def refuse_failure(machine: Machine, job: Job, what: str, hint: str) -> None:
    """Raise for a job that did not end well: its log's end is what the user needs."""
    if job.phase is JobPhase.VANISHED:
        raise CommandFailed(
            f"{machine.name}: {what} was killed and left no exit status; its last lines:\n{job.log_tail}",
            status=-1,
            output=job.log_tail,
            hint=f"the guest may be out of memory: raise `memory`, then {command(Verb.DEPLOY)}",
        )
    if job.status != 0:
        raise CommandFailed(
            f"{machine.name}: {what} ended with exit status {job.status}; its last lines:\n{job.log_tail}",
            status=job.status,
            output=job.log_tail,
            hint=hint,
        )


def _stands(job: Job, *also_good: int) -> bool:
    """Is it at work, or has it ended well (a moment ago, perhaps: it still ran when we looked before)?"""
    return job.phase is JobPhase.RUNNING or (job.phase is JobPhase.DONE and job.status in (0, *also_good))


def _wait(world: World, machine: Machine, shell: Shell, name: str, timeout: float) -> Job:
    """Wait for the job in short spells. After a spell without an answer, look whether the guest is still there.

    Safe to repeat: it only watches a job that goes on by itself."""
    deadline = world.clock.now() + timeout
    while True:
        left = max(0.0, deadline - world.clock.now())
        try:
            return shell.wait_for_job(
                name, timeout=min(SPELL, left), tell=lambda line: world.reporter.detail(machine, line)
            )
        except JobStillRunning:
            if left <= SPELL:
                raise
        except (ConnectionLost, SshUnreachable) as error:
            if get_vm(world, machine).power is Power.STOPPED:
                raise GuestLost(f"{machine.name}: the VM stopped while its installer was working") from error
            if left <= SPELL:
                raise
            world.reporter.detail(machine, f"{error.message}; the VM runs: trying again")


def _require_target(machine: Machine, shell: Shell) -> None:
    """`/mnt` must be a mount point: otherwise the system would land in the installer's memory."""
    done = shell.run("grep -qs ' /mnt ' /proc/self/mounts")
    if done.status != 0:
        raise CommandFailed(
            f"{machine.name}: nothing is mounted on /mnt after partitioning",
            status=done.status,
            hint="`install.partition` must leave the target's root file system mounted on /mnt",
        )


def _protect(machine: Machine, shell: Shell, kept: Sequence[GuestDisk]) -> None:
    """Make the kept disks read-only for as long as this installer runs."""
    for disk in kept:
        done = shell.run(f"blockdev --setro {disk.device}")
        if done.status != 0:
            raise CommandFailed(
                f"{machine.name}: the kept disk {disk.device} could not be made read-only: {done.stderr.strip()}",
                status=done.status,
                hint="nothing was written; the installer needs blockdev (util-linux)",
            )
