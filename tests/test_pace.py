"""Deadlines grow with what the machine showed; skipped tests are told by reason; only tests on QEMU are tried again."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REAL_GUESTS, SHARED
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


CLOCKS = {"monotonic", "perf_counter", "now"}  # not process_time: that stands still while others work


def raw_limits(text: str) -> Iterator[int]:
    """Lines where a test fails because a clock passed a fixed number of seconds."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Lt | ast.LtE):
            *sides, limit = node.left, *node.comparators
            passed = [side for side in sides if isinstance(side, ast.BinOp) and names(side) & CLOCKS]
            if passed and is_fixed(limit):
                yield node.lineno
        if isinstance(node, ast.Call):
            named = names(node.func)
            limits = [word.value for word in node.keywords if word.arg == "timeout" and "subprocess" in named]
            limits += node.args if named == {"asyncio", "timeout"} else []
            limits += node.args[1:2] if named == {"asyncio", "wait_for"} else []
            if any(is_fixed(limit) for limit in limits):
                yield node.lineno


def is_fixed(limit: ast.AST) -> bool:
    """A number, or a constant; a variable comes from a caller, who is looked at."""
    called = names(limit)
    return "patience" not in called and all(name.isupper() for name in called)


def names(tree: ast.AST) -> set[str]:
    return {getattr(node, "attr", getattr(node, "id", "")) for node in ast.walk(tree)} - {""}


@pytest.mark.parametrize(
    ("line", "raw"),
    [
        ("assert time.monotonic() - began < 2", True),
        ("assert 0.5 < monotonic() - began < 3", True),
        ("assert time.monotonic() - began < patience(2)", False),
        ("assert time.process_time() - began < 2", False),
        ("subprocess.run([], timeout=20)", True),
        ("subprocess.run([], timeout=patience(20))", False),
        ("asyncio.timeout(5)", True),
        ("asyncio.wait_for(work(), patience(5))", False),
    ],
)
def test_a_raw_limit_is_seen(line: str, raw: bool) -> None:
    assert bool(list(raw_limits(line))) is raw


def test_no_test_fails_by_a_fixed_number_of_seconds() -> None:
    tests = Path(__file__).parent
    files = sorted(set(tests.rglob("*.py")) - set((tests / "bench").rglob("*.py")))
    found = [f"{file.relative_to(ROOT)}:{line}" for file in files for line in raw_limits(file.read_text())]
    assert found == [], "say patience(…): a busy machine is not broken"


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


def test_every_test_with_a_real_guest_is_among_those_that_run_one_by_one() -> None:
    root = Path(__file__).parents[1]
    marked = [path for path in (root / "tests").rglob("test_*.py") if re.search(r"\bmark\.qemu\b", path.read_text())]
    paths = {str(path.relative_to(root)) for path in marked} - {"tests/test_pace.py"}
    assert len(paths) >= 4
    assert sorted(path for path in paths if not path.startswith(REAL_GUESTS)) == []


def test_every_file_whose_tests_share_machines_is_kept_in_one_process() -> None:
    tests = ROOT / "tests"
    sharing = [path for path in (tests / "e2e").glob("test_*.py") if 'scope="module"' in path.read_text()]
    booting = [path for path in (tests / "nixeval").glob("test_*.py") if "start_guest(" in path.read_text()]
    assert sorted(str(path.relative_to(ROOT)) for path in (*sharing, *booting)) == sorted(SHARED)
