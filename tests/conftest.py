"""What holds for all tests: the measure of deadlines, labs that end with us, real guests one by one, the last lines."""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from typing_extensions import override
from xdist.scheduler import LoadGroupScheduling

from tests.pace import VARIABLE, measure_pace, pace, patience
from tests.skipped import summary

if TYPE_CHECKING:
    from tests.pve.stub import Certificates, Stub

STARTERS = "NIXOPS_PROXMOX_LAB_STARTERS"  # of lab/starter.py: typeguard must see the first import of the package
WEEKLY = "NIXOPS_PROXMOX_TEST_WEEKLY"
REAL_GUESTS = ("tests/qemu/", "tests/lab/qemu/test_guests.py", "tests/lab/qemu/test_machine.py")
# Files whose tests share machines that take long to make: in several processes they would be made again.
SHARED = tuple(
    f"tests/{name}.py"
    for name in (
        "e2e/test_encrypted",
        "e2e/test_faults",
        "e2e/test_one_boot",
        "e2e/test_probation",
        "e2e/test_rolling",
        "e2e/test_secrets",
        "e2e/test_swapped_disks",
        "e2e/test_systems",
        "e2e/test_two_hypervisors",
        "nixeval/test_supervised",
    )
)
# What typeguard makes of the package could be taken for the package itself: only commands that tests start keep what
# they compile.
sys.dont_write_bytecode = True
TIME_LIMIT = 300.0  # seconds for a test; it ends what hangs, and says nothing about what is tested


class GuestsOneByOne(LoadGroupScheduling):  # type: ignore[misc]  # xdist has no types
    """All tests with guests in QEMU go to one process: on a small machine they would only wait for each other. So do
    the tests of each file that shares machines. By path, for the groups of xdist 3.8 have no effect with pytest 9.2."""

    @override
    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(REAL_GUESTS):
            return "guests"
        return nodeid.partition("::")[0] if nodeid.startswith(SHARED) else nodeid


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """Runs in the process that was started, and in each of its workers: a lab ends when one of them has ended."""
    os.environ[STARTERS] = ",".join(filter(None, [os.environ.get(STARTERS, ""), str(os.getpid())]))
    if VARIABLE not in os.environ:
        os.environ[VARIABLE] = str(measure_pace())
    os.environ.setdefault("PYTEST_TIMEOUT", str(patience(TIME_LIMIT)))
    # How long examples take to be made or tried says how busy the machine is, and nothing about what is tested.
    settings.register_profile("any pace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any pace")
    hear_signals_in_commands()


def hear_signals_in_commands() -> None:
    """What is ignored here (nohup, a job in the background) would be ignored by every command that a test starts, too.
    A signal that is handled is not ignored there, and here it stays without effect."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_report_header() -> str:
    return f"pace: deadlines are {pace():g} times those of an idle machine"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadGroupScheduling | None:
    return GuestsOneByOne(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("weekly") and os.environ.get(WEEKLY) != "1":
            item.add_marker(pytest.mark.skip(reason="it takes minutes: scripts/slow runs it, once a week"))
        for mark in item.iter_markers("timeout"):
            if mark.args:
                item.add_marker(pytest.mark.timeout(patience(mark.args[0])), append=False)
                break
        if item.get_closest_marker("qemu") and os.environ.get("CI") == "true":
            # Without KVM a guest's own timeouts run out now and then; no other test is tried again.
            item.add_marker(pytest.mark.flaky(reruns=2, reruns_delay=3))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """After all else: what was tried again, and what was not tested."""
    yield
    again = sorted({report.nodeid for report in terminalreporter.stats.get("rerun", [])})
    skipped = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", [])]
    if again:
        terminalreporter.section("tried again", bold=True)
        terminalreporter.write_line("\n".join(f"  {name}" for name in again))
    if skipped:
        terminalreporter.section("not tested here, and why", bold=True)
        terminalreporter.write_line("\n".join(summary(skipped)))


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """A command that runs in this process takes the package's log for itself, and its terminal ends with the test."""
    log = logging.getLogger("nixops_proxmox")
    handlers, level, propagate = log.handlers, log.level, log.propagate
    yield
    log.handlers, log.propagate = handlers, propagate
    log.setLevel(level)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> "Certificates":
    from tests.pve.stub import make_certificates

    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def stub(certificates: "Certificates") -> Iterator["Stub"]:
    """An API that answers what a test tells it to."""
    from tests.pve.stub import start_stub

    with start_stub(certificates) as server:
        yield server
