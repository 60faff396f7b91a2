"""What the demo says, draws and leaves alone; the demo as a whole is run by the tests of the command line."""

import importlib.util
import os
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, ModuleType]]:
    loaded = {}
    for name in ("timeline", "stage"):  # stage imports timeline
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        assert spec is not None and spec.loader is not None
        loaded[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded[name])
    yield loaded
    for name in loaded:
        del sys.modules[name]


@pytest.fixture
def timeline(scripts: dict[str, ModuleType]) -> ModuleType:
    return scripts["timeline"]


@pytest.fixture
def stage(scripts: dict[str, ModuleType]) -> ModuleType:
    return scripts["stage"]


def test_bars_lie_where_their_time_was(timeline: ModuleType) -> None:
    spans = [timeline.Span("demo", "first", 100.0, 150.0), timeline.Span("web", "second", 150.0, 200.0)]
    first, second = timeline.as_text(spans).splitlines()
    half = timeline.WIDTH // 2
    assert first == f"demo  first     50.0 s  |{'█' * half}{' ' * half}|"
    assert second == f"web   second    50.0 s  |{' ' * half}{'█' * half}|"


def test_a_moment_still_has_a_bar(timeline: ModuleType) -> None:
    spans = [timeline.Span("demo", "long", 0.0, 100.0), timeline.Span("demo", "moment", 100.0, 100.0)]
    assert timeline.as_text(spans).splitlines()[1].endswith("█|")


def test_nothing_is_drawn_as_nothing(timeline: ModuleType) -> None:
    assert timeline.as_text([]) == ""


def test_the_picture_has_every_span_and_is_well_formed(timeline: ModuleType) -> None:
    spans = [timeline.Span("demo", "a <b> & c", 0.0, 1.0), timeline.Span("web", "d", 1.0, 3.0)]
    root = ET.fromstring(timeline.as_svg(spans, "<demo>"))
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["a <b> & c: 1.0 s", "d: 2.0 s"]


def test_everything_of_the_users_is_replaced(stage: ModuleType, tmp_path: Path) -> None:
    users = {
        "HOME": "/home/me",
        "XDG_STATE_HOME": "/home/me/state",
        "NIXOPS_PROXMOX_STATE": "postgresql://shared",
        "PROXMOX_VE_PASSWORD": "hunter2",
        "PATH": "/bin",
    }
    environment = stage.scratch_environment(tmp_path, users)
    assert environment["PATH"] == "/bin"
    assert environment["XDG_CACHE_HOME"] == "/home/me/.cache", "the installer image is not built twice"
    assert not {"NIXOPS_PROXMOX_STATE", "PROXMOX_VE_PASSWORD"} & set(environment)
    assert environment["NIXOPS_PROXMOX_LAB_STARTERS"] == str(os.getpid()), "the lab ends with the demo"
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        assert Path(environment[name]).is_relative_to(tmp_path)
        assert Path(environment[name]).stat().st_mode & 0o077 == 0


def test_whoever_may_not_write_the_store_builds_in_one_of_the_demos_own(stage: ModuleType, tmp_path: Path) -> None:
    own = stage.nix_settings(tmp_path, {}, may_write=False)["NIX_CONFIG"].splitlines()
    assert f"store = {tmp_path / 'nix'}" in own and "sandbox = true" in own and "substituters =" in own
    assert stage.nix_settings(tmp_path, {}, may_write=True)["NIX_CONFIG"] == "substituters ="


def test_the_journal_becomes_spans_without_sightings(stage: ModuleType) -> None:
    entries = [
        {"machine": "db", "label": "Create", "began": 1.0, "ended": 2.0},
        {"machine": "web", "label": "Create", "began": 1.0, "ended": 3.0},
        {"machine": "web", "label": "seen", "began": 3.0, "ended": 3.0},
        {"machine": "web", "label": "broken off", "began": 3.0, "ended": None},
    ]
    assert [(span.row, span.seconds) for span in stage.machine_spans(entries, ("web", "app", "db"))] == [
        ("web", 2.0),
        ("db", 1.0),
    ]
