"""The guest agent as PVE lets us use it: commands, files of any size, waiting for it. What PVE 7.4 to 9.x really do:

- A finished command's result is told once. When the answer is lost, so is the result: use `run_script`, which leaves
  it in a file and can be asked again, and never runs twice.
- Only ASCII goes in safely, and 64 KiB at most.
"""

import base64
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from secrets import token_hex
from time import monotonic, sleep
from typing import Any, Protocol, TypeVar

from nixops_proxmox.core.ports import Clock
from nixops_proxmox.errors import (
    AgentRefused,
    AgentSilent,
    CommandFailed,
    DeployError,
    GuestLost,
    NoAgentDevice,
    PermissionDenied,
    PveBusy,
    PveOutcomeUnknown,
    PveUnreachable,
)
from nixops_proxmox.guest.vigil import Vigil
from nixops_proxmox.model import Completed
from nixops_proxmox.pve.api.answers import AgentInterface, ExecStatus, FileRead, StatusSeen
from nixops_proxmox.pve.wire.refusals import AgentFrozen
from nixops_proxmox.texts import head, script_marker

INPUT = 60_000  # characters of input-data: 65536 by the schema, 64 KiB for the whole body before 8.4
FOLDER = "/run/nixops-proxmox"
SEARCH = "PATH=$PATH:/run/current-system/sw/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH\n"
IS_BOOTING = f"{script_marker('is-booting')}{SEARCH}systemctl is-system-running"
FROZEN = "waiting for the guest to thaw: a backup or a snapshot froze its file systems"
T = TypeVar("T")
THAW_TIME = 300.0  # seconds; PVE freezes a guest for the start of a backup, which is short, but a storage may be slow
NOT_NOW = (AgentSilent, PveBusy, PveUnreachable, PveOutcomeUnknown)
LOOK_EVERY = 5.0  # seconds between two looks at what a silent guest does
AT_WORK = 8 << 20  # bytes moved that are a sign of work: what logs and broadcasts move within a grace is far less


class AgentApi(Protocol):
    """PVE's agent calls for one VM on one node, one to one. `pve.client.Client` has them."""

    def agent_ping(self, node: str, vmid: int) -> None: ...
    def agent_exec(self, node: str, vmid: int, argv: Sequence[str], stdin: str = "") -> int: ...
    def agent_exec_status(self, node: str, vmid: int, pid: int) -> ExecStatus: ...
    def agent_read_file(self, node: str, vmid: int, path: str) -> FileRead: ...
    def agent_interfaces(self, node: str, vmid: int, *, poll: bool = False) -> tuple[AgentInterface, ...]: ...
    def agent_osinfo(self, node: str, vmid: int) -> Mapping[str, Any]: ...
    def get_status(self, node: str, vmid: int, *, poll: bool = False) -> StatusSeen: ...


@dataclass(frozen=True)
class Growth:
    """How much longer to wait for a silent agent while its system boots: `grace` seconds after each sign that the guest
    is at work, and `most` in all. A guest that has run for longer than `most` is not booting, however busy it is."""

    grace: float
    most: float


class RealClock:
    """`sleep` is what every wait sleeps with."""

    def __init__(self, sleep: Callable[[float], None] = sleep) -> None:
        self._sleep = sleep

    def now(self) -> float:
        return monotonic()

    def sleep(self, seconds: float) -> None:
        self._sleep(seconds)


@dataclass(frozen=True)
class CommandResult:
    """A finished command, in bytes."""

    status: int  # 128 + signal for one that was killed
    stdout: bytes = b""
    stderr: bytes = b""

    def completed(self) -> Completed:
        return Completed(self.status, self.stdout.decode(errors="replace"), self.stderr.decode(errors="replace"))


