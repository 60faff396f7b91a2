"""A guest is waited for as long as it gets on, and no longer."""

import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep

import pytest
from typing_extensions import override

from nixops_proxmox.core.thing import AnyThing
from nixops_proxmox.errors import AgentSilent, NoEndpoint
from nixops_proxmox.guest.agent import Agent, Growth
from nixops_proxmox.guest.vigil import Vigil
from nixops_proxmox.model import Endpoint, Machine
from nixops_proxmox.options import Silent
from nixops_proxmox.pve.api.answers import AgentInterface
from nixops_proxmox.reach.guests import Guests
from nixops_proxmox.reach.patience import Patience
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.ssh.keys import KeyStore, new_key_pair
from tests.pace import patience
from tests.ports import free_port
from tests.pve.specs import machine, spec
from tests.ssh.server import Sshd, start_sshd


class Hours:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def begun(hours: Hours) -> Vigil:
    return Vigil(8, 120, 900, hours)


def test_a_guest_that_shows_nothing_is_soon_given_up() -> None:
    hours = Hours()
    vigil = begun(hours)
    hours.now = 7.9
    vigil.see([])
    assert not vigil.is_over
    hours.now = 8.0
    assert (vigil.is_over, vigil.waited) == (True, 8)


def test_each_new_sign_gives_it_time_and_an_old_one_none() -> None:
    hours = Hours()
    vigil = begun(hours)
    hours.now = 5
    vigil.see(["it takes connections at ::1"])
    hours.now = 120
    vigil.see(["it takes connections at ::1"])
    assert not vigil.is_over
    hours.now = 125
    assert vigil.is_over


def test_a_boot_that_goes_on_is_waited_for_but_not_for_ever() -> None:
    hours = Hours()
    vigil = begun(hours)
    for hours.now in range(0, 900, 60):
        vigil.extend()
        assert not vigil.is_over
    hours.now = 900
    vigil.see(["new"])
    assert vigil.is_over


# With real sockets.


class Guest(Agent):
    """An agent with nobody behind it; the system is starting for `boot` seconds."""

    def __init__(self, boot: float = 0.0) -> None:
        self._booted = monotonic() + boot

    @override
    def wait_for_interfaces(self, timeout: float, growth: Growth | None = None) -> tuple[AgentInterface, ...]:
        self.growth = growth
        return ()

    @override
    def wait_for_agent(self, timeout: float, growth: Growth | None = None) -> None:
        raise AgentSilent(f"{timeout:g}, {growth}")

    @override
    def interfaces(self, *, again: bool = False) -> tuple[AgentInterface, ...]:
        return ()

    @override
    def is_booting(self) -> bool:
        return monotonic() < self._booted


class Winners:
    name = "demo"

    def machines(self) -> list[Machine]:
        return []

    def find_winner(self, machine: str, site: str) -> Endpoint | None:
        return None

    def remember_winner(self, machine: str, site: str, endpoint: Endpoint) -> None: ...


class Told(Silent):
    def __init__(self) -> None:
        self.texts: list[str] = []

    @override
    def detail(self, thing: AnyThing, text: str) -> None:
        self.texts.append(text)


class SlowServer(socketserver.ThreadingTCPServer):
    """Takes connections at once, and hands them on after `delay` seconds."""

    daemon_threads, block_on_close = True, False

    def __init__(self, port: int, delay: float) -> None:
        super().__init__(("127.0.0.1", 0), HandOn)
        self.port, self.delay = port, delay


class HandOn(socketserver.BaseRequestHandler):
    server: SlowServer

    @override
    def handle(self) -> None:
        sleep(self.server.delay)
        with socket.create_connection(("127.0.0.1", self.server.port)) as behind:
            back = threading.Thread(target=pump, args=(behind, self.request), daemon=True)
            back.start()
            pump(self.request, behind)
            back.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):  # either side has gone
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def start_slow(port: int, delay: float) -> Iterator[int]:
    with SlowServer(port, delay) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield int(server.server_address[1])
        server.shutdown()


def at(port: int) -> MachineSpec:
    return spec(endpoint={"address": "127.0.0.1"}, ssh={"port": port})


