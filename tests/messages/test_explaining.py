import pytest

from nixops_proxmox import errors
from nixops_proxmox.errors import DeployError
from nixops_proxmox.fleet import Outcome
from nixops_proxmox.messages.explaining import exit_status, explain, explain_outcomes
from nixops_proxmox.model import Machine, Phase


def texts(error: DeployError) -> list[str]:
    return [line.text for line in explain(error)]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            errors.TaskFailed("m", upid="UPID:x", exit_status_text="no space", log=["a"]),
            ["  task UPID:x ended with: no space", "  a"],
        ),
        (errors.CommandFailed("m", status=1, output="x\ny"), ["  x", "  y"]),
        (errors.NoEndpoint("m", attempts=["10.0.0.1: refused"]), ["  10.0.0.1: refused"]),
        (errors.BadParameter("m", errors={"memory": "too small"}), ["  memory: too small"]),
        (errors.BadParameter("memory: too small", errors={"memory": "too small"}), []),
        (errors.PermissionDenied("m", path="/vms", privileges=["VM.Allocate"]), ["  needed: VM.Allocate on /vms"]),
        (errors.PermissionDenied("m"), []),
        (errors.SpecError("wrong", path="web.disks[0]"), []),
    ],
)
def test_an_error_brings_what_belongs_to_it(error: DeployError, told: list[str]) -> None:
    assert texts(error)[1:] == told


def test_a_long_log_is_shown_by_its_end() -> None:
    lines = texts(errors.CommandFailed("m", status=1, output="\n".join(map(str, range(100)))))
    assert (len(lines), lines[-1]) == (16, "  99")


def test_message_and_hint_of_several_lines_stay_readable() -> None:
    assert texts(DeployError("one\ntwo", hint="three\nfour")) == ["error: one", "  two", "hint: three", "      four"]


def test_the_end_of_a_good_run_is_one_sentence() -> None:
    lines = explain_outcomes([Outcome("web", 3.0)], {}, goal="ready", seconds=41.2, command="c")
    assert [line.text for line in lines] == ["1 machine ready in 41 s"]


def test_a_failure_ends_with_machine_phase_error_hint_and_the_command() -> None:
    bad = Outcome("db", 3.0, error=errors.WrongDisk("db: sda is not blank", hint="wipe it"))
    standing = {"db": Machine("net", "db", Phase.REACHABLE)}
    lines = explain_outcomes([Outcome("web", 1.0), bad], standing, goal="ready", seconds=9, command="p deploy")
    assert [line.text for line in lines] == [
        "db failed in phase reachable",
        "error: db: sda is not blank",
        "hint: wipe it",
        "",
        "1 of 2 machines ready in 9.0 s",
        "failed: db (reachable)",
        "more: docs/debugging.md#a-disk-is-not-the-declared-one",
        "fix that, then run the same command to continue: p deploy",
    ]


def test_what_may_pass_by_itself_needs_no_mending() -> None:
    bad = Outcome("db", 3.0, error=errors.PveBusy("db: locked"))
    lines = explain_outcomes([bad], {}, goal="ready", seconds=9, command="p deploy")
    assert lines[-1].text == "run the same command to continue: p deploy"


@pytest.mark.parametrize(
    ("kinds", "status"),
    [
        ([], 0),
        ([errors.PveBusy, errors.VmidTaken], 4),
        ([errors.SshRefused], 6),
        ([errors.PveBusy, errors.NixMissing], 1),
    ],
)
def test_the_exit_status_is_the_family_of_the_failures(kinds: list[type[DeployError]], status: int) -> None:
    failed = [Outcome(kind.__name__, 1.0, error=kind("x")) for kind in kinds]
    assert exit_status([Outcome("web", 1.0), *failed]) == status
