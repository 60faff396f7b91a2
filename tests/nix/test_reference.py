"""docs/options.md is what the module says."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.nix.conftest import ROOT, Evaluate


@pytest.mark.nix
def test_the_option_reference_is_up_to_date(evaluate: Evaluate, option_reference: ModuleType) -> None:
    tree = evaluate(ROOT / "nix" / "reference.nix", {"lib": "null"})
    have = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert have == option_reference.render(tree), "run `python scripts/option_reference.py`"


@pytest.mark.nix
def test_the_reference_of_the_gateway_is_up_to_date(evaluate: Evaluate, option_reference: ModuleType) -> None:
    tree = evaluate(ROOT / "nix" / "reference.nix", {"lib": "null", "gateway": "true"})
    have = (ROOT / "docs" / "gateway-options.md").read_text(encoding="utf-8")
    assert have == option_reference.render(tree, option_reference.GATEWAY_HEAD), "run scripts/docs"


@pytest.mark.nix
def test_the_stand_in_reads_what_the_real_lib_evaluates(evaluate: Evaluate, real_lib: Path) -> None:
    reference = ROOT / "nix" / "reference.nix"
    for more in ({}, {"gateway": "true"}):
        assert evaluate(reference, {"lib": "null", **more}) == evaluate(reference, {"lib": str(real_lib), **more})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        ("a${b}", '"a\\${b}"'),
        ([1, -1, "x"], '[ 1 (-1) "x" ]'),
        ({"a": {"b": []}}, "{ a = { b = [ ]; }; }"),
    ],
)
def test_values_are_written_as_nix_writes_them(value: Any, text: str, option_reference: ModuleType) -> None:
    assert option_reference.nix_text(value) == text
