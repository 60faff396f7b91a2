"""What stands at an address: a PVE, or something else, which is said in words that lead on."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nixops_proxmox.errors import DeployError
from nixops_proxmox.pve.wire.first_contact import find_stranger, look_first
from nixops_proxmox.pve.wire.servers import parse_server
from tests.pve.stub import Reply, Stub, data

PVE = [{"realm": "pam", "type": "pam"}, {"realm": "pve", "type": "pve"}]


def test_a_pve_is_known_by_its_realms_and_its_certificate_is_shown_without_a_secret(stub: Stub) -> None:
    stub.answer = lambda _asked: data(PVE)
    seen = look_first(parse_server(stub.url))
    assert len(seen.fingerprint) == 64 and not seen.trusted
    (asked,) = stub.asked
    assert asked.path == "/access/domains"
    assert not {"authorization", "cookie"} & {name.lower() for name in asked.headers}


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, json.dumps({"data": PVE}).encode(), ""),
        (200, json.dumps({"data": [{"realm": "pam"}, {"realm": "pbs"}]}).encode(), "Backup Server"),
        (200, b"<html>Welcome to nginx!</html>", "other web server"),
        (200, b'{"data": [17]}', "other web server"),
        (404, json.dumps({"data": PVE}).encode(), "status 404"),
        (301, b"", "status 301"),
        (200, b"[" * 100_000, "other web server"),
    ],
)
def test_others_are_told_apart(status: int, body: bytes, told: str) -> None:
    found = find_stranger(status, body)
    assert told in found and bool(found) is bool(told)


@contextmanager
def start_plain(answer: bytes) -> Iterator[str]:
    """Something that listens, and is no TLS."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{server.getsockname()[1]}"
        thread.join(10)


def refusal(url: str) -> DeployError:
    with pytest.raises(DeployError) as refused:
        look_first(parse_server(url), seconds=5)
    return refused.value


def test_a_plain_server_a_closed_port_and_a_name_of_nobody_are_told_apart(stub: Stub) -> None:
    with start_plain(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        plain = refusal(url)
    assert "does not speak TLS" in plain.message and "8006" in plain.hint
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"https://127.0.0.1:{server.getsockname()[1]}"
    assert "nothing listens on that port" in refusal(closed).message
    assert "no host of that name" in refusal("https://pve1.nowhere.invalid").message
    stub.answer = lambda _asked: Reply(status=200, body=b"<html>")
    assert "is no PVE" in refusal(stub.url).message
