"""`scripts/bench`: a quick part of it, whose counts must stay within their limits."""

import json
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.bench.__main__ import beside_ssh, by_layer
from tests.bench.layers import Layers
from tests.bench.limits import objections
from tests.bench.tables import tables
from tests.bench.verbs import VERBS
from tests.pace import patience

FLEET = {
    "machines": 10,
    "wall_s": 114.8,
    "critical_path_s": 109.9,
    "ratio": 1.044,
    "client_cpu_s": 2.3,
    "cpu_ms_per_machine": 230,
    "cpu_ms_beside_ssh": 190,
    "peak_rss_mib": 85.0,
    "api_calls_per_machine": 59,
    "ready": 10,
}


@pytest.mark.netns
@pytest.mark.nix
@pytest.mark.slow
def test_calls_and_modules_of_each_verb_stay_within_their_limits() -> None:
    words = ("--quick", "--check", "--json", "--only", "verbs", "--only", "api_calls")
    argv = [sys.executable, "-m", "tests.bench", *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=patience(300))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [row["verb"] for row in result["verbs"]["rows"]] == list(VERBS)
    assert result["verbs"]["calls"]["plan"] == result["verbs"]["calls"]["deploy_again"], (
        "a deploy asks what a plan asks"
    )
    assert "| plan | 2 | 0 |" in tables(result)


def counts(**more: Any) -> dict[str, Any]:
    return {"verbs": {"rows": [{"verb": "plan", "modules": 900}], "calls": {}}, **more}


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ({}, ""),
        (counts(), ""),
        ({"verbs": {"rows": [{"verb": "--help", "modules": 999}], "calls": {}}}, "--help imports 999 modules"),
        ({"verbs": {"rows": [], "calls": {"plan": {"total": 3, "polls": 0}}}}, "plan makes 3 calls"),
        (counts(api_calls={"total": 99}), "a deploy of one machine makes 99 calls"),
        (counts(faults={"machines": 200, "ready": 189, "every": 20}), "one run makes 189 of 200 machines ready"),
    ],
)
def test_what_exceeds_a_limit_is_said(result: dict[str, Any], told: str) -> None:
    found = objections(result)
    assert len(found) == bool(told) and told in "".join(found)


def test_a_fleet_is_a_row_of_a_table() -> None:
    assert "| 10 | 114.8 | 1.044 | 2.3 | 230 | 190 | 85.0 | 59 |" in tables({"fleet": [FLEET]})


def test_what_ssh_uses_is_told_apart_from_the_rest() -> None:
    found = {"cpu_s": 3.0, "layers": {"ssh": 1.0, "http": 0.5, "rest": 1.5}}
    assert by_layer(found, 10) == {"ssh": 100, "http": 50, "rest": 150} and beside_ssh(found, 10) == 200
    same = {"machines": 10, "made_cpu_ms_by_layer": by_layer(found, 10), "made_cpu_ms_beside_ssh": 200}
    assert "| 10 | 100.0 | 50.0 | 150.0 | 200 |" in tables({"no_change": same})


def test_a_layer_is_not_charged_for_what_another_one_does_for_it() -> None:
    layers = Layers()

    def work(seconds: float) -> None:
        until = time.thread_time() + seconds
        while time.thread_time() < until:
            pass

    inner = layers.measured("state", work)

    def call() -> None:
        work(0.02)
        inner(0.05)
        inner(0.05)

    layers.measured("http", call)()
    found = layers.seconds(1.0)
    assert found["state"] >= 0.1 and 0.02 <= found["http"] < 0.05
    assert sum(found.values()) == pytest.approx(1.0)
