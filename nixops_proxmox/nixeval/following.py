"""What becomes of each system while Nix builds many: one that is there need not wait for the others."""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nixops_proxmox.errors import BuildFailed
from nixops_proxmox.model import Completed
from nixops_proxmox.nixeval.evaluate import Toplevel
from nixops_proxmox.nixeval.failures import explain_build, failed_derivations, needed_by
from nixops_proxmox.nixeval.runner import Cancelled, OutOfTime, Runner, Tell
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.nixeval.trace import nix_message

FIRST_LOOK, LONGEST_PAUSE, SLOWER = 0.2, 2.0, 1.3  # seconds, seconds, and how much longer each pause is than the last
ASKED = 60.0  # seconds for a question to the store

Settled = Callable[[str, BuildFailed | None], None]


class NothingLeft(Exception):
    """No machine waits for what Nix still builds."""


@dataclass(frozen=True)
class Built:
    """Store paths of the machines whose system is there, and why the others' is not."""

    systems: Mapping[str, str]
    failures: Mapping[str, BuildFailed]


class Following:
    """Looks now and then which systems are there, and which never will be, and tells of each once."""

    def __init__(self, nix: Nix, toplevels: Mapping[str, Toplevel], roots: Path, run: Runner, ended: Settled) -> None:
        self._nix, self._roots, self._run, self._ended = nix, roots, run, ended
        self._waiting = dict(toplevels)
        self._needed: dict[str, Collection[str]] = {}  # derivations, by machine
        self._said: list[str] = []
        self._read = 0  # of what was said, at the last look
        self._over = threading.Event()
        self.systems: dict[str, str] = {}
        self.failures: dict[str, BuildFailed] = {}

    def listen(self, tell: Tell | None) -> Tell:
        """Hears what Nix says of the build, and passes it on. Raises NothingLeft when no machine waits."""

        def hear(line: str) -> None:
            if not self._waiting:
                raise NothingLeft
            self._said.append(line)
            if tell is not None:
                tell(line)

        return hear

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look from a thread of its own as long as this lasts. A single system is there when the build is over."""
        thread = threading.Thread(target=self._look_now_and_then, name="builds", daemon=True)
        if len(self._waiting) > 1:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            if thread.ident is not None:
                thread.join()

    def take(self, done: Completed) -> None:
        """The build is over: this is what became of the rest."""
        waiting = dict(self._waiting)
        if done.status == 0:
            self._keep(waiting)
            return
        missing = _missing_paths(self._nix, (one.out_path for one in waiting.values()), self._run)
        lost = {name: one for name, one in waiting.items() if one.out_path in missing}
        if lost or self.failures:
            self._keep({name: one for name, one in waiting.items() if name not in lost})
        for name, toplevel in lost.items():
            self._fail(name, toplevel, done.stderr)
        for name in self._waiting.copy():  # nothing is missing, and Nix failed all the same
            self._settle(name, BuildFailed(f"{name}: {nix_message(done.stderr)}"))

    def _look_now_and_then(self) -> None:
        pause = FIRST_LOOK
        while not self._over.wait(pause):  # safe to repeat: it only looks
            pause = min(pause * SLOWER, LONGEST_PAUSE)
            try:
                self._look()
            except (Cancelled, OutOfTime):  # what builds has heard of the one, and the other is no news
                continue

    def _look(self) -> None:
        heard, self._read = self._said[: self._read], len(self._said)  # what was said just now may be half of it
        waiting = dict(self._waiting)
        missing = _missing_paths(self._nix, (one.out_path for one in waiting.values()), self._run)
        self._keep({name: one for name, one in waiting.items() if one.out_path not in missing})
        guilty = set(failed_derivations("\n".join(heard)))
        for name, toplevel in waiting.items() if guilty else ():
            if toplevel.out_path in missing and not guilty.isdisjoint(self._needs(name, toplevel)):
                self._fail(name, toplevel, "\n".join(heard))

    def _needs(self, name: str, toplevel: Toplevel) -> Collection[str]:
        if name not in self._needed:
            self._needed[name] = needed_by(self._nix, toplevel.drv_path, self._run)
        return self._needed[name]

    def _keep(self, found: Mapping[str, Toplevel]) -> None:
        for name, toplevel in found.items():
            try:
                keep_systems(self._nix, {name: toplevel.out_path}, self._roots, self._run)
            except BuildFailed as error:
                self._settle(name, error)
            else:
                self.systems[name] = toplevel.out_path
                self._settle(name, None)

    def _fail(self, name: str, toplevel: Toplevel, said: str) -> None:
        self._settle(name, explain_build(self._nix, name, self._needs(name, toplevel), said, self._run))

    def _settle(self, name: str, failure: BuildFailed | None) -> None:
        if failure is not None:
            self.failures[name] = failure
        del self._waiting[name]
        self._ended(name, failure)


def root_argv(nix: Nix, system: str, root: Path) -> list[str]:
    """Makes `root` a link to a system that exists, known to the garbage collector."""
    return nix.argv("nix-store", "--realise", system, "--add-root", str(root))


def keep_systems(nix: Nix, systems: Mapping[str, str], roots: Path, run: Runner) -> None:
    """Root each system as `roots/NAME`. A machine's earlier root is replaced."""
    roots.mkdir(parents=True, exist_ok=True)
    for name, system in systems.items():
        done = run(root_argv(nix, system, roots / name), timeout=ASKED)
        if done.status != 0:
            raise BuildFailed(f"{name}: {nix_message(done.stderr)}", hint=f"is {roots} writable?")


def _missing_paths(nix: Nix, paths: Iterable[str], run: Runner) -> set[str]:
    done = run(nix.argv("nix-store", "--check-validity", "--print-invalid", *paths), timeout=ASKED)
    return set(done.stdout.split())
