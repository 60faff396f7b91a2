import io
from dataclasses import replace

import pytest
from rich.console import Console as Rich
from typing_extensions import override

from nixops_proxmox.display.live import LiveBoard, choose_rows, group_lines, summary
from nixops_proxmox.display.progress import (
    Board,
    Interrupted,
    Plain,
    Relay,
    Row,
    start_plain,
)
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import DeployError, NotBegun
from nixops_proxmox.kinds.machine import ports
from nixops_proxmox.messages.amounts import duration, find_fraction, one_line
from nixops_proxmox.model import Facts, Machine, Phase

WEB = Machine("net", "web", Phase.RESERVED)
WEB_DEFINED = WEB.moved(Phase.DEFINED, Facts())


def test_every_kind_of_progress_is_a_reporter() -> None:
    plain = Plain(lambda _: None, 0)
    reporters: list[ports.Reporter] = [plain, LiveBoard(Rich(file=io.StringIO()), "ready", []), Relay(plain)]
    assert len(reporters) == 3  # mypy checks the fit


def test_without_a_terminal_a_move_is_one_line_when_it_is_done() -> None:
    lines: list[str] = []
    plain = Plain(lines.append, 0)
    plain.step(WEB, "Create the VM", "defined")
    plain.detail(WEB, "waiting for UPID:…")
    plain.done(WEB_DEFINED, "Create the VM", 4.1)
    assert lines == ["web  reserved → defined  Create the VM  4.1 s"]


def test_a_turn_is_told_with_the_phase_it_led_to() -> None:
    lines: list[str] = []
    plain = Plain(lines.append, 0)
    plain.step(WEB, "Create the VM", "defined")
    plain.done(WEB.moved(Phase.ABSENT, Facts()), "Create the VM", 4.1)
    assert lines == ["web  reserved → absent  Create the VM  4.1 s"]


def test_verbose_tells_beginnings_and_details_too() -> None:
    lines: list[str] = []
    plain = Plain(lines.append, 1)
    plain.step(WEB, "Create the VM", "defined")
    plain.detail(WEB, "allocating\r50 %\r100 %\n")
    assert lines == ["web  reserved → defined  Create the VM …", "web    100 %"]


def test_a_step_that_takes_long_gives_signs_of_life_and_each_of_them_once() -> None:
    lines: list[str] = []
    at = [0.0]
    plain = Plain(lines.append, 0, now=lambda: at[0])
    plain.step(WEB, "Install the system", "installed")
    plain.detail(WEB, "copying 3 of 12")
    for at[0] in (10.0, 31.0, 32.0, 65.0):
        plain.say_still(after=30)
    assert lines == [
        "web  reserved → installed  Install the system, 31 s: copying 3 of 12",
        "web  reserved → installed  Install the system, 1 min 05 s: copying 3 of 12",
    ]
    plain.done(WEB_DEFINED, "Install the system", 65)
    at[0] = 500.0
    plain.say_still(after=30)
    assert len(lines) == 3, "it is over"


def test_failures_and_warnings_are_told_at_once() -> None:
    lines: list[str] = []
    with start_plain(lines.append, 0) as plain:
        plain.warn(WEB, "the VMID was taken")
        plain.ended("db", DeployError("not described"))
        plain.step(WEB, "Create the VM", "defined")
        plain.ended("web", DeployError("no room\nmore"))
        plain.ended("app", None)
        relay = Relay(plain)
        relay.ended("next", NotBegun("next: not begun, because web failed, and its group may have 0 failures"))
        relay.ended("last", NotBegun("machine/last: not begun, because machine/web failed"))
    assert lines == [
        "web  warning: the VMID was taken",
        "db  failed: not described",
        "web  failed in reserved: no room",
        "next  not begun: web failed, and its group may have 0 failures",
        "last  not begun: machine/web failed",
    ]


