"""What the scripts that write a file of nix/ have in common."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

NIX = Path(__file__).resolve().parents[1] / "nix"


def write_or_check(name: str, render: Callable[[], str], about: str | None) -> int:
    """Write nix/NAME. With --check: write nothing, and fail if it is out of date. Returns the exit status."""
    target = NIX / name
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--check", action="store_true", help="Write nothing; fail if it is out of date")
    if parser.parse_args().check:
        current = target.read_text(encoding="utf-8") if target.exists() else ""
        if current != render():
            sys.stderr.write(f"nix/{name} is out of date: scripts/docs\n")
            return 1
        return 0
    target.write_text(render(), encoding="utf-8")
    return 0
