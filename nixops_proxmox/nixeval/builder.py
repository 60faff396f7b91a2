"""What Nix does for a machine's life, in the shape that the lifecycle asks for."""

import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Protocol

from nixops_proxmox.errors import ActivationFailed, SpecError
from nixops_proxmox.model import Machine
from nixops_proxmox.nixeval.activate import ScriptShell, activate_system, find_active_system, find_inactive_reason
from nixops_proxmox.nixeval.build import Built, build_systems
from nixops_proxmox.nixeval.copy import Destination, copy_closure
from nixops_proxmox.nixeval.evaluate import Toplevel
from nixops_proxmox.nixeval.runner import Runner, Tell
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.spelling import Verb, command

TARGET = "/mnt"  # where an installer has the machine's own file systems


class WayIn(Protocol):
    """Where a machine's closure goes; `into_target`: by the installer, onto the disk."""

    def __call__(self, machine: Machine, spec: MachineSpec, *, into_target: bool) -> Destination: ...


class Systems:
    """The systems of one evaluation: built all at once when the first is asked for, by whichever thread asks."""

    def __init__(
        self,
        nix: Nix,
        toplevels: Mapping[str, Toplevel],
        *,
        roots: Path,
        run: Runner,
        tell: Tell | None = None,
        needed: Collection[str] = (),
    ) -> None:
        self._nix = nix
        self._toplevels = toplevels
        self._roots = roots
        self._run = run
        self._tell = tell
        self._needed = needed  # machines that are installed with their system, and cannot do without one
        self._lock = threading.Lock()
        self._built: Built | None = None

    def get(self, name: str) -> str:
        """The store path. Empty for a machine that has no toplevel and needs none. Raises that machine's own error."""
        if name in self._needed and name not in self._toplevels:
            raise SpecError(
                f"{name}: there is no system to install on it",
                hint=f"set {name}.toplevel, or copy the machine: {name}.deployment.proxmox.install.from",
            )
        if name not in self._toplevels:
            return ""
        with self._lock:
            if self._built is None:
                self._built = build_systems(
                    self._nix, self._toplevels, roots=self._roots, run=self._run, tell=self._tell
                )
        if name in self._built.failures:
            raise self._built.failures[name]
        return self._built.systems[name]


class WantedSystems(Protocol):
    """Which system each machine should run; empty: nothing is wanted."""

    def get(self, name: str) -> str: ...


class NixBuilder:
    """Builds, copies and activates with the Nix of this machine."""

    def __init__(
        self,
        nix: Nix,
        systems: WantedSystems,
        way_in: WayIn,
        *,
        run: Runner,
        tell: Callable[[Machine, str], None] = lambda _machine, _line: None,
        may_act: Callable[[], None] = lambda: None,
    ) -> None:
        """`may_act` is asked before anything is copied."""
        self._may_act = may_act
        self._nix = nix
        self._systems = systems
        self._way_in = way_in
        self._run = run
        self._tell = tell

    def wanted_system(self, machine: Machine) -> str:
        return self._systems.get(machine.name)

    def copy_system(self, system: str, machine: Machine, spec: MachineSpec, *, into_target: bool) -> None:
        destination = self._way_in(machine, spec, into_target=into_target)
        self._may_act()
        copy_closure(
            self._nix,
            system,
            destination.into(TARGET) if into_target else destination,
            machine=machine.name,
            run=self._run,
            tell=lambda line: self._tell(machine, line),
        )

    def active_system(self, shell: ScriptShell) -> str:
        return find_active_system(shell)

    def inactive_reason(self, shell: ScriptShell, wanted: str) -> str:
        return find_inactive_reason(shell, wanted)

    def activate(self, system: str, shell: ScriptShell) -> int:
        """The generation's number; a system that only a reboot can start is an ActivationFailed that says so."""
        done = activate_system(system, shell, machine="the guest")
        if done.needs_reboot:
            raise ActivationFailed(
                f"generation {done.generation} takes effect only after a reboot, because NixOS cannot switch to it",
                hint=f"{command(Verb.REBOOT, 'MACHINE')} restarts the machine; then run the same command again",
            )
        return done.generation