def guests(folder: Path, stack: ExitStack, agent: Agent, limits: Patience, told: Silent | None = None) -> Guests:
    keys = KeyStore(folder / "keys", "demo")
    return Guests(lambda _: agent, keys, Winners(), folder, told or Silent(), stack, limits)


SHORT = Patience(boot=1, sshd=patience(20), race=0.3, look=0.5)


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with start_sshd(tmp_path) as server:
        yield server


@pytest.mark.parametrize("hurried", [False, True], ids=["deploy", "check"])
def test_a_guest_that_is_slow_to_prove_itself_gets_the_same_patience_from_whoever_asks(
    sshd: Sshd, tmp_path: Path, hurried: bool
) -> None:
    told = Told()
    with ExitStack() as stack, start_slow(sshd.port, 1.5) as port:
        mine = guests(tmp_path, stack, Guest(), SHORT, told)
        mine = mine.hurried() if hurried else mine
        known = machine(host_key=sshd.host.public)
        assert mine.meet_system(known, at(port)).endpoint == Endpoint("127.0.0.1", port)
        assert any("takes connections, and is slow to prove" in text for text in told.texts)
        assert mine.login(known, at(port)).answer == SHORT.sshd


class Busy(Guest):
    """Its agent tells addresses once, and then has no time for us."""

    @override
    def interfaces(self, *, again: bool = False) -> tuple[AgentInterface, ...]:
        raise AgentSilent("QEMU guest agent is not running")


def test_an_agent_that_is_away_while_its_system_proves_itself_ends_no_wait(sshd: Sshd, tmp_path: Path) -> None:
    with ExitStack() as stack, start_slow(sshd.port, 1.5) as port:
        mine = guests(tmp_path, stack, Busy(), SHORT)
        known = machine(host_key=sshd.host.public)
        assert mine.meet_system(known, at(port)).endpoint == Endpoint("127.0.0.1", port)


def test_nor_does_one_that_is_away_when_the_wait_begins(sshd: Sshd, tmp_path: Path) -> None:
    with ExitStack() as stack, start_slow(sshd.port, 1.5) as port:
        mine = guests(tmp_path, stack, Busy(), SHORT)
        _, result = mine._find_endpoint(machine(host_key=sshd.host.public), at(port), Busy(), (sshd.host.public,))
        assert result.winner.candidate.endpoint == Endpoint("127.0.0.1", port)


def test_the_agent_of_an_installer_and_of_a_copy_is_waited_for_as_long_as_its_system_boots(tmp_path: Path) -> None:
    limits = Patience(boot=7, sshd=5, most=11)
    growth = re.escape(f"7, {Growth(grace=5, most=11)}")
    with ExitStack() as stack:
        mine = guests(tmp_path, stack, Guest(), limits)
        with pytest.raises(AgentSilent, match=growth):
            mine.enter_installer(_known(), at(22))
        with pytest.raises(AgentSilent, match=growth):
            mine.introduce(_known(), at(22), {}, ())


@pytest.mark.parametrize("hurried", [False, True], ids=["deploy", "check"])
def test_the_agent_of_a_system_is_waited_for_as_long_as_it_boots(tmp_path: Path, hurried: bool) -> None:
    agent = Guest()
    with ExitStack() as stack, pytest.raises(NoEndpoint):
        mine = guests(tmp_path, stack, agent, replace(SHORT, sshd=0.5))
        (mine.hurried() if hurried else mine).meet_system(_known(), at(free_port()))
    assert agent.growth == Growth(0.5, SHORT.most)


def test_a_look_does_not_wait_for_who_shows_nothing(tmp_path: Path) -> None:
    began = monotonic()
    with ExitStack() as stack, pytest.raises(NoEndpoint, match=r"no address answered as this machine within \d+ s"):
        guests(tmp_path, stack, Guest(), SHORT).hurried().meet_system(_known(), at(free_port()))
    assert monotonic() - began < SHORT.sshd


def test_a_look_waits_for_a_boot_in_progress(tmp_path: Path) -> None:
    began = monotonic()
    with ExitStack() as stack, pytest.raises(NoEndpoint):
        limits = replace(SHORT, sshd=0.5)
        guests(tmp_path, stack, Guest(boot=2.5), limits).hurried().meet_system(_known(), at(free_port()))
    assert monotonic() - began >= 2.5


def _known() -> Machine:
    return machine(host_key=new_key_pair().public)
