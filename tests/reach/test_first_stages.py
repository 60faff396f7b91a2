"""A key is handed to a first stage that proves itself, and that asks for the passphrase of a disk."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from nixops_proxmox.errors import CommandFailed, ConnectionLost, HostKeyChanged, SshUnreachable, StateError
from nixops_proxmox.kinds.machine.encryption import SEALED
from nixops_proxmox.kinds.machine.first_stage_ssh import (
    ASKED,
    HOST_KEY,
    REPLY,
    Handed,
    delivery_of_key,
    parse_handed,
    unlock_script,
)
from nixops_proxmox.model import Address, Completed, Endpoint, Facts, Machine, Phase, Reach
from nixops_proxmox.reach.first_stages import SshFirstStages, endpoints
from tests.clocks import SteppedClock

KEY, PINNED = "the-key", "ssh-ed25519 PINNED"
LAST = Endpoint("10.0.0.2", 22, "deploy", "gate")
FACTS = Facts(endpoint=LAST, addresses=(Address(ip_address("10.0.0.9"), Reach.PRIVATE),))
MACHINE = Machine("demo", "vault", Phase.RUNNING, FACTS)


class Server:
    """Answers in turn: what a shell prints, or an error."""

    def __init__(self, *answers: str | Exception, up_after: int = 1000) -> None:
        self.answers, self.looks, self.up_after = list(answers), 0, up_after
        self.seen: list[tuple[Endpoint, str]] = []
        self.given: list[bytes] = []

    @contextmanager
    def open_shell(self, endpoint: Endpoint, host_key: str) -> Iterator["Server"]:
        self.seen.append((endpoint, host_key))
        yield self

    def run(self, script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed:
        assert script == unlock_script() and timeout > 60
        answer = self.answers.pop(0) if self.answers else SshUnreachable("no answer")
        if isinstance(answer, Exception):
            raise answer
        self.given.append(stdin)
        return Completed(0, answer)

    def is_up(self, machine: Machine) -> bool:
        self.looks += 1
        return self.looks > self.up_after

    def unlock(self) -> bool | None:
        way = SshFirstStages(self.open_shell, self.is_up, SteppedClock(), 30.0)
        return way.unlock(MACHINE, 2222, PINNED, KEY, lambda text: None)


def told(word: str) -> str:
    return f"nixops-proxmox-unlocked {word}\n"


@pytest.mark.parametrize(
    ("answers", "up_after", "done"),
    [
        ([told("opened")], 1000, True),
        ([SshUnreachable("x"), SshUnreachable("x"), told("silent"), told("opened")], 1000, True),
        ([ConnectionLost("it ended")], 1, True),
        ([], 0, False),
        ([], 1000, None),
        ([told("silent")] * 100, 1000, None),
    ],
)
def test_it_waits_until_the_first_stage_answers_and_asks(
    answers: Sequence[str | Exception], up_after: int, done: bool | None
) -> None:
    server = Server(*answers, up_after=up_after)
    assert server.unlock() is done
    assert set(server.given) <= {KEY.encode()} and {host_key for _, host_key in server.seen} <= {PINNED}


def test_it_is_looked_for_where_the_system_was_and_as_root() -> None:
    assert list(endpoints(MACHINE, 2222)) == [
        Endpoint("10.0.0.2", 2222, "root", "gate"),
        Endpoint("10.0.0.9", 2222, "root", "gate"),
    ]


@pytest.mark.parametrize(
    ("answer", "error", "why"),
    [
        (told("wrong"), StateError, "does not open it"),
        ("sh: not found", CommandFailed, "does not take the key"),
        (HostKeyChanged("another key"), HostKeyChanged, "another key"),
    ],
)
def test_what_does_not_take_the_key_ends_it(answer: str | Exception, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        Server(answer).unlock()


class Stage:
    """A first stage with systemd's questions as files, and a program that answers them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked, self.mapper = folder, folder / "ask-password", folder / "mapper"
        for one in (self.asked, self.mapper):
            one.mkdir()
        program = folder / "reply"
        program.write_text(
            f'#!/bin/sh\ncat > "$2"\n[ "$(cat "$2")" = {KEY} ] || exit 0\n'
            f"touch {self.mapper}/root\nrm {self.asked}/ask.*\n"
        )
        program.chmod(0o755)
        (folder / "reply-password").write_text(f"{program}\n")

    def ask(self, who: str) -> None:
        (self.asked / "ask.abc").write_text(f"[Ask]\nPID=1\nSocket={self.folder}/socket\nId={who}\nMessage=x\n")

    def run(self, key: str) -> Handed:
        script = unlock_script().replace(REPLY, str(self.folder / "reply-password"))
        script = script.replace(ASKED, str(self.asked)).replace("/dev/mapper", str(self.mapper)).replace("sleep 1", ":")
        done = subprocess.run(["sh", "-c", script], input=key, capture_output=True, text=True, check=True)
        return parse_handed(done.stdout)


@pytest.mark.parametrize(
    ("who", "key", "handed"),
    [
        ("cryptsetup:/dev/sda2", KEY, Handed.OPENED),
        ("cryptsetup:/dev/sda2", "other", Handed.WRONG),
        ("ssh-key:x", KEY, Handed.SILENT),
        ("", KEY, Handed.SILENT),
    ],
)
def test_only_who_asks_for_the_passphrase_of_a_disk_gets_it(tmp_path: Path, who: str, key: str, handed: Handed) -> None:
    stage = Stage(tmp_path)
    if who:
        stage.ask(who)
    assert stage.run(key) is handed
    assert (tmp_path / "socket").exists() is (handed is not Handed.SILENT)


@pytest.mark.parametrize("printed", ["", "opened", "nixops-proxmox-unlocked", "nixops-proxmox-unlocked maybe"])
def test_what_tells_nothing_is_refused(printed: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_handed(printed)


def test_the_key_of_the_server_is_replaced_as_a_whole_and_for_root_alone(tmp_path: Path) -> None:
    sealed = tmp_path / "mnt" / "sealed"
    sealed.mkdir(parents=True)
    (sealed / "root.jwe").write_text("kept")

    def deliver(private: str) -> None:
        script, archive = delivery_of_key(private, ["ssh-ed25519 A ", "ssh-ed25519 B"], "/mnt")
        script = script.replace(f"/mnt{SEALED}", str(sealed))
        subprocess.run(["sh", "-c", script], input=archive, check=True)

    for private in ("one", "two"):
        deliver(private)
    assert (sealed / HOST_KEY).read_text() == "two" and (sealed / HOST_KEY).stat().st_mode & 0o777 == 0o400
    assert (sealed / "authorized_keys").read_text() == "ssh-ed25519 A\nssh-ed25519 B\n"
    assert sorted(path.name for path in sealed.iterdir()) == ["authorized_keys", "root.jwe", HOST_KEY]
