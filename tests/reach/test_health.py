"""What a user declares as health, asked of a server of our own and of a shell that answers as told."""

import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress

import pytest

from nixops_proxmox.errors import ConnectionLost
from nixops_proxmox.model import Completed, Endpoint
from nixops_proxmox.reach.health import COMPLAINTS, command_script, find_ailments, units_script
from nixops_proxmox.spec import HealthSpec
from nixops_proxmox.ssh.login import SshLogin

LOGIN = SshLogin(Endpoint("127.0.0.1"), ("ssh-ed25519 AAAA",))


class Told:
    """A shell of a guest. It knows the script that it is given."""

    def __init__(self, answer: Completed | None = None) -> None:
        self.answer = answer
        self.scripts: list[str] = []

    def run(self, script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed:
        self.scripts.append(script)
        if self.answer is None:
            raise ConnectionLost("it did not end within 30 s")
        return self.answer


@contextmanager
def serving(answer: bytes) -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            with suppress(OSError), server.accept()[0] as stream:  # a look at a port closes at once
                stream.recv(4096)
                stream.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def closed_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


def ailments(told: Told | None = None, **health: object) -> list[str]:
    return find_ailments(HealthSpec.model_validate(health), told or Told(Completed(0)), LOGIN)


def test_where_nothing_is_declared_nothing_is_asked() -> None:
    told = Told()
    assert ailments(told) == [] and told.scripts == []


@pytest.mark.parametrize(
    ("answer", "wanted", "said"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", 200, ""),
        (b"HTTP/1.0 204\r\n\r\n", 204, ""),
        (b"HTTP/1.1 503 Busy\r\n\r\n", 200, "status 503, and 200 is wanted"),
        (b"SSH-2.0-OpenSSH\r\n", 200, "no HTTP, and 200 is wanted"),
        (b"", 200, "no HTTP"),
        (b"HTTP/1.1 2000\r\n", 200, "no HTTP"),
    ],
)
def test_an_answer_must_have_the_wanted_status(answer: bytes, wanted: int, said: str) -> None:
    with serving(answer) as port:
        found = ailments(http=[{"port": port, "path": "/health", "status": wanted}])
    assert (found == []) is (not said)
    assert all(one.startswith(f"http {port}/health: ") and said in one for one in found)


def test_a_port_must_take_connections() -> None:
    with serving(b"") as port:
        assert ailments(tcp=[port]) == []
    port = closed_port()
    found = [*ailments(tcp=[port]), *ailments(http=[{"port": port}])]
    assert [one.partition(": ")[0] for one in found] == [f"tcp {port}", f"http {port}/"]
    assert all("refused" in one for one in found)


ANSWERS: Mapping[str, tuple[Completed | None, dict[str, object], list[str]]] = {
    "all active": (Completed(0), {"units": ["a.service"]}, []),
    "one failed": (Completed(0, "b.service failed\n"), {"units": ["a", "b.service"]}, ["b.service is failed"]),
    "a stranger's word": (Completed(0, "c.service \x1b[2J\n"), {"units": ["a"]}, []),
    "no systemctl": (Completed(127, "", "sh: no"), {"units": ["a"]}, ["units: systemctl cannot be asked: sh: no"]),
    "command": (Completed(0), {"command": "true"}, []),
    "command fails": (Completed(3, "", "not\nready\n"), {"command": "x"}, ["command: status 3: not ready"]),
    "command hangs": (None, {"command": "x"}, ["command: it did not end within 30 s"]),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_the_guest_says_is_told(name: str) -> None:
    answer, health, said = ANSWERS[name]
    assert ailments(Told(answer), **health) == said


@pytest.mark.parametrize("script", [COMPLAINTS, units_script(("a@b.service",)), command_script("echo 'it is'\nexit 1")])
def test_scripts_are_posix(script: str) -> None:
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0


def test_the_users_command_is_run_as_it_is_written() -> None:
    argv = ["sh", "-c", command_script("echo 'it is'\nexit 3")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "it is\n")
