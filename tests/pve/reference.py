"""Recorded answers and schemas of real PVEs, where the reference folder is beside the checkout; else tests skip."""

import json
from pathlib import Path
from typing import Any

import pytest

FACTS = Path(__file__).parents[2] / "../shared/facts"


def load(name: str) -> Any:
    path = FACTS / name
    if not path.exists():
        pytest.skip(f"no {name} beside the checkout")
    return json.loads(path.read_text())
