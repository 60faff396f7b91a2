"""The real parts of one run, made when they are first needed, and closed together."""

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nixops_proxmox import paths
from nixops_proxmox.care import Care
from nixops_proxmox.errors import NoPath
from nixops_proxmox.escrow import RecoveryKeys
from nixops_proxmox.guest.agent import Agent, RealClock
from nixops_proxmox.guest.host_view import HostView
from nixops_proxmox.kinds.machine.ports import Builder, Voice, VolumeKeeper
from nixops_proxmox.kinds.machine.ports import Shell as ShellPort
from nixops_proxmox.kinds.machine.shape import Permissions, World
from nixops_proxmox.kinds.machine.telling import Telling
from nixops_proxmox.model import Awaiting, Machine, Power, Probation
from nixops_proxmox.nixeval.activate import find_active_system, find_inactive_reason
from nixops_proxmox.nixeval.builder import NixBuilder, WantedSystems
from nixops_proxmox.nixeval.caches import CacheKey, Caches
from nixops_proxmox.nixeval.copy import Destination
from nixops_proxmox.nixeval.one_boot import GuestLoader
from nixops_proxmox.nixeval.probation import begin_probation, confirm_probation, find_probation, refuse_probation
from nixops_proxmox.nixeval.runner import ProcessRunner
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.options import Options
from nixops_proxmox.pve.cluster.agreement import refuse_other_profile
from nixops_proxmox.pve.cluster.containers import ContainerHypervisor
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor, open_hypervisor
from nixops_proxmox.pve.wire.profiles import load_profile
from nixops_proxmox.reach.first_stages import SshFirstStages
from nixops_proxmox.reach.guests import Guests
from nixops_proxmox.reach.unlocking import ConsoleUnlocker
from nixops_proxmox.spec import DeploySpec, MachineSpec
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.ssh.argv import nix_sshopts, scp_argv, ssh_argv, store_url
from nixops_proxmox.ssh.files import sweep_runs
from nixops_proxmox.ssh.keys import KeyStore
from nixops_proxmox.state.record import Winners
from nixops_proxmox.state.right import Right

if TYPE_CHECKING:  # what few runs need, they import when they do
    from nixops_proxmox.pve.api.terminal import Terminal
    from nixops_proxmox.routers import Router

log = logging.getLogger(__name__)


class NothingToBuild:
    """The builder of verbs and doors that do not activate. Nothing is wanted, so nothing else is ever asked of it."""

    def wanted_system(self, machine: Machine) -> str:
        del machine
        return ""

    def copy_system(
        self, system: str, machine: Machine, spec: MachineSpec, shell: ShellPort, *, into_target: bool
    ) -> None:
        raise NotImplementedError(system, machine.name, spec.name, shell.endpoint, into_target)

    def active_system(self, shell: ShellPort) -> str:
        return find_active_system(shell)

    def inactive_reason(self, shell: ShellPort, wanted: str) -> str:
        return find_inactive_reason(shell, wanted)

    def activate(self, system: str, shell: ShellPort) -> int:
        raise NotImplementedError(system, shell.endpoint)

    def begin_probation(
        self, system: str, shell: ShellPort, number: str, deploy: DeploySpec, generation: int | None = None
    ) -> Probation | None:
        return begin_probation(system, shell, number, deploy, generation)

    def find_probation(self, voice: Voice) -> Probation | None:
        return find_probation(voice)

    def confirm_probation(self, voice: Voice, number: str) -> Probation | None:
        return confirm_probation(voice, number)

    def refuse_probation(self, voice: Voice, number: str, why: str) -> Probation | None:
        return refuse_probation(voice, number, why)

    def find_awaiting(self, system: str, shell: ShellPort) -> Awaiting:
        del system, shell
        return Awaiting()


