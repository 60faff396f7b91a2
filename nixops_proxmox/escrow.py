"""Where recovery keys of encrypted disks go: a command's standard input, or a file for the user alone."""

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.model import Completed, Machine
from nixops_proxmox.secrecy import learn
from nixops_proxmox.spec import Sink
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.ssh.files import replace_file
from nixops_proxmox.texts import tail

LONGEST = 4096  # characters of a key's file
TIMEOUT = 300.0  # seconds: a password store may ask its user for something

RunFed = Callable[[Sequence[str], str, Mapping[str, str]], Completed]


def run_fed(argv: Sequence[str], given: str, environment: Mapping[str, str]) -> Completed:
    """Run a program with this text on its standard input. Raises OSError if it cannot be started."""
    try:
        done = subprocess.run(
            argv, input=given, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return Completed(-1, "", f"it did not end within {TIMEOUT:.0f} s")
    return Completed(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class RecoveryKeys:
    """Satisfies `kinds.machine.ports.Escrow`. `environment`: of the commands."""

    run: RunFed = run_fed
    environment: Mapping[str, str] | None = None

    def hand_over(self, sink: Sink, machine: Machine, name: str, volume: str, key: str) -> str:
        """Safe to repeat: a file is replaced by the same, and commands are told whose key it is."""
        where = f"{machine.name}: encryption.recovery.sink"
        text = self._encrypted(sink, where, key) if sink.age else f"{key}\n"
        if sink.command is not None:
            self._give(sink.command, where, text, _about(machine, name, volume))
            return "command"
        assert sink.folder is not None, "the description is checked"
        suffix = ".key.age" if sink.age else ".key"
        path = Path(sink.folder) / f"{machine.name}-{name}-{volume}{suffix}"
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(path, text)
        except OSError as error:
            raise _failed(f"{where}.folder", f"{path}: {error.strerror}") from error
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

    def _encrypted(self, sink: Sink, where: str, key: str) -> str:
        argv = ["age", "--encrypt", "--armor", *(word for one in sink.age for word in ("--recipient", one))]
        done = self._run(argv, f"{where}.age", f"{key}\n", {})
        if not done.stdout.startswith("-----BEGIN AGE ENCRYPTED FILE-----"):
            raise _failed(f"{where}.age", "age gave no encrypted text")
        return done.stdout

    def _give(self, command: str, where: str, text: str, about: Mapping[str, str]) -> None:
        self._run(["/bin/sh", "-c", command], f"{where}.command", text, about)

    def _run(self, argv: Sequence[str], where: str, given: str, about: Mapping[str, str]) -> Completed:
        environment = {**(os.environ if self.environment is None else self.environment), **about}
        try:
            done = self.run(argv, given, environment)
        except OSError as error:
            raise _failed(where, f"{argv[0]} cannot be started: {error.strerror}") from error
        if done.status != 0:
            said = tail(done.stderr.strip(), 400)
            raise _failed(where, f"it ended with exit status {done.status}{': ' if said else ''}{said}")
        return done


def _about(machine: Machine, name: str, volume: str) -> Mapping[str, str]:
    return {"DEPLOYMENT": machine.deployment, "MACHINE": machine.name, "VOLUME": name, "LUKS_UUID": volume}


def _failed(where: str, text: str) -> ConfigError:
    return ConfigError(
        f"{where}: the recovery key could not be handed over: {text}",
        hint=f"the disk was not written; mend the sink, then {command(Verb.DEPLOY)}",
    )
