"""The agent against an API that runs commands here, loses answers and refuses as PVE does."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.errors import (
    AgentRefused,
    AgentSilent,
    CommandFailed,
    DeployError,
    GuestLost,
    PermissionDenied,
    PveBusy,
    PveOutcomeUnknown,
)
from nixops_proxmox.guest.agent import LOOK_EVERY, Agent, Growth
from nixops_proxmox.pve.api.answers import AgentInterface, ExecStatus, FileRead, StatusSeen
from tests.clocks import SteppedClock
from tests.pace import patience


class Here:
    """Runs what it is asked to; `faults` are raised before (or, for "after", behind) the n-th call of a method."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.faults: dict[tuple[str, int], DeployError] = {}
        self.late_faults: dict[tuple[str, int], DeployError] = {}
        self.done: dict[int, ExecStatus] = {}
        self.running_polls = 0
        self.statuses: Callable[[], StatusSeen] = lambda: StatusSeen(running=True)

    def agent_ping(self, node: str, vmid: int) -> None:
        self._go("ping", lambda: None)

    def agent_exec(self, node: str, vmid: int, argv: Sequence[str], stdin: str = "") -> int:
        def start() -> int:
            done = subprocess.run(list(argv), input=stdin.encode(), capture_output=True, timeout=patience(20))
            pid = 100 + len(self.calls)
            self.done[pid] = ExecStatus(
                True, max(done.returncode, 0), max(-done.returncode, 0), done.stdout, done.stderr
            )
            return pid

        return int(self._go("exec", start))

    def agent_exec_status(self, node: str, vmid: int, pid: int) -> ExecStatus:
        def tell() -> ExecStatus:
            if self.running_polls:
                self.running_polls -= 1
                return ExecStatus(exited=False)
            if pid not in self.done:
                raise AgentRefused(f"GET exec-status: Agent error: PID {pid} does not exist")
            return self.done.pop(pid)

        return self._go("status", tell)  # type: ignore[no-any-return]

    def agent_read_file(self, node: str, vmid: int, path: str) -> FileRead:
        def read() -> FileRead:
            data = Path(path).read_bytes()
            return FileRead(data[: 1 << 20], truncated=len(data) > 1 << 20)

        return self._go("read", read)  # type: ignore[no-any-return]

    def agent_interfaces(self, node: str, vmid: int, *, poll: bool = False) -> tuple[AgentInterface, ...]:
        return self._go("interfaces", lambda: (AgentInterface("eth0"),))  # type: ignore[no-any-return]

    def agent_osinfo(self, node: str, vmid: int) -> Mapping[str, Any]:
        return self._go("osinfo", lambda: {"id": "nixos"})  # type: ignore[no-any-return]

    def get_status(self, node: str, vmid: int, *, poll: bool = False) -> StatusSeen:
        return self._go("look", self.statuses)  # type: ignore[no-any-return]

    def _go(self, name: str, work: Callable[[], Any]) -> Any:
        self.calls.append(name)
        key = (name, self.calls.count(name))
        if key in self.faults:
            raise self.faults[key]
        result = work()
        if key in self.late_faults:
            raise self.late_faults[key]
        return result


LOST = PveOutcomeUnknown("the answer was lost")
DEAD = AgentSilent("POST ping: QEMU guest agent is not running")


@pytest.fixture
def api() -> Here:
    return Here()


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def agent(api: Here, clock: SteppedClock, tmp_path: Path) -> Agent:
    return Agent(api, "pve1", 101, clock=clock, folder=str(tmp_path / "run"))


def test_a_program_runs_without_a_shell(agent: Agent) -> None:
    result = agent.exec(["/bin/echo", "a b", "$HOME"])
    assert (result.status, result.stdout) == (0, b"a b $HOME\n")
    assert agent.exec(["/bin/cat"], stdin=b"in").stdout == b"in"


def test_status_signal_and_bytes_come_out_as_they_are(agent: Agent) -> None:
    assert agent.exec(["/bin/sh", "-c", "echo e >&2; exit 3"]).completed().stderr == "e\n"
    assert agent.exec(["/bin/sh", "-c", "kill -9 $$"]).status == 137
    assert agent.exec(["/bin/sh", "-c", r"printf '\377\001x'"]).stdout == b"\xff\x01x"
    assert agent.exec(["/bin/sh", "-c", r"printf '\377'"]).completed().stdout == "�"


