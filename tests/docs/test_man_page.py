"""The man page is made of the parser, and means the same in troff as in --help."""

import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from nixops_proxmox.cli import VERBS
from tests.docs import shown
from tests.docs.test_hints import load

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "man" / "nixops-proxmox.1"


@pytest.fixture(scope="module")
def man_page() -> ModuleType:
    return load("man_page")


@pytest.fixture(scope="module")
def text() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_the_page_is_of_today(man_page: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert man_page.main(["--check"]) == 0


def test_every_verb_and_every_option_is_explained(text: str) -> None:
    plain = text.replace("\\-", "-")
    sections = dict(re.findall(r"(?ms)^\.SS (.+?)\n(.*?)(?=^\.S[SH] )", plain))
    assert set(VERBS) <= set(sections)
    for verb, below in load("man_page").verbs(shown.in_full()):
        for action in below._actions:
            if action.option_strings and action.help and action.container.title != "common options":
                assert action.option_strings[0] == "-h" or action.option_strings[0] in sections[verb], verb


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("--out FILE", "\\-\\-out FILE"),
        (".SH not a request", "\\&.SH not a request"),
        ("'quoted", "\\&'quoted"),
        ("a \\fI b", "a \\efI b"),
        ("run `plan --check`", "run \\fBplan \\-\\-check\\fR"),
    ],
)
def test_a_text_is_no_request_of_troff(man_page: ModuleType, given: str, made: str) -> None:
    assert man_page.roff(given) == made


def test_troff_has_nothing_to_say_against_it() -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    done = subprocess.run(
        ["groff", "-man", "-K", "utf8", "-Tutf8", "-ww", "-P-cbou", str(PAGE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "nixops-proxmox deploy" in done.stdout and "\\f" not in done.stdout