class Agent:
    """The agent of one VM. One call at a time: its channel is serial."""

    def __init__(
        self,
        api: AgentApi,
        node: str,
        vmid: int,
        *,
        clock: Clock | None = None,
        folder: str = FOLDER,
        tell: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """`tell` hears what is waited for."""
        self._tell = tell
        self._api = api
        self._at = (node, vmid)
        self._folder = folder  # in the guest; in memory, so that it is of one boot
        self._clock = clock or RealClock()

    def wait_for_agent(self, timeout: float, growth: Growth | None = None) -> None:
        """Wait until the agent answers. AgentSilent says which layer is missing: the VM, its agent device, the service.

        A dead agent costs PVE 3 s per ping, which paces the loop.
        """
        self._wait(partial(self._api.agent_ping, *self._at), timeout, growth)

    def wait_for_interfaces(self, timeout: float, growth: Growth | None = None) -> tuple[AgentInterface, ...]:
        """The same wait, asking at once for what is wanted: PVE pings the agent before any call."""
        return self._wait(partial(self._api.agent_interfaces, *self._at, poll=True), timeout, growth)

    def _wait(self, ask: Callable[[], T], timeout: float, growth: Growth | None) -> T:
        growth = growth or Growth(0.0, timeout)
        vigil = Vigil(timeout, growth.grace, growth.most, self._clock.now)
        pause, look_at = 0.2, LOOK_EVERY
        while True:  # safe to repeat: `ask` only looks
            try:
                return ask()
            except NOT_NOW as error:
                last: DeployError = error
            except GuestLost as error:
                raise self._silent("the VM is not running", "it was switched off, or it crashed") from error
            except AgentRefused as error:
                if "No QEMU guest agent configured" in error.message:
                    why, hint = "the VM has no agent device", "set `agent`, then stop and start it"
                    raise self._silent(why, hint, NoAgentDevice) from error
                raise
            if growth.grace and vigil.waited >= look_at:
                vigil.see(self._signs_of_boot(growth.most))
                look_at = vigil.waited + LOOK_EVERY
            if vigil.is_over:
                raise self._silent(
                    f"no agent service answered within {vigil.waited:.0f} s: {last.message}",
                    "does the system that it boots contain qemu-guest-agent? Look at the console; if the device was"
                    " added to a running VM, stop and start the VM. Images and templates without an agent need"
                    ' `install.identity = "cloud-init"`',
                ) from last
            if isinstance(last, AgentFrozen):
                self._tell(FROZEN)
            self._clock.sleep(min(pause, vigil.left))
            pause = min(2.0, pause * 1.5)

    def _signs_of_boot(self, most: float) -> Sequence[str]:
        """What PVE sees of it from outside. A busy processor is no sign, because firmware that found no disk keeps it
        busy."""
        try:
            seen = self._api.get_status(*self._at, poll=True)
        except (*NOT_NOW, PermissionDenied):
            return ()
        return [f"it moved {seen.moved // AT_WORK} times 8 MiB"] if seen.uptime < most else []

    def exec(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60) -> CommandResult:
        """Run a program (absolute path, no shell) and wait.

        For what may be repeated: PveOutcomeUnknown if the result was lost. Words and stdin must be ASCII (ValueError).
        """
        deadline = self._clock.now() + timeout
        text = stdin.decode("ascii")
        if len(text) > INPUT or not all(word.isascii() for word in argv):
            raise ValueError("PVE's agent call takes at most 60000 characters of ASCII: use run_script")
        pid = self._api.agent_exec(*self._at, list(argv), text)
        return self._wait_for_exit(pid, deadline, timeout, head(shlex.join(argv), 80))

    def run_script(self, script: str, *, token: str = "", timeout: float = 60) -> Completed:
        """Run a `/bin/sh` script (of 45 KB at most) once, whatever answers get lost. Asked again with the same token
        (letters, digits, dashes) it gives the first run's result, for as long as this boot of the guest lasts.

        Safe to repeat: the guest runs the script of a token once, and after that only tells its result."""
        argv = run_once_argv(token or token_hex(8), self._folder)
        packed = base64.b64encode(script.encode())
        deadline = self._clock.now() + timeout
        while True:
            try:
                return self.exec(argv, stdin=packed, timeout=max(0.0, deadline - self._clock.now())).completed()
            except NOT_NOW as error:
                if self._clock.now() >= deadline:
                    raise
                if isinstance(error, AgentFrozen):
                    self._tell(FROZEN)
                if isinstance(error, AgentSilent):
                    self._clock.sleep(0.5)

    def read_file(self, path: str) -> bytes:
        """A whole file, of any size. Raises AgentRefused if there is none."""
        first = self._repeat(lambda: self._api.agent_read_file(*self._at, path))
        data, truncated = first.content, first.truncated
        while truncated:  # 16 MiB is all that one answer holds
            piece = self.exec(["/bin/sh", "-c", tail_script(path, len(data))]).stdout
            data, truncated = data + piece, bool(piece)
        return data

    def interfaces(self, *, again: bool = False) -> tuple[AgentInterface, ...]:
        """`again`: asked before, and now for what may have changed."""
        return self._repeat(lambda: self._api.agent_interfaces(*self._at, poll=again))

    def is_booting(self) -> bool:
        """Does its init say that the system is still starting? False, too, where this cannot be told."""
        try:
            told = self.exec(["/bin/sh", "-c", IS_BOOTING], timeout=10).stdout
        except DeployError:
            return False
        return told.strip() in (b"initializing", b"starting")

    def osinfo(self) -> Mapping[str, Any]:
        """os-release and uname, as {"id": …, "variant-id": …, …}."""
        return self._repeat(lambda: self._api.agent_osinfo(*self._at))

    def _wait_for_exit(self, pid: int, deadline: float, timeout: float, what: str) -> CommandResult:
        pause = 0.05
        while True:
            try:
                seen = self._api.agent_exec_status(*self._at, pid)
            except NOT_NOW:
                # Safe to repeat: it only asks. If the lost answer took the result along, the next answer says so.
                seen = ExecStatus(exited=False)
            except AgentRefused as error:
                if is_lost_pid(error.message):
                    raise PveOutcomeUnknown(f"VM {self._at[1]}: the result of a command was lost: {what}") from error
                raise
            if seen.exited:
                return self._result(seen, what)
            if self._clock.now() >= deadline:
                raise PveOutcomeUnknown(
                    f"VM {self._at[1]}: a command did not end within {timeout:g} s; it may still run: {what}"
                )
            self._clock.sleep(pause)
            pause = min(2.0, pause * 1.5)

    def _result(self, seen: ExecStatus, what: str) -> CommandResult:
        status = 128 + seen.signal if seen.signal else seen.status
        if seen.truncated:
            raise CommandFailed(f"VM {self._at[1]}: a command printed over 16 MiB: {what}", status=status)
        return CommandResult(status, seen.stdout, seen.stderr)

    def _repeat(self, call: Callable[[], T], times: int = 5) -> T:
        """Repeat the call a few times while the answer is "not now", and longer while the guest is frozen.

        Safe to repeat: all of these calls only read."""
        thawed_by, tries = self._clock.now() + THAW_TIME, 1
        while True:
            try:
                return call()
            except AgentFrozen:
                if self._clock.now() > thawed_by:
                    raise
                self._tell(FROZEN)
                self._clock.sleep(2.0)
            except NOT_NOW:
                if tries == times:
                    raise
                self._clock.sleep(0.2 * 2**tries)
                tries += 1

    def _silent(self, why: str, hint: str, error: type[AgentSilent] = AgentSilent) -> AgentSilent:
        return error(f"VM {self._at[1]}: the guest agent does not answer: {why}", hint=hint)


def is_lost_pid(message: str) -> bool:
    """qemu-ga forgets a process with its first "exited" answer (the words: since 5.1, and before)."""
    return "Invalid parameter 'pid'" in message or ("PID" in message and "does not exist" in message)


def run_once_argv(token: str, folder: str = FOLDER) -> list[str]:
    """A command that runs the script on its stdin (base64) once per token, and else gives the first run's result."""
    if not token.replace("-", "").isalnum() or not token.isascii():
        raise ValueError(f"not a token: {token!r}")
    place = f"{folder}/once/{token}"
    return ["/bin/sh", "-c", script_marker("run-once", place) + _RUN_ONCE, "nixops-proxmox", place]


_RUN_ONCE = (
    SEARCH
    + """d=$1; umask 077; mkdir -p "${d%/*}" || exit 1
if mkdir "$d" 2>/dev/null; then
  base64 -d > "$d/script" || { rm -rf "$d"; exit 1; }
  ( umask 022; exec /bin/sh "$d/script" ) < /dev/null > "$d/out" 2> "$d/err"
  echo $? > "$d/new" && mv "$d/new" "$d/status"
else
  cat > /dev/null
  n=0
  while [ ! -e "$d/status" ] && [ $n -lt 3000 ]; do n=$((n+1)); sleep 0.2; done
fi
cat "$d/out"; cat "$d/err" >&2; read -r s < "$d/status"; exit "$s"
"""
)


def tail_script(path: str, skip: int) -> str:
    """Print 8 MiB of a file at most, from the byte behind the first `skip` on."""
    marker = script_marker("file-tail", path, str(skip))
    return f"{marker}{SEARCH}tail -c +{skip + 1} {shlex.quote(path)} | head -c 8388608"