def test_what_pve_would_mangle_is_not_sent(agent: Agent, api: Here) -> None:
    with pytest.raises(ValueError, match="ASCII"):
        agent.exec(["/bin/echo", "ü"])
    with pytest.raises(ValueError):
        agent.exec(["/bin/cat"], stdin=b"\xff")
    with pytest.raises(ValueError, match="60000"):
        agent.exec(["/bin/cat"], stdin=b"x" * 60_001)
    assert api.calls == []


def test_polling_slows_down_and_outlasts_an_agent_that_is_busy(agent: Agent, api: Here, clock: SteppedClock) -> None:
    api.running_polls = 10
    api.faults[("status", 3)] = DEAD
    assert agent.exec(["/bin/true"]).status == 0
    assert clock.time > 3
    assert api.calls.count("status") == 12


def test_a_command_over_its_time_is_an_unknown_outcome(agent: Agent, api: Here) -> None:
    api.running_polls = 1000
    with pytest.raises(PveOutcomeUnknown, match=r"within 5 s; it may still run: /bin/echo busy"):
        agent.exec(["/bin/echo", "busy"], timeout=5)


def test_a_lost_result_is_an_unknown_outcome_for_a_plain_command(agent: Agent, api: Here) -> None:
    api.late_faults[("status", 1)] = LOST
    with pytest.raises(PveOutcomeUnknown, match="result of a command was lost"):
        agent.exec(["/bin/true"])


def test_cut_off_output_is_never_taken_for_all_of_it(agent: Agent, api: Here) -> None:
    pid = agent._api.agent_exec("pve1", 101, ["/bin/true"])
    api.done[pid] = ExecStatus(True, 0, 0, b"half", b"", truncated=True)
    with pytest.raises(CommandFailed, match="over 16 MiB"):
        agent._wait_for_exit(pid, 10, 10, "x")


@pytest.mark.parametrize("fault", [("exec", 1), ("status", 1), ("status", 2)])
@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("error", [LOST, DEAD, PveBusy("busy")])
def test_a_script_runs_exactly_once_whatever_answer_is_lost(
    agent: Agent, api: Here, tmp_path: Path, fault: tuple[str, int], late: bool, error: DeployError
) -> None:
    (api.late_faults if late else api.faults)[fault] = error
    done = agent.run_script(f"echo ran >> {tmp_path}/count; echo out; echo err >&2; exit 4")
    assert (done.status, done.stdout, done.stderr) == (4, "out\n", "err\n")
    assert (tmp_path / "count").read_text() == "ran\n"


def test_a_script_of_the_same_token_gives_the_first_result_again(agent: Agent, tmp_path: Path) -> None:
    first = agent.run_script(f"echo $$ | tee -a {tmp_path}/count", token="enter-1")
    assert agent.run_script("echo never", token="enter-1") == first
    assert agent.run_script("echo other", token="enter-2").stdout == "other\n"
    with pytest.raises(ValueError, match="not a token"):
        agent.run_script("true", token="../x")


def test_a_script_may_hold_any_text(agent: Agent) -> None:
    assert agent.run_script("printf %s 'ü \"x\" \\n'").stdout == 'ü "x" \\n'


def test_a_script_is_not_hindered_by_our_private_umask(agent: Agent, tmp_path: Path) -> None:
    agent.run_script(f"touch {tmp_path}/made")
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("size", [0, 1, 4096])
def test_a_file_of_any_bytes_is_read(agent: Agent, tmp_path: Path, size: int) -> None:
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    (tmp_path / "it's").write_bytes(data)
    assert agent.read_file(str(tmp_path / "it's")) == data


def test_a_large_file_is_read_on_behind_what_one_answer_holds(agent: Agent, tmp_path: Path) -> None:
    data = bytes(range(256)) * 50_000  # 12.8 MB; this API cuts off at 1 MiB
    (tmp_path / "large").write_bytes(data)
    assert agent.read_file(str(tmp_path / "large")) == data


