"""The catalogue of seeded bugs is up to date, and the tool that tries them tells what is so."""

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.seeds.__main__ import main, try_all
from tests.seeds.catalogue import Bug, choose, find_objection, find_twins, read_catalogue
from tests.seeds.trial import Verdict

ROOT = Path(__file__).resolve().parents[2]
BUGS = read_catalogue()
PARTS = ("core", "kinds", "pve", "guest", "ssh", "reach", "state", "operations", "nixeval")


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_no_seeded_bug_is_stale(bug: Bug) -> None:
    """Who changes the code around a bug gives it its new text, or a bug against the same promise elsewhere."""
    assert find_objection(bug, ROOT) == ""


def test_there_are_enough_and_every_part_has_some() -> None:
    assert find_twins(BUGS) == []
    tried = [bug for bug in BUGS if not bug.equivalent]
    counted = Counter(Path(bug.file).parts[1] for bug in tried)
    assert sum(counted[part] for part in PARTS) >= 60
    assert all(counted[part] >= 4 for part in PARTS), counted


CODE = "def is_even(number: int) -> bool:\n    return number % 2 == 0\n\n\ndef unused() -> int:\n    return 1\n"
TESTS = "from code_under_test import is_even\n\n\ndef test_it() -> None:\n    assert is_even(2) and not is_even(3)\n"
WRONG = "def test_it() -> None:\n    assert False\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in {"code_under_test.py": CODE, "tests/test_it.py": TESTS, "tests/test_wrong.py": WRONG}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


def bug(name: str, old: str, new: str, *, tests: str = "tests/test_it.py", equivalent: str = "") -> Bug:
    return Bug(name, "code_under_test.py", old, new, (tests,), equivalent)


def test_each_bug_gets_its_verdict_and_the_code_stays_as_it_was(project: Path) -> None:
    bugs = [
        bug("noticed", "== 0", "== 1"),
        bug("unnoticed", "return 1", "return 2"),
        bug("gone", "no such text", "x"),
        bug("argued", "return 1", "return 1 ", equivalent="a blank at the end of a line means nothing"),
        bug("hopeless", "== 0", "== 1", tests="tests/test_wrong.py"),
    ]
    told: list[str] = []
    tried = try_all(bugs, project, jobs=2, baseline=True, tell=lambda one: told.append(one.bug.name))
    assert [one.verdict for one in tried] == [
        Verdict.CAUGHT,
        Verdict.NOT_CAUGHT,
        Verdict.STALE,
        Verdict.EQUIVALENT,
        Verdict.BROKEN,
    ]
    assert sorted(told) == sorted(one.name for one in bugs)
    assert tried[0].by == "tests/test_it.py::test_it"
    assert "fails without the bug, too" in tried[4].by
    assert (project / "code_under_test.py").read_text() == CODE


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"old": "return"}, "stands 2 times"),
        ({"old": "nowhere"}, "stands 0 times"),
        ({"file": "other.py"}, "there is no other.py"),
        ({"new": "== 0"}, "changes nothing"),
        ({"new": "== ("}, "no Python"),
        ({"tests": ("tests/test_gone.py::test_it",)}, "there is no tests/test_gone.py::test_it"),
    ],
)
def test_a_bug_that_cannot_be_seeded_says_why(project: Path, change: dict[str, object], why: str) -> None:
    values: dict[str, object] = {"name": "x", "file": "code_under_test.py", "old": "== 0", "new": "== 1"}
    assert why in find_objection(Bug(**(values | change)), project)  # type: ignore[arg-type]


def test_bugs_are_chosen_by_a_word_of_their_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert choose(BUGS, []) == BUGS
    assert [one.name for one in choose(BUGS, ["kept-disks-stay"])] == ["kept-disks-stay-writable"]
    assert main(["--list", "--only", "kept-disks-stay"]) == 0
    name, file = capsys.readouterr().out.split()
    assert (name, Path(file).name) == ("kept-disks-stay-writable", "installer.py")
    with pytest.raises(SystemExit):
        main(["--only", "no-such-bug"])
