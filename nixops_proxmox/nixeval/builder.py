"""What Nix does for a machine's life, in the shape that the lifecycle asks for."""

import threading
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nixops_proxmox.errors import BuildFailed, CopyFailed, EvaluationFailed, SpecError, SwitchRefused
from nixops_proxmox.model import Awaiting, Machine, Probation
from nixops_proxmox.nixeval.activate import ScriptShell, activate_system, find_active_system, find_inactive_reason
from nixops_proxmox.nixeval.awaiting import find_awaiting
from nixops_proxmox.nixeval.build import TIMEOUT, build_systems
from nixops_proxmox.nixeval.caches import Caches
from nixops_proxmox.nixeval.copy import Destination, copy_closure
from nixops_proxmox.nixeval.evaluate import Toplevel, Toplevels
from nixops_proxmox.nixeval.holding import SOURCE, hold_system
from nixops_proxmox.nixeval.probation import begin_probation, confirm_probation, find_probation, refuse_probation
from nixops_proxmox.nixeval.runner import Runner, Tell
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.spec import DeploySpec, MachineSpec
from nixops_proxmox.spec.deploy import CacheSpec
from nixops_proxmox.spelling import Verb, command

if TYPE_CHECKING:  # few machines build their own systems
    from nixops_proxmox.nixeval.on_guest import JobShell

TARGET = "/mnt"  # where an installer has the machine's own file systems


class WayIn(Protocol):
    """Where a machine's closure goes. `into_target`: by the installer, onto the disk."""

    def __call__(self, machine: Machine, spec: MachineSpec, *, into_target: bool) -> Destination: ...


class Systems:
    """The systems of one evaluation. When a thread asks for the first of those that were said to be needed, all of them
    are built at once, and each thread gets its own as soon as it is there. Any other is built when it is asked for."""

    def __init__(
        self,
        nix: Nix,
        toplevels: Toplevels,
        *,
        roots: Path,
        run: Runner,
        tell: Tell | None = None,
        needed: Collection[str] = (),
        cancel: Callable[[], None] = lambda: None,
        elsewhere: Collection[str] = (),
    ) -> None:
        """`needed`: machines that are installed with their system. `cancel` ends what runs. `elsewhere`: machines whose
        systems are not built here."""
        self._nix, self._toplevels, self._roots = nix, toplevels, roots
        self._run, self._tell, self._cancel = run, tell, cancel
        self._needed = needed
        self._turn = threading.Condition()
        self._elsewhere = frozenset(elsewhere)
        self._together: Collection[str] = frozenset(toplevels) - self._elsewhere
        self._begun: set[str] = set()
        self._ended: dict[str, BaseException | None] = {}

    def expect(self, names: Collection[str]) -> None:
        """These will be asked for, and no others: they are built together."""
        with self._turn:
            self._together = frozenset(names) - self._elsewhere

    def path(self, name: str) -> str:
        """Where the system is, or would be. Empty for a machine that has none. Builds nothing."""
        found = self._toplevels.get(name)
        return found.out_path if found else ""

    def find_derivation(self, name: str) -> str:
        """What its machine builds itself. Empty: it is built here."""
        found = self._get(name) if name in self._elsewhere else None
        return found.drv_path if found else ""

    def is_built(self, name: str) -> bool:
        """It is there, or there is none."""
        return name in self._ended or self._toplevels.get(name) is None

    def get(self, name: str) -> str:
        """The store path, built. Empty for a machine that has none, and needs none. Raises that machine's own error."""
        toplevel = self._get(name)
        if toplevel is None:
            return ""
        self._ensure(name)
        error = self._ended[name]
        if error is not None:
            raise error
        return toplevel.out_path

    def _get(self, name: str) -> Toplevel | None:
        toplevel = self._toplevels.get(name)
        if name in self._needed and toplevel is None:
            raise SpecError(
                f"{name}: there is no system to install on it",
                hint=f"set {name}.toplevel, or copy the machine: {name}.deployment.proxmox.install.from",
            )
        return toplevel

    def _ensure(self, name: str) -> None:
        with self._turn:
            mine = self._claim(name)
        if len(mine) == 1:
            self._build(mine)
        elif mine:
            threading.Thread(target=self._build, args=(mine,), name="builds").start()
        try:
            with self._turn:
                self._turn.wait_for(lambda: name in self._ended, TIMEOUT)
        except BaseException:  # a signal's: no machine will want what is built
            self._cancel()
            raise

    def _claim(self, name: str) -> Mapping[str, Toplevel]:
        """What this thread has to see to. Empty: another one does."""
        if name in self._begun:
            return {}
        together = self._together if name in self._together else (name,)
        found = {one: self._find(one) for one in together if one not in self._begun}
        mine = {one: toplevel for one, toplevel in found.items() if toplevel is not None}
        self._begun |= mine.keys()
        return mine

    def _find(self, name: str) -> Toplevel | None:
        """What cannot be evaluated is told to the machine that it belongs to, and to no other."""
        try:
            return self._toplevels.get(name)
        except EvaluationFailed:
            return None

    def _build(self, wanted: Mapping[str, Toplevel]) -> None:
        failure: BaseException | None = None
        try:
            build_systems(self._nix, wanted, roots=self._roots, run=self._run, tell=self._tell, ended=self._note)
        except BaseException as error:  # noqa: BLE001 -- raised again in each thread that waits for it
            failure = error
        for name in wanted.keys() - self._ended.keys():
            self._note(name, failure)

    def _note(self, name: str, failure: BaseException | None) -> None:
        with self._turn:
            self._ended[name] = failure
            self._turn.notify_all()


