"""Deadlines grow with what the machine showed; skipped tests are told by reason; only tests on QEMU are tried again."""

import subprocess
import sys
from pathlib import Path

from tests.pace import IDLE_SECONDS, MOST, VARIABLE, measure_pace, pace_of
from tests.skipped import summary

ROOT = Path(__file__).parents[1]
SUITE = """
import pytest
from tests.pace import patience

def test_patience():
    assert patience(10) == 30

@pytest.mark.qemu
def test_guest(tmp_path_factory):
    count = tmp_path_factory.getbasetemp().parent / "tried"
    count.write_text(count.read_text() + "x" if count.exists() else "x")
    assert len(count.read_text()) > 1

def test_that_fails():
    assert False

def test_that_is_skipped():
    pytest.skip("no moon here")
"""


def test_a_machine_that_takes_three_times_as_long_gets_three_times_as_long() -> None:
    assert pace_of(3 * IDLE_SECONDS) == 3
    assert pace_of(IDLE_SECONDS / 2) == 1
    assert pace_of(1000) == MOST
    assert 1 <= measure_pace() <= MOST


def test_reasons_are_counted() -> None:
    lines = list(summary(["Skipped: no sshd", "Skipped: no Nix", "Skipped: no sshd"]))
    assert lines == ["  2 tests: no sshd", "  1 test: no Nix"]


def test_in_ci_a_test_on_qemu_is_tried_again_and_no_other_and_the_last_lines_say_so(tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  qemu: real guests\n")
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), VARIABLE: "3", "CI": "true"}
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'base'}", str(tmp_path)]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "deadlines are 3 times those of an idle machine" in done.stdout
    *_, tried, again, untested, reason, counts = done.stdout.strip().splitlines()
    assert "tried again" in tried and again == "  test_suite.py::test_guest"
    assert "not tested here, and why" in untested and reason == "  1 test: no moon here"
    assert "1 failed, 2 passed, 1 skipped, 1 rerun" in counts