class Parts:
    """Hypervisors by profile, keys and guests. All machines of a run share them."""

    def __init__(self, options: Options, record: Winners) -> None:
        self._options, self._record = options, record
        sweep_runs()
        self._directory = (options.keys or paths.state_dir() / "deployments") / record.name
        self._stack = ExitStack()
        self._lock = threading.RLock()
        self._telling = Telling(options.reporter)
        self._hypervisors: dict[str, PveHypervisor] = {}
        self._containers: dict[str, ContainerHypervisor] = {}
        self._routers: dict[str, Router] = {}
        self._caches: Caches | None = None
        self.right = Right()
        self.care = Care(options.agreed, lambda name: load_profile(name, path=options.profiles))
        self.keys = KeyStore(self._directory / "keys", record.name, self.right.check)
        self.guests = Guests(
            self.agent,
            self.keys,
            record,
            self._directory,
            options.reporter,
            self._stack,
            options.patience,
            self.right.check,
            self.right.sleep,
            hosts=self.host_view,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def roots(self) -> Path:
        """Where Nix's garbage collector finds what is deployed."""
        return self._directory / "roots"

    def tell_building(self, line: str) -> None:
        log.info("nix: %s", line)

    def hypervisor(self, name: str) -> PveHypervisor:
        """The hypervisor of a profile. We connect to it when it is first asked."""
        with self._lock:
            if name not in self._hypervisors:
                self._hypervisors[name] = self._stack.enter_context(
                    open_hypervisor(
                        name,
                        profiles=self._options.profiles,
                        trace=self._options.trace,
                        busy=self._options.patience.busy,
                        warn=lambda text: log.warning("%s: %s", name, text),
                        tell=self._telling.tell,
                        may_act=self.right.check,
                        sleep=self.right.sleep,
                    )
                )
            return self._hypervisors[name]

    def guests_of(self, name: str, *, container: bool) -> PveHypervisor:
        """The hypervisor of a profile for VMs, or for containers."""
        return self.containers(name) if container else self.hypervisor(name)

    def containers(self, name: str) -> ContainerHypervisor:
        with self._lock:
            if name not in self._containers:
                self._containers[name] = ContainerHypervisor(self.hypervisor(name))
            return self._containers[name]

    def router(self, name: str) -> "Router":
        """The router of a profile. It is opened when it is first asked."""
        from nixops_proxmox.routers import load_router, open_router

        with self._lock:
            if name not in self._routers:
                self._routers[name] = self._stack.enter_context(open_router(load_router(name)))
            return self._routers[name]

    @property
    def clock(self) -> RealClock:
        """Its sleeps notice when this run has lost its right to act."""
        return RealClock(self.right.sleep)

    def agent(self, machine: Machine) -> Agent:
        """The guest agent of a machine, wherever it is now."""
        hypervisor = self.hypervisor(machine.facts.profile or "default")
        node = hypervisor.find_node(machine.facts) or machine.facts.node  # it may have been moved
        return Agent(hypervisor.client, node, machine.facts.vmid, clock=self.clock, tell=self._telling.tell)

    @contextmanager
    def _console(self, machine: Machine) -> Iterator["Terminal"]:
        """The serial console of a machine that runs."""
        from nixops_proxmox.pve.api.terminal import open_terminal

        name = machine.facts.profile or "default"
        vm = self.hypervisor(name).find_vm(machine.facts)
        if vm is None or vm.power is not Power.RUNNING:
            raise NoPath(
                f"{machine.name}: it does not run, so it has no console",
                hint=f"{command(Verb.START, machine.name)} starts it",
            )
        profile = load_profile(name, path=self._options.profiles)
        with open_terminal(profile, vm.node, vm.vmid, vm.active or vm.config) as terminal:
            yield terminal

    def host_view(self, machine: Machine) -> HostView:
        """What the node sees of a container, wherever it is now."""
        hypervisor = self.containers(machine.facts.profile or "default")
        node = hypervisor.find_node(machine.facts) or machine.facts.node
        sees = hypervisor.get_release().can_look_into_containers
        return HostView(hypervisor.host_api, node, machine.facts.vmid, sees=sees, clock=self.clock)

    def world(
        self,
        spec: MachineSpec,
        permissions: Permissions,
        builder: Builder,
        volumes: VolumeKeeper,
        recorded: Callable[[], Collection[int]] = tuple,
    ) -> World:
        """`recorded`: VMIDs of all machines that the record knows."""
        if spec.server_url or spec.username or spec.token_name:
            refuse_other_profile(spec, load_profile(spec.profile, path=self._options.profiles))
        by_console = ConsoleUnlocker(self._console, self.agent, self.clock, self._options.patience.boot)
        return World(
            spec=spec,
            hypervisor=self.guests_of(spec.profile, container=spec.is_container),
            guest=self.guests,
            builder=builder,
            loader=None if spec.is_container else GuestLoader(),
            keys=self.keys,
            clock=self.clock,
            reporter=self._telling,
            volumes=volumes,
            escrow=RecoveryKeys(),
            unlocker=by_console,
            first_stages=SshFirstStages(
                self.guests.first_stage_shell, by_console.is_up, self.clock, self._options.patience.first_stage
            ),
            permissions=permissions,
            recorded=recorded,
        )

    def hurried(self, world: World) -> World:
        """The same world for verbs that change nothing: they do not wait long for a guest."""
        return replace(world, guest=self.guests.hurried())

    def builder(self, nix: Nix, systems: WantedSystems) -> Builder:
        return NixBuilder(
            nix,
            systems,
            self._destination,
            run=ProcessRunner(),
            tell=self._options.reporter.detail,
            warn=self._options.reporter.warn,
            may_act=self.right.check,
            caches=self._caches_of(nix),
        )

    def _caches_of(self, nix: Nix) -> Caches:
        """The same for all machines of this run."""
        with self._lock:
            if self._caches is None:
                self._caches = Caches(nix, lambda: CacheKey(*self.keys.signing_key()), ProcessRunner())
            return self._caches

    def _destination(self, machine: Machine, spec: MachineSpec, *, into_target: bool) -> Destination:
        access = self.guests.installer_access(machine, spec) if into_target else self.guests.access(machine, spec)
        url = store_url(access.endpoint, scheme="ssh-ng", compress=spec.deploy.copying.compress)
        options = tuple(nix_sshopts(access).split(" "))
        return Destination(url, options, from_caches=spec.deploy.copying.from_caches)

    # What verbs ask.

    def ssh_argv(self, machine: Machine, spec: MachineSpec, command: Sequence[str]) -> list[str]:
        return ssh_argv(self.guests.access(machine, spec), *command)

    def scp_argv(
        self, machine: Machine, spec: MachineSpec, sources: Sequence[str], target: str, *, recursive: bool
    ) -> list[str]:
        here = [
            place.removeprefix(machine.name) if place.startswith(f"{machine.name}:") else place for place in sources
        ]
        there = target.removeprefix(machine.name) if target.startswith(f"{machine.name}:") else target
        program, *rest = scp_argv(self.guests.access(machine, spec), here, there)
        return [program, *(["-r"] if recursive else []), *rest]