class ImageBuilds:
    """The images of one evaluation that Nix builds, by the machine that is made of one. Each is built when it is asked
    for, and kept from being collected."""

    def __init__(self, nix: Nix, derivations: Toplevels, *, roots: Path, run: Runner, tell: Tell | None = None) -> None:
        self._nix, self._derivations, self._roots, self._run, self._tell = nix, derivations, roots, run, tell
        self._lock = threading.Lock()
        self._built: set[str] = set()

    def ensure(self, name: str) -> None:
        """Build the machine's image, if Nix does. Raises BuildFailed."""
        with self._lock:
            derivation = None if name in self._built else self._derivations.get(name)
            if derivation is None:
                return
            root = image_root(name)
            built = build_systems(self._nix, {root: derivation}, roots=self._roots, run=self._run, tell=self._tell)
            if root in built.failures:
                raise BuildFailed(f"{name}: its image could not be built\n{built.failures[root].message}")
            self._built.add(name)


def image_root(name: str) -> str:
    """The collector's root of a machine's image. No machine can have such a name."""
    return f"{name}@image"


class WantedSystems(Protocol):
    """Which system each machine should run. Empty: nothing is wanted."""

    def path(self, name: str) -> str:
        """It may have to be built."""
        ...

    def find_derivation(self, name: str) -> str:
        """What its machine builds itself. Empty: it is built here."""
        ...

    def is_built(self, name: str) -> bool:
        """It is there, or there is none."""
        ...

    def get(self, name: str) -> str:
        """It is built."""
        ...


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
        warn: Callable[[Machine, str], None] = lambda _machine, _line: None,
        may_act: Callable[[], None] = lambda: None,
        caches: Caches | None = None,
    ) -> None:
        """`may_act` is asked before anything is copied. `caches`: what all machines of a run share."""
        self._warn, self._caches = warn, caches
        self._may_act = may_act
        self._nix = nix
        self._systems = systems
        self._way_in = way_in
        self._run = run
        self._tell = tell

    def wanted_system(self, machine: Machine) -> str:
        path = self._systems.path(machine.name)
        if path and (path == machine.facts.system or self._systems.find_derivation(machine.name)):
            return path
        if not self._systems.is_built(machine.name):
            self._tell(machine, "waiting for Nix to build its system")
        return self._systems.get(machine.name)

    def copy_system(
        self, system: str, machine: Machine, spec: MachineSpec, shell: "JobShell", *, into_target: bool
    ) -> None:
        derivation = self._systems.find_derivation(machine.name)
        if not derivation:
            self._systems.get(machine.name)  # it was deployed from elsewhere, or is gone from the store here
        destination = self._way_in(machine, spec, into_target=into_target)
        self._may_act()
        root = TARGET if into_target else ""
        hold_system(system, shell, machine=machine.name, root=root)
        if derivation:
            hold_system(derivation, shell, machine=machine.name, root=root, name=SOURCE)
        elif self._fetched(system, machine, spec.deploy.copying.cache, shell, root):
            return
        copy_closure(
            self._nix,
            derivation or system,
            destination.into(TARGET) if into_target else destination,
            machine=machine.name,
            run=self._run,
            tell=lambda line: self._tell(machine, line),
        )
        if derivation:
            from nixops_proxmox.nixeval.on_guest import build_on_guest

            self._tell(machine, "building its system on it")
            told = partial(self._tell, machine)
            build_on_guest(derivation, system, shell, machine=machine.name, root=root, tell=told)

    def _fetched(self, system: str, machine: Machine, cache: CacheSpec | None, shell: ScriptShell, root: str) -> bool:
        """The machine has it from a binary cache. A cache that does not do its work stops no deploy."""
        if cache is None or self._caches is None:
            return False
        try:
            self._tell(machine, f"copying to {cache.push}")
            self._caches.push(system, cache.push, lambda line: self._tell(machine, line))
            self._tell(machine, f"fetching from {cache.url}")
            self._caches.fetch(system, cache.url, shell, machine=machine.name, root=root)
        except CopyFailed as error:
            self._warn(machine, f"{error.message.removeprefix(f'{machine.name}: ')}\nso it is copied from here")
            return False
        return True

    def active_system(self, shell: ScriptShell) -> str:
        return find_active_system(shell)

    def inactive_reason(self, shell: ScriptShell, wanted: str) -> str:
        return find_inactive_reason(shell, wanted)

    def activate(self, system: str, shell: ScriptShell) -> int:
        """The generation's number. A system that only a reboot can start is a SwitchRefused that says so."""
        done = activate_system(system, shell, machine="the guest")
        if done.needs_reboot:
            raise SwitchRefused(
                f"generation {done.generation} takes effect only after a reboot, because NixOS cannot switch to it",
                hint=f"{command(Verb.REBOOT, 'MACHINE')} restarts the machine; then run the same command again",
            )
        return done.generation

    def begin_probation(
        self, system: str, shell: ScriptShell, number: str, deploy: DeploySpec, generation: int | None = None
    ) -> Probation | None:
        return begin_probation(system, shell, number, deploy, generation)

    def find_probation(self, voice: ScriptShell) -> Probation | None:
        return find_probation(voice)

    def confirm_probation(self, voice: ScriptShell, number: str) -> Probation | None:
        return confirm_probation(voice, number)

    def refuse_probation(self, voice: ScriptShell, number: str, why: str) -> Probation | None:
        return refuse_probation(voice, number, why)

    def find_awaiting(self, system: str, shell: ScriptShell) -> Awaiting:
        return find_awaiting(system, shell)
