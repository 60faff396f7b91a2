"""A disk's key is typed where the first stage asks for it, and nowhere else."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from nixops_proxmox.errors import AgentSilent, DeployError, NoPath, PveUnreachable, StateError
from nixops_proxmox.model import Machine
from nixops_proxmox.reach.unlocking import TRIES, Console, ConsoleUnlocker, Prompt
from tests.clocks import SteppedClock

KEY = "cbdefghi-jklnrtuv"
SYSTEMD = "\x1b[0;1;39m🔐 Please enter passphrase for disk root:\x1b[0m (press TAB for no echo) "
SHELL = "\r\nPlease enter passphrase for disk root: "
LOGIN = b"\r\nopened\r\n\r\nweb login: "
MACHINE = Machine("demo", "web")


@dataclass
class Serial:
    """A serial line, and the guest at its end. `answers`: what the guest says to each thing that is typed."""

    clock: SteppedClock
    said: list[bytes]
    answers: Callable[[bytes], bytes | None] = lambda _: b""
    typed: list[bytes] = field(default_factory=list)
    closed: bool = False

    def receive(self, timeout: float) -> bytes | None:
        if self.said:
            return self.said.pop(0)
        self.clock.sleep(timeout)
        return None if self.closed else b""

    def send(self, data: bytes) -> None:
        self.typed.append(data)
        answer = self.answers(data)
        self.closed = answer is None
        if answer:
            self.said.append(answer)

    @property
    def keys(self) -> int:
        return sum(KEY.encode() in one for one in self.typed)


@dataclass
class Agent:
    """It answers if `up`, or as soon as the key was typed `opens` times."""

    line: Serial
    up: bool
    opens: float

    def wait_for_agent(self, timeout: float) -> None:
        if not self.up and self.line.keys < self.opens:
            raise AgentSilent("no answer")


def unlock(line: Serial, *, up: bool = False, opens: float = float("inf")) -> bool:
    @contextmanager
    def opened(machine: Machine) -> Iterator[Serial]:
        yield line

    return ConsoleUnlocker(opened, lambda _: Agent(line, up, opens), line.clock, patience=60.0).unlock(
        MACHINE, KEY, lambda _: None
    )


@pytest.mark.parametrize(
    "prompt", [SYSTEMD, SHELL, "Passphrase for /dev/disk/by-partlabel/nixos-luks: ", "Enter passphrase for /dev/sda2: "]
)
def test_the_key_is_typed_once_at_the_prompt_of_the_first_stage(prompt: str) -> None:
    line = Serial(SteppedClock(), [b"[  0.1] booting\r\n", prompt.encode()], lambda _: LOGIN)
    assert unlock(line)
    assert line.typed == [KEY.encode() + b"\r"]


def test_a_prompt_that_was_said_before_we_came_is_shown_again_by_enter() -> None:
    line = Serial(SteppedClock(), [], lambda data: SHELL.encode() if data == b"\r" else LOGIN)
    assert unlock(line)
    assert line.typed == [b"\r", KEY.encode() + b"\r"]


@pytest.mark.parametrize(
    "prompt",
    ["web login: ", "Password: ", "[sudo] password for me: ", "root@web:~# ", "$ ", "bash-5.2# ", "(initramfs) > "],
)
@pytest.mark.parametrize("before", ["", SHELL + "\r\nopened\r\n"])
def test_no_other_prompt_gets_the_key(prompt: str, before: str) -> None:
    line = Serial(SteppedClock(), [(before + "\r\n" + prompt).encode()])
    with pytest.raises(NoPath, match="nothing was typed"):
        unlock(line)
    assert line.typed == []


@pytest.mark.parametrize(
    "said",
    [
        "echo Please enter passphrase for disk root: now",
        "Please enter passphrase for disk root: \r\nweb login: ",
        "say: Please enter passphrase for disk root: ",
        "Please enter passphrase for disk",
        "Enter passphrase for key '/root/.ssh/id': ",
        "",
    ],
)
def test_words_about_a_passphrase_are_no_prompt(said: str) -> None:
    console = Console()
    console.hear(said.encode())
    assert console.prompt is not Prompt.PASSPHRASE


def test_where_nothing_asks_nothing_is_typed_and_the_last_line_is_told() -> None:
    line = Serial(SteppedClock(), [b"Reached target \x1b]0;x\x07Network.\r\n"])
    with pytest.raises(NoPath, match=r"nothing asked .* 60 s; its last line: 'Reached target Network.'"):
        unlock(line)
    assert line.keys == 0 and set(line.typed) == {b"\r"}


def test_a_key_that_does_not_open_the_disk_is_not_typed_for_ever() -> None:
    line = Serial(SteppedClock(), [SHELL.encode()], lambda _: b"\r\nThat did not open the disk.\r\n" + SHELL.encode())
    with pytest.raises(StateError, match="does not open it") as refused:
        unlock(line)
    assert line.keys == TRIES and KEY not in str(refused.value)


def test_what_somebody_else_had_begun_to_type_costs_one_try() -> None:
    answers = iter([SHELL.encode(), LOGIN])
    line = Serial(SteppedClock(), [SHELL.encode()], lambda _: next(answers))
    assert unlock(line) and line.keys == 2


def test_a_system_that_is_up_is_not_asked() -> None:
    line = Serial(SteppedClock(), [SHELL.encode()])
    assert not unlock(line, up=True)
    assert line.typed == []


def test_a_login_prompt_after_the_key_says_that_it_opened_the_disk() -> None:
    line = Serial(SteppedClock(), [SHELL.encode()], lambda _: LOGIN)
    assert unlock(line) and line.keys == 1


def test_the_agent_of_a_system_without_a_login_says_that_it_opened_the_disk() -> None:
    line = Serial(SteppedClock(), [SHELL.encode()], lambda _: b"\r\nopened\r\n")
    assert unlock(line, opens=1) and line.keys == 1


def test_a_key_that_got_lost_is_typed_again_where_the_question_is_shown_again() -> None:
    answers = iter([b"", SHELL.encode(), LOGIN])
    line = Serial(SteppedClock(), [SHELL.encode()], lambda _: next(answers))
    assert unlock(line)
    assert line.typed == [KEY.encode() + b"\r", b"\r", KEY.encode() + b"\r"]


def test_a_key_without_any_effect_is_no_success() -> None:
    line = Serial(SteppedClock(), [SHELL.encode()])
    with pytest.raises(AgentSilent, match="was typed, and for 60 s neither"):
        unlock(line)
    assert line.keys == 1


def test_a_console_that_closes_is_told() -> None:
    line = Serial(SteppedClock(), [], lambda _: None)
    with pytest.raises(PveUnreachable, match="closed before"):
        unlock(line)


def test_a_hostile_console_moves_nothing_in_the_error() -> None:
    line = Serial(SteppedClock(), ["\x1b[2Jok\u202e\x07 # ".encode()])
    with pytest.raises(DeployError) as refused:
        unlock(line)
    assert "\x1b" not in refused.value.message and "\u202e" not in refused.value.message
