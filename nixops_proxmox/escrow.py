"""Where recovery keys of encrypted disks go: a command's standard input, or a file for the user alone."""

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.model import Completed, Machine
from nixops_proxmox.secrecy import learn
from nixops_proxmox.spec import Sink
from nixops_proxmox.ssh.files import replace_file
from nixops_proxmox.texts import tail

LONGEST = 4096  # characters of a key's file
TIMEOUT = 300.0  # seconds: a password store may ask its user for something

RunFed = Callable[[Sequence[str], bytes, Mapping[str, str]], Completed]


def run_fed(argv: Sequence[str], given: bytes, environment: Mapping[str, str]) -> Completed:
    """Run a program with this on its standard input. Raises OSError if it cannot be started."""
    try:
        done = subprocess.run(argv, input=given, env=environment, capture_output=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return Completed(-1, "", f"it did not end within {TIMEOUT:.0f} s")
    return Completed(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


@dataclass(frozen=True)
class Package:
    """What is handed over, and what is said of it. `kind`: key or header, also the end of its file's name."""

    kind: str
    content: bytes
    about: str  # in messages
    hint: str  # where it fails

    def failed(self, where: str, text: str) -> ConfigError:
        return ConfigError(f"{where}: {self.about} could not be handed over: {text}", hint=self.hint)


@dataclass(frozen=True)
class RecoveryKeys:
    """Satisfies `kinds.machine.ports.Escrow`. `environment`: of the commands."""

    run: RunFed = run_fed
    environment: Mapping[str, str] | None = None

    def hand_over(self, sink: Sink, machine: Machine, name: str, volume: str, key: str) -> str:
        """Safe to repeat: a file is replaced by the same, and commands are told whose key it is."""
        hint = "no key of the disk was taken away; mend the sink, then run the same command again"
        return self._give_to(sink, machine, name, volume, Package("key", f"{key}\n".encode(), "the recovery key", hint))

    def hand_over_header(self, sink: Sink, machine: Machine, name: str, volume: str, header: bytes) -> str:
        """Safe to repeat, as a key is."""
        hint = "the disk has its keys; mend the sink, then run the same command again"
        return self._give_to(sink, machine, name, volume, Package("header", header, "the header of the disk", hint))

    def _give_to(self, sink: Sink, machine: Machine, name: str, volume: str, package: Package) -> str:
        where = f"{machine.name}: encryption.recovery.sink"
        content = self._encrypted(sink, where, package) if sink.age else package.content
        if sink.command is not None:
            about = {**_about(machine, name, volume), "KIND": package.kind}
            self._run(["/bin/sh", "-c", sink.command], f"{where}.command", replace(package, content=content), about)
            return "command"
        assert sink.folder is not None, "the description is checked"
        suffix = f".{package.kind}.age" if sink.age else f".{package.kind}"
        path = Path(sink.folder) / f"{machine.name}-{name}-{volume}{suffix}"
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(path, content)
        except OSError as error:
            raise package.failed(f"{where}.folder", f"{path}: {error.strerror}") from error
        return str(path)

    def find_key(self, place: str) -> str | None:
        """The key that lies at that place of the record. None: it is no file, or an encrypted one."""
        if not place.endswith(".key"):
            return None
        try:
            with Path(place).open(encoding="ascii") as file:
                key = file.read(LONGEST).strip()
        except (OSError, ValueError):
            return None
        learn(key)
        return key or None

    def _encrypted(self, sink: Sink, where: str, package: Package) -> bytes:
        argv = ["age", "--encrypt", "--armor", *(word for one in sink.age for word in ("--recipient", one))]
        done = self._run(argv, f"{where}.age", package, {})
        if not done.stdout.startswith("-----BEGIN AGE ENCRYPTED FILE-----"):
            raise package.failed(f"{where}.age", "age gave no encrypted text")
        return done.stdout.encode()

    def _run(self, argv: Sequence[str], where: str, package: Package, about: Mapping[str, str]) -> Completed:
        environment = {**(os.environ if self.environment is None else self.environment), **about}
        try:
            done = self.run(argv, package.content, environment)
        except OSError as error:
            raise package.failed(where, f"{argv[0]} cannot be started: {error.strerror}") from error
        if done.status != 0:
            said = tail(done.stderr.strip(), 400)
            raise package.failed(where, f"it ended with exit status {done.status}{': ' if said else ''}{said}")
        return done


def _about(machine: Machine, name: str, volume: str) -> Mapping[str, str]:
    return {"DEPLOYMENT": machine.deployment, "MACHINE": machine.name, "VOLUME": name, "LUKS_UUID": volume}