def test_questions_are_repeated_while_the_agent_is_busy_but_not_for_ever(agent: Agent, api: Here) -> None:
    api.faults |= {("interfaces", 1): DEAD, ("interfaces", 2): LOST, ("osinfo", 1): PveBusy("x")}
    assert agent.interfaces() == (AgentInterface("eth0"),)
    assert agent.osinfo() == {"id": "nixos"}
    api.faults |= {("interfaces", number): DEAD for number in range(4, 20)}
    with pytest.raises(AgentSilent):
        agent.interfaces()


def test_waiting_ends_with_the_first_answer(agent: Agent, api: Here) -> None:
    api.faults |= {("ping", 1): DEAD, ("ping", 2): LOST, ("ping", 3): PveBusy("x")}
    agent.wait_for_agent(60, GROWTH)
    assert api.calls == ["ping"] * 4


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DEAD, r"no agent service answered within 30 s: .*not running"),
        (GuestLost("POST ping: VM 101 is not running"), "the VM is not running"),
        (AgentRefused("POST ping: No QEMU guest agent configured"), "the VM has no agent device"),
    ],
)
def test_giving_up_names_the_layer_that_is_missing(
    agent: Agent, api: Here, clock: SteppedClock, error: DeployError, words: str
) -> None:
    api.faults |= {("ping", number): error for number in range(1, 200)}
    with pytest.raises(AgentSilent, match=words) as caught:
        agent.wait_for_agent(30)
    assert caught.value.hint
    assert clock.time <= 31


GROWTH = Growth(grace=120, most=900)
MIB = 1 << 20


def waited(
    agent: Agent, api: Here, clock: SteppedClock, moved: Callable[[float], float], *, uptime: float = 0
) -> float:
    """Seconds until a silent agent was given up, of a guest that has `moved` so many bytes by then."""
    api.faults |= {("ping", number): DEAD for number in range(1, 2000)}
    api.statuses = lambda: StatusSeen(True, uptime=int(uptime + clock.time), moved=int(moved(clock.time)))
    with pytest.raises(AgentSilent, match=r"no agent service answered within \d+ s"):
        agent.wait_for_agent(300, GROWTH)
    return clock.time


@pytest.mark.parametrize(
    ("moved", "until"),
    [
        (lambda _: 0, 300),  # it stands still
        (lambda now: now * 20_000, 300),  # it runs, and writes its logs
        (lambda now: min(now, 100) * MIB, 300),  # it has booted, without an agent
        (lambda now: min(now, 400) * MIB, 520),  # it boots slowly, and then stands still
        (lambda now: now * 100_000, 900),  # it boots very slowly, and is bounded
    ],
    ids=["still", "logs", "booted", "slow", "endless"],
)
def test_a_guest_that_is_at_work_is_waited_for_and_no_other(
    agent: Agent, api: Here, clock: SteppedClock, moved: Callable[[float], float], until: float
) -> None:
    assert until <= waited(agent, api, clock, moved) <= until + 15
    assert api.calls.count("look") <= clock.time / LOOK_EVERY


def test_who_runs_for_long_does_not_boot_however_busy_it_is(agent: Agent, api: Here, clock: SteppedClock) -> None:
    assert waited(agent, api, clock, lambda now: now * MIB, uptime=900) <= 301


def test_a_slow_boot_is_met_and_a_look_that_fails_is_no_sign(agent: Agent, api: Here, clock: SteppedClock) -> None:
    api.statuses = lambda: StatusSeen(True, moved=int(clock.time * MIB))
    api.faults |= {("ping", number): DEAD for number in range(1, 300)}
    api.faults |= {("look", 2): LOST, ("look", 3): PermissionDenied("no VM.Audit")}
    agent.wait_for_agent(300, GROWTH)
    assert clock.time > 500


def test_waiting_does_not_hide_a_missing_permission(agent: Agent, api: Here) -> None:
    api.faults[("ping", 1)] = PermissionDenied("no VM.Monitor")
    with pytest.raises(PermissionDenied):
        agent.wait_for_agent(30)
    assert api.calls == ["ping"]
