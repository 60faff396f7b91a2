"""The executable as a process: its pipes, its ends, and what it refuses. Nothing here needs a hypervisor."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox import __version__
from tests.nixops4.dialogue import Provider, create, start_provider, state_event, state_read
from tests.pace import patience

DISKS_AND_NICS = {"disks": [{"storage": "local", "size": "1G"}], "network": [{"bridge": "vmbr0"}]}


@contextmanager
def start_alone(home: Path) -> Iterator[Provider]:
    """A provider whose user has nothing: no profiles, no state."""
    environment = {**os.environ, "HOME": str(home), "NIXOPS_PROXMOX_STATE": str(home / "state.sqlite")}
    for folder in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        environment[folder] = str(home / folder)
    with start_provider(environment, home / "log") as started:
        yield started


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    with start_alone(tmp_path) as started:
        yield started


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """One process for all requests that it must survive."""
    with start_alone(tmp_path_factory.mktemp("lasting")) as started:
        yield started
        assert started.close() == 0


def test_every_line_is_answered_by_one_until_the_pipe_is_closed(provider: Provider, log: Path) -> None:
    added = {"op": "add", "path": "/resources/web", "value": {"type": "vm"}}
    assert provider.ask_outputs(create("state", {"name": "prod"}, stateful=False)) == {}
    assert provider.ask(state_event("prod", [added])) == {"stateResourceEventResponse": {}}
    state = provider.ask(state_read("prod"))["stateResourceReadResponse"]["state"]
    assert state == {"_type": "nixopsState", "resources": {"web": {"type": "vm"}}, "deployments": {}}
    assert provider.close() == 0
    assert log.read_text() == ""


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"{", "the request is not JSON"),
        (b"\xff\xfe", "the request is not UTF-8"),
        (b"[]", "a request is an object with one key"),
        (b'{"deleteResourceRequest": {}}', "unknown request 'deleteResourceRequest'"),
        (b'{"createResourceRequest": {"type": "vm"}}', "inputProperties: Field required"),
        (b'{"createResourceRequest": {}, "updateResourceRequest": {}}', "one key"),
    ],
)
def test_a_malformed_line_is_an_error_and_the_next_one_is_served(lasting: Provider, line: bytes, says: str) -> None:
    assert says in lasting.ask_error(line)
    assert lasting.ask_outputs(create("state", {"name": "prod"})) == {}


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (create("castle", {}), "unknown resource type 'castle'; known are vm, nixos, iso, image, volume, "),
        (create("vm", {"name": "web", "proxmox": {}, "colour": 1}), "vm.colour: unknown input"),
        (create("vm", {"name": "web", "proxmox": {}}, stateful=False), "must be stateful"),
        (create("nixos", {}, stateful=False), "must be stateful"),
    ],
)
def test_what_cannot_be_done_is_an_error_that_says_why(lasting: Provider, request_: Any, says: str) -> None:
    assert says in lasting.ask_error(request_)


def test_without_a_hypervisor_the_error_says_where_it_was_looked_for(lasting: Provider) -> None:
    request = create("vm", {"name": "web", "proxmox": DISKS_AND_NICS})
    assert "there is no profile 'default'" in lasting.ask_error(request)


def test_nobody_who_reads_the_answer_is_no_defect(provider: Provider, log: Path) -> None:
    assert provider.process.stdout is not None
    provider.process.stdout.close()
    provider.send(create("state", {"name": "prod"}))
    assert provider.process.wait(patience(20)) == 1
    assert "NixOps has gone" in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_with_the_status_that_says_which(provider: Provider, number: int, log: Path) -> None:
    provider.ask(create("state", {"name": "prod"}))
    provider.process.send_signal(number)
    assert provider.process.wait(patience(20)) == 128 + number
    assert log.read_text() == "nixops4-resources-proxmox: stopped; send the same request again to continue\n"


def test_a_cut_off_request_is_an_error_and_not_acted_on(provider: Provider) -> None:
    stdin = provider.process.stdin
    assert stdin is not None
    stdin.write(b'{"createResourceRequest": {"type": "state", "inputProp')
    stdin.close()
    assert "not JSON" in provider.receive()["errorResponse"]["message"]
    assert provider.process.wait(patience(20)) == 0


def test_it_tells_what_it_is_to_whoever_starts_it_by_hand() -> None:
    argv = [sys.executable, "-m", "nixops_proxmox.nixops4.provider"]
    version = subprocess.run([*argv, "--version"], capture_output=True, text=True, timeout=patience(60))
    assert (version.returncode, version.stdout) == (0, f"nixops4-resources-proxmox {__version__}\n")
    wrong = subprocess.run(
        [*argv, "deploy"], capture_output=True, text=True, timeout=patience(60), stdin=subprocess.DEVNULL
    )
    assert wrong.returncode == 2
    assert wrong.stdout == ""