@pytest.mark.parametrize(
    ("text", "fraction"),
    [
        ("uploading 37 %", 0.37),
        ("37.5% of 3 GiB", 0.375),
        ("61 MiB of 122 MiB", 0.5),
        ("512 MiB of 2.0 GiB", 0.25),
        ("1 KiB of 0 bytes", None),
        ("250 %", 1.0),
        ("copying 3 of 12 paths", 0.25),
        ("[3/12 copied]", 0.25),
        ("[1/4/9 built]", None),
        ("copying /nix/store/1/2", None),
        ("10.0.0.7/24", None),
        ("3 of 0", None),
        ("", None),
        ("waiting for the guest agent", None),
    ],
)
def test_how_far_it_is_is_read_from_what_the_step_says(text: str, fraction: float | None) -> None:
    assert find_fraction(text) == fraction


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (4.12, "4.1 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_what_a_guest_prints_cannot_move_the_cursor() -> None:
    assert one_line("a\x1b[2Jb\x07\nlast\x1b[31m red\n\n") == "last  red"
    assert one_line("\n \n") == ""


def draw(board: LiveBoard, *, height: int = 24) -> str:
    stream = io.StringIO()
    Rich(file=stream, width=100, height=height, force_terminal=True, color_system=None).print(board)
    return stream.getvalue()


def test_the_live_board_has_a_line_for_each_machine_with_phase_step_time_and_bar() -> None:
    at = [0.0]
    board = LiveBoard(Rich(file=io.StringIO(), width=100, height=24), "ready", ["web", "db", "app"], now=lambda: at[0])
    board.step(WEB, "Create the VM", "defined")
    board.detail(WEB, "uploading 50 %")
    board.step(Machine("net", "db", Phase.PARTITIONED), "Install the system", "installed")
    board.ended("db", DeployError("no room"))
    board.done(Machine("net", "app", Phase.READY), "Activate", 1.0)
    board.ended("app", None)
    at[0] = 42.0
    lines = [line.rstrip() for line in draw(board).splitlines()]
    assert "reserved → defined" in lines[0]
    assert "Create the VM" in lines[0]
    assert "━━━" in lines[0]
    assert "42 s" in lines[0]
    assert lines[1].split() == ["✗", "db", "partitioned", "no", "room"]
    assert lines[2].split() == ["✓", "app", "ready"]
    assert lines[3] == "1 of 3 ready, 1 at work, 1 failed · 42 s"


def test_a_fleet_that_does_not_fit_shows_failures_and_work_and_counts_the_rest() -> None:
    rows = [Row(f"m{n}", "ready", end="done") for n in range(50)]
    rows[20] = Row("m20", "reserved", began=1.0)
    rows[49] = Row("m49", "reserved", end="failed")
    shown, hidden = choose_rows(rows, 3)
    assert [row.name for row in shown] == ["m0", "m20", "m49"]
    assert hidden == 47
    assert summary(rows, "ready", 60, 61) == "48 of 60 ready, 1 at work, 1 failed · 1 min 01 s"
    held = [replace(row, end="not begun") if row.end == "failed" else row for row in rows]
    assert summary(held, "ready", 60, 61) == "48 of 60 ready, 1 at work, 1 not begun · 1 min 01 s"
    assert [row.name for row in choose_rows(held, 3)[0]] == ["m0", "m1", "m20"]


def test_machines_that_do_not_fit_are_counted_by_hypervisor_and_node() -> None:
    rows = [Row(f"m{n}", "ready", end="done", place=f"lab/pve{n % 3 + 1}") for n in range(90)]
    rows += [Row(f"n{n}", "") for n in range(10)]
    rows[0] = replace(rows[0], end="failed")
    rows[3] = replace(rows[3], end="", began=1.0)
    assert group_lines(rows, 6) == [
        "lab/pve1: 28 of 30 done, 1 at work, 1 failed",
        "lab/pve2: 30 of 30 done",
        "lab/pve3: 30 of 30 done",
        "waiting: 0 of 10 done",
    ]
    assert group_lines(rows, 3)[0] == "lab: 88 of 90 done, 1 at work, 1 failed"


@pytest.mark.parametrize(("width", "height"), [(100, 24), (40, 12), (20, 6)])
def test_a_hundred_machines_fit_on_any_screen(width: int, height: int) -> None:
    names = [f"m{n}" for n in range(100)]
    stream = io.StringIO()
    screen = Rich(file=stream, width=width, height=height, force_terminal=True, color_system=None)
    board = LiveBoard(screen, "ready", names, now=lambda: 1.0)
    for n, name in enumerate(names):
        known = Machine("net", name, Phase.RESERVED, Facts(profile="lab", node=f"pve{n % 3}"))
        board.step(known, "Create the VM and its disks", "defined")
        board.detail(known, "uploading 61 MiB of 118 MiB")
        if n % 3 == 0:
            board.ended(name, DeployError("there is no room on local-lvm: 3 GiB are missing, on any of its nodes"))
    screen.print(board)
    lines = stream.getvalue().splitlines()
    assert 4 <= len(lines) < height and max(map(len, lines)) <= width
    assert any(line.startswith("lab") for line in lines)


def test_the_board_forgets_the_detail_of_a_step_that_is_over() -> None:
    board = Board()
    board.step(WEB, "Create the VM", "defined")
    board.detail(WEB, "half")
    board.done(WEB_DEFINED)
    (row,) = board.rows()
    assert (row.phase, row.detail, row.began) == ("defined", "", None)


def test_what_is_done_for_all_is_shown_while_no_machine_is_at_work() -> None:
    board = LiveBoard(Rich(file=io.StringIO(), width=100, height=24), "ready", ["web", "db"])
    board.note("nix: building\n/nix/store/x-system.drv")
    assert [line.split() for line in draw(board).splitlines()][::3] == [["·", "web"], ["/nix/store/x-system.drv"]]
    board.step(WEB, "Create the VM", "defined")
    assert "/nix/store" not in draw(board)


def test_without_a_terminal_notes_are_told_now_and_then() -> None:
    lines: list[str] = []
    at = [0.0]
    plain = Plain(lines.append, 0, now=lambda: at[0])
    for at[0] in (1.0, 31.0, 32.0, 62.0):
        plain.note(f"building {at[0]}")
    assert lines == ["building 31.0", "building 62.0"]


def test_the_relay_hands_on_to_what_shows_progress_now() -> None:
    otherwise: list[str] = []
    current: list[str] = []
    relay = Relay(Plain(otherwise.append, 0))
    relay.warn(WEB, "one")
    with relay.to(Plain(current.append, 0)):
        relay.warn(WEB, "two")
    relay.warn(WEB, "three")
    assert otherwise == ["web  warning: one", "web  warning: three"]
    assert current == ["web  warning: two"]


def test_when_told_to_stop_the_next_step_does_not_begin() -> None:
    relay = Relay(Plain(lambda _: None, 0))
    relay.step(WEB, "Create the VM", "defined")
    relay.stop()
    relay.detail(WEB, "the step that is under way goes on")
    relay.done(WEB_DEFINED, "Create the VM", 1)
    with pytest.raises(Interrupted, match="before the step: Boot"):
        relay.step(WEB_DEFINED, "Boot", "installer")


class Terminal(io.StringIO):
    @override
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "plain", "said"),
    [
        (Terminal, False, "\x1b["),
        (Terminal, True, "uploading a\n"),
        (io.StringIO, False, ""),
        (io.StringIO, True, "uploading a\n"),
    ],
)
def test_a_transfer_is_a_bar_only_where_it_can_be_drawn_again(
    stream: type[io.StringIO], plain: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    err = stream()
    with Screen(io.StringIO(), err, plain=plain).transfer("uploading a") as tell:
        tell(1, 2)
    assert said in err.getvalue() if said.startswith("\x1b") else err.getvalue() == said
