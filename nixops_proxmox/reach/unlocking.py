"""Types a disk's key into a machine's serial console, where the first stage asks for it, and at no other prompt."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from nixops_proxmox.core.ports import Clock
from nixops_proxmox.errors import AgentSilent, NoPath, PveUnreachable, StateError
from nixops_proxmox.model import Machine
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.texts import head, shown_line, tail

QUIET = 1.0  # seconds: a console that says nothing for so long waits for somebody
NUDGE = 15.0  # seconds between two times that Enter is pressed, which shows a prompt again
TRIES = 4  # of one key: Enter that was pressed before the question came answers it first, as an empty passphrase
KEPT = 4096  # characters of the console that are remembered
SHOWN = 80  # and that an error shows

_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?=]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][A-Za-z0-9]|[=>78c])")
# systemd's, with what it says beside; cryptsetup's own; and that of NixOS's stage 1 in shell.
_PASSPHRASE = re.compile(
    r"(?:Please enter passphrase for disk \S.{0,200}?[:!]|(?:Enter p|P)assphrase for /dev/\S{1,200}:)"
    r" ?(?:\(press TAB for no echo\) ?)?"
)
_OTHERS = re.compile(r".{0,80}(?:login|[Pp]assword)(?: for .{1,80})?: ?|.{0,80}[#$>] ?")


class Prompt(StrEnum):
    """What a console that is silent waits for."""

    PASSPHRASE = "passphrase"  # noqa: S105 -- the word itself
    OTHER = "other"
    NONE = "none"


class SerialLine(Protocol):
    """A serial port."""

    def receive(self, timeout: float) -> bytes | None: ...
    def send(self, data: bytes) -> None: ...


class Console:
    """The end of what a console has said."""

    def __init__(self) -> None:
        self._text = ""

    def hear(self, data: bytes) -> None:
        self._text = tail(self._text + data.decode("utf-8", "replace"), KEPT)

    def forget(self) -> None:
        self._text = ""

    @property
    def last_line(self) -> str:
        """Without what moves a cursor or colours."""
        lines = re.split(r"[\r\n]+", _ESCAPES.sub("", self._text))
        visible = ("".join(letter for letter in line if letter.isprintable()) for line in lines)
        return next((line for line in reversed(list(visible)) if line.strip()), "").lstrip(" \N{CLOSED LOCK WITH KEY}")

    @property
    def prompt(self) -> Prompt:
        """Only if its last line is a prompt and nothing else."""
        if _PASSPHRASE.fullmatch(self.last_line):
            return Prompt.PASSPHRASE
        return Prompt.OTHER if _OTHERS.fullmatch(self.last_line) else Prompt.NONE


class Pinged(Protocol):
    """A guest agent."""

    def wait_for_agent(self, timeout: float) -> None: ...


@dataclass(frozen=True)
class ConsoleUnlocker:
    """Satisfies `kinds.machine.ports.Unlocker`. `patience`: seconds until a prompt must be there, and then again until
    it is gone."""

    open_line: Callable[[Machine], AbstractContextManager[SerialLine]]
    agent: Callable[[Machine], Pinged]
    clock: Clock
    patience: float

    def unlock(self, machine: Machine, key: str, tell: Callable[[str], None]) -> bool:
        """Safe to repeat: it types only where a passphrase is asked for."""
        if self.is_up(machine):
            return False
        with self.open_line(machine) as line:
            return _Typing(self, machine, line, key, tell).run()

    def is_up(self, machine: Machine) -> bool:
        try:
            self.agent(machine).wait_for_agent(0.0)
        except AgentSilent:
            return False
        return True


class _Typing:
    """One time that a key is typed."""

    def __init__(
        self, by: ConsoleUnlocker, machine: Machine, line: SerialLine, key: str, tell: Callable[[str], None]
    ) -> None:
        self._by, self._machine, self._line, self._key, self._tell = by, machine, line, key, tell
        self._console, self._typed, self._since, self._nudged = Console(), 0, by.clock.now(), float("-inf")

    def run(self) -> bool:
        self._tell("waiting for the prompt of the first stage on the serial console")
        while True:
            data = self._line.receive(QUIET)
            if data is None:
                raise PveUnreachable(f"{self._machine.name}: the serial console was closed before its disk was open")
            if data:
                self._console.hear(data)
            elif self._is_done():
                return self._typed > 0

    def _is_done(self) -> bool:
        """The console is silent: what now?"""
        prompt, waited = self._console.prompt, self._by.clock.now() - self._since
        if prompt is Prompt.PASSPHRASE:
            self._type()
            return False
        if prompt is Prompt.OTHER:
            return self._at_another_prompt()
        if self._typed and self._by.is_up(self._machine):
            return True
        if waited > self._by.patience:
            raise self._nothing_came() if self._typed else self._nothing_asked()
        if self._by.clock.now() - self._nudged > NUDGE:
            self._nudged = self._by.clock.now()
            self._line.send(b"\r")
        return False

    def _type(self) -> None:
        if self._typed == TRIES:
            raise StateError(
                f"{self._machine.name}: the key that is kept for its disk does not open it",
                hint="the recovery key does; was the disk restored from a backup of another installation?",
            )
        self._tell("typing the key of its disk into the serial console")
        self._console.forget()
        self._line.send(self._key.encode() + b"\r")
        self._typed, self._since = self._typed + 1, self._by.clock.now()
        self._nudged = self._since  # where the key got lost, Enter shows the question again

    def _at_another_prompt(self) -> bool:
        """A system that is up asks who is there. Nothing is typed into that."""
        if self._typed:
            return True
        raise NoPath(
            f"{self._machine.name}: its serial console asks for something else than the passphrase of a disk: "
            f"{shown_line(head(self._console.last_line, SHOWN))!r}; nothing was typed",
            hint=f"{command(Verb.CONSOLE, self._machine.name)} shows it; its system may be up, without a guest agent",
        )

    def _nothing_came(self) -> AgentSilent:
        return AgentSilent(
            f"{self._machine.name}: the key of its disk was typed, and for {self._by.patience:.0f} s neither its guest "
            "agent nor a prompt on the serial console showed that its system starts",
            hint=f"{command(Verb.CONSOLE, self._machine.name)} shows what it does; the same command tries again",
        )

    def _nothing_asked(self) -> NoPath:
        said = shown_line(head(self._console.last_line, SHOWN))
        return NoPath(
            f"{self._machine.name}: nothing asked for the passphrase of its disk on the serial console for "
            f"{self._by.patience:.0f} s; its last line: {said!r}",
            hint="the first stage asks on the console that the kernel's last `console=` names: "
            "`guest.serialConsole` makes it the serial one",
        )
