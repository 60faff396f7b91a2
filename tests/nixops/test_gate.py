"""A signal ends NixOps in good order, whatever its workers do: the gate alone, then ten times the real NixOps."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from nixops_proxmox.nixops2.gate import ShutdownGate
from nixops_proxmox.nixops2.session import session_of
from tests.nixops.bed import Nixops, machine, network, wait_for_text
from tests.nixops.conftest import MakeNixops
from tests.nixops.test_changes import vms_of
from tests.pace import patience, wait_until

TRIES = 10
SEED = 5


def test_whoever_is_inside_is_waited_for_and_nobody_follows() -> None:
    gate, inside, told = ShutdownGate(), threading.Event(), []

    def work() -> None:
        with gate.passed():
            inside.set()
            wait_until(lambda: gate.is_shut)
            told.append("written")
        try:
            with gate.passed():
                told.append("too late")
        except SystemExit:
            told.append("ended")

    worker = threading.Thread(target=work)
    worker.start()
    inside.wait()
    gate.shut()
    assert told[:1] == ["written"]
    worker.join()
    assert told == ["written", "ended"]


def test_a_database_that_is_closed_already_ends_a_worker_without_a_word() -> None:
    gate, told = ShutdownGate(), []
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.close()

    def work() -> None:
        try:
            with gate.into(database):
                told.append("inside")
        except (sqlite3.ProgrammingError, SystemExit) as error:
            told.append(type(error).__name__)

    for shut in (lambda: None, gate.shut):
        shut()
        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
    assert told == ["ProgrammingError", "SystemExit"]


def test_the_main_thread_passes_a_gate_that_is_shut_even_from_inside() -> None:
    gate, passed = ShutdownGate(), []
    with gate.passed():
        gate.shut()
        with gate.passed():
            passed.append("inside")
    assert passed == ["inside"]


class Statefile:
    """NixOps's, of which only its identity matters here."""


def test_all_that_is_of_one_opened_state_gets_one_session_and_another_state_another() -> None:
    one, other, found = Statefile(), Statefile(), []
    ready = threading.Barrier(8)

    def ask() -> None:
        ready.wait()
        found.append(session_of(one))

    workers = [threading.Thread(target=ask) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert set(found) == {session_of(one)}
    assert session_of(other) is not session_of(one)


def test_a_session_writes_back_through_its_own_storage_as_long_as_it_has_one() -> None:
    written = []

    class Storage:
        def checkpoint(self) -> None:
            written.append("all")

    session, other = session_of(Statefile()), session_of(Statefile())
    session.checkpoint()
    session.storage = Storage()
    session.checkpoint()
    other.checkpoint()
    session.storage = None
    session.checkpoint()
    assert written == ["all"]


SIGNALLED = """
import os, signal
from nixops_proxmox.nixops2.gate import end_on_signals
from nixops_proxmox.nixops2.session import session_of
class Statefile: pass
signal.signal(signal.SIGHUP, signal.SIG_IGN)
end_on_signals()
gates = [session_of(Statefile()).gate for _ in range(2)]
os.kill(os.getpid(), signal.SIGHUP)
print([gate.is_shut for gate in gates])
try:
    os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt:
    print([gate.is_shut for gate in gates])
"""


def test_a_signal_shuts_the_gate_of_each_opened_state_and_one_that_is_ignored_shuts_none() -> None:
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[False, False]", "[True, True]"]


@pytest.mark.nixops
@pytest.mark.nix
@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_signal_at_any_moment_ends_with_status_1_and_an_intact_state(make_nixops: MakeNixops) -> None:
    """Three workers that write all the time: without the gate, the interpreter crashed in three of five tries."""
    names = {f"web{n}": machine(ipv4=f"10.77.0.9{n}/24") for n in range(3)}
    one = make_nixops(network(names), deployment="interrupted")
    moments, signals = random.Random(SEED), [signal.SIGINT] * 8 + [signal.SIGTERM, signal.SIGHUP]
    for number in range(TRIES):
        while not interrupted(one, signals[number], moments.uniform(0.0, 6.0)):
            one.run("destroy", "--confirm")  # it was faster
    one.deploy()
    assert len(vms_of(one)) == len(names)
    assert one.ssh("web0", "cat", "/etc/message") == "hello\n"
    one.run("destroy", "--confirm")


def interrupted(one: Nixops, number: signal.Signals, after: float) -> bool:
    """False if it ended before the signal."""
    log = one.folder / "killed.log"
    log.unlink(missing_ok=True)
    process = one.start("deploy")
    assert wait_for_text(log, "web", process)
    time.sleep(after)
    os.killpg(process.pid, number)
    if process.wait(patience(60)) == 0:
        return False
    text = log.read_text()
    # NixOps prints its own, if the signal ends the ssh by which it activates a system.
    ours = [told for told in text.split("Traceback (most recent call last)")[1:] if "nixops_proxmox" in told]
    assert (process.returncode, "interrupted" in text, ours) == (1, True, []), text
    state = sqlite3.connect(one.folder / "state.nixops")
    assert state.execute("pragma integrity_check").fetchone() == ("ok",)
    state.close()
    assert all(json.dumps(record) for record in one.records().values())
    return True
