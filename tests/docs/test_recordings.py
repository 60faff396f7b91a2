"""What the recordings show is so: they are made of real runs, and name what there is today."""

import json
import os
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from nixops_proxmox.core.table import label
from nixops_proxmox.kinds.machine.table import LIFECYCLE
from tests.docs import shown
from tests.docs.test_hints import load

ROOT = Path(__file__).resolve().parents[2]
CASTS = sorted((ROOT / "docs" / "recordings").glob("*.cast"))


@pytest.fixture(scope="module")
def record(monkeypatch_module: pytest.MonkeyPatch) -> ModuleType:
    return load("record")


@pytest.fixture(scope="module")
def monkeypatch_module() -> "pytest.MonkeyPatch":
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(ROOT / "scripts"))
    return patch


def words_of(cast: Path) -> str:
    events = [json.loads(line) for line in cast.read_text().splitlines()[1:]]
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", "".join(event[2] for event in events))


def test_each_scene_is_recorded_and_types_what_the_script_says(record: ModuleType) -> None:
    assert {cast.stem for cast in CASTS} == set(record.SCENES)
    for cast in CASTS:
        typed = [line[2:].strip() for line in re.split(r"[\r\n]+", words_of(cast)) if line.startswith("$ ")]
        assert typed == list(record.SCENES[cast.stem])


def test_what_is_typed_is_understood(record: ModuleType) -> None:
    for commands in record.SCENES.values():
        for line in commands:
            for words in shown.commands_in(line):
                shown.in_full().parse_args(list(words[1:]))


@pytest.mark.parametrize("cast", CASTS, ids=lambda path: path.stem)
def test_the_steps_that_are_shown_are_steps_of_today(cast: Path) -> None:
    labels = {label(move.step) for move in LIFECYCLE.moves}
    firsts = {one.split()[0] for one in labels}
    told = re.findall(r"\w+ +(?:→ )?\w+ {2,}([A-Z][a-z][^\r\n:…━]*?)(?: {2,}|:| ━|…|[\r\n])", words_of(cast))
    steps = {one for one in told if one.split()[0] in firsts and "…" not in one}
    unknown = {one for one in steps if not any(each.startswith(one) for each in labels)}  # a long one may be cut off
    assert steps and unknown == set()


@pytest.mark.parametrize("cast", CASTS, ids=lambda path: path.stem)
def test_a_recording_is_in_order_and_its_picture_runs_no_script(cast: Path) -> None:
    head, *events = [json.loads(line) for line in cast.read_text().splitlines()]
    assert (head["version"], head["width"]) == (2, 100)
    moments = [moment for moment, _, _ in events]
    assert moments == sorted(moments) and {kind for _, kind, _ in events} == {"o"}
    picture = cast.with_suffix(".svg").read_text()
    assert "<script" not in picture and "http://" not in re.sub(r'xmlns(:\w+)?="[^"]+"', "", picture)
    assert "ready" in picture


def test_what_differs_from_run_to_run_is_not_compared(record: ModuleType) -> None:
    one = record.Cast()
    one.show("\x1b[32m✓\x1b[0m web ready 1.2 s\r\n1 machine ready in 4.1 s\r\nVM 123456 on pve1\r\n", 0.1)
    other = record.Cast()
    other.show("0 of 1 ready · 0.2 s\r\n1 machine ready in 1 min 02 s\r\nVM 234567 on pve3\r\n", 0.3)
    assert record.told(one.as_text()) == record.told(other.as_text()) == ["1 machine ready in T", "VM N on NODE"]
    changed = record.Cast()
    changed.show("1 machine is ready in 4.1 s\r\n", 0.1)
    assert record.told(changed.as_text()) != record.told(one.as_text())


def test_a_character_that_arrives_in_two_parts_is_whole(record: ModuleType) -> None:
    whole = "a→".encode()
    assert record.decoded(whole[:2]) == ("a", whole[1:2])
    assert record.decoded(whole) == ("a→", b"")


@pytest.mark.weekly
def test_the_recordings_show_what_is_shown_today() -> None:
    done = subprocess.run(
        [str(ROOT / "scripts" / "record"), "--check"], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
