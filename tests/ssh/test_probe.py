"""The proof that the race uses, against real servers and black holes."""

import socket
from threading import Timer
from time import monotonic

import pytest

from nixops_proxmox.errors import HostKeyChanged, SshUnreachable
from nixops_proxmox.model import Endpoint
from nixops_proxmox.reach.candidates import Candidate
from nixops_proxmox.reach.race import Proof, StopSignal, TrialOutcome, race
from nixops_proxmox.ssh.keys import new_key_pair
from nixops_proxmox.ssh.login import SshLogin
from nixops_proxmox.ssh.probe import probe_host_key
from tests.pace import patience

from .server import Sshd, start_sshd


def test_the_host_key_is_proven_without_a_login(sshd: Sshd) -> None:
    key, connected = probe_host_key(sshd.login(), StopSignal())
    assert key == sshd.host.public
    assert 0 <= connected < patience(5)


def test_a_wrong_key_is_told(sshd: Sshd) -> None:
    with pytest.raises(HostKeyChanged):
        probe_host_key(sshd.login(host_keys=(new_key_pair().public,)), StopSignal())


def test_a_stop_ends_a_probe_that_waits_for_a_silent_server(sshd: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        stop = StopSignal()
        Timer(0.2, stop.set).start()
        began = monotonic()
        with pytest.raises(SshUnreachable):
            probe_host_key(
                sshd.login(endpoint=Endpoint("127.0.0.1", silent.getsockname()[1]), timeout=patience(60)), stop
            )
        assert monotonic() - began < patience(10)


def test_a_stop_ends_a_connect_that_hangs() -> None:
    with full_backlog() as endpoint:
        stop = StopSignal()
        Timer(0.2, stop.set).start()
        began = monotonic()
        with pytest.raises(SshUnreachable):
            probe_host_key(SshLogin(endpoint, ("ssh-ed25519 AAAA",), timeout=patience(60)), stop)
        assert monotonic() - began < patience(10)


def test_real_servers_race_and_the_decoy_loses(sshd: Sshd, tmp_path) -> None:  # type: ignore[no-untyped-def]
    with start_sshd(tmp_path) as decoy, full_backlog() as hole:
        endpoints = [Endpoint("127.0.0.1", decoy.port), hole, Endpoint("127.0.0.1", 9), Endpoint("::1", sshd.port)]

        def probe(candidate: Candidate, cancelled: StopSignal) -> Proof:
            return Proof(*probe_host_key(sshd.login(endpoint=candidate.endpoint), cancelled))

        # Enough time for each to fail by itself, on a loaded machine too, before the next one starts.
        result = race([Candidate(e, "agent") for e in endpoints], probe, keys=[sshd.host.public], stagger=1.5)
    assert [attempt.outcome for attempt in result.attempts] == [
        TrialOutcome.WRONG_KEY,
        TrialOutcome.OVERTAKEN,
        TrialOutcome.FAILED,
        TrialOutcome.WON,
    ]
    assert result.winner.connected is not None


class full_backlog:  # reads as what it gives
    """A port whose queue is full: further connects hang, as towards a black hole."""

    def __enter__(self) -> Endpoint:
        self.server = socket.create_server(("127.0.0.1", 0), backlog=0)
        address = self.server.getsockname()
        self.clients = [socket.socket() for _ in range(3)]
        for client in self.clients:
            client.setblocking(False)
            client.connect_ex(address)
        return Endpoint("127.0.0.1", address[1])

    def __exit__(self, *_: object) -> None:
        for sock in (*self.clients, self.server):
            sock.close()
