"""Pages that show a lab word for word show what its commands print today."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def transcripts() -> ModuleType:
    spec = importlib.util.spec_from_file_location("transcripts", ROOT / "scripts" / "transcripts.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.nix
@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.parametrize("page", ["existing-cluster.md", "first-hour.md"])
def test_each_command_of_the_page_prints_what_stands_there(transcripts: ModuleType, page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    with transcripts.start_typist() as typist:
        now = transcripts.replay(text, typist)
    assert transcripts.settled(now) == transcripts.settled(text), "scripts/transcripts writes it again"


def test_only_what_says_nothing_may_differ(transcripts: ModuleType) -> None:
    line = "web  reserved → defined  Create the VM  0.1 s at fd77:77::12 as 104"
    assert transcripts.settled(line) == transcripts.settled(
        line.replace("0.1 s", "1 min 02 s").replace("104", "519769")
    )
    assert transcripts.settled(line) != transcripts.settled(line.replace("defined", "ready"))
