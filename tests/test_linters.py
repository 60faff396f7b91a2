"""The linters, as tests, so that whoever only runs the tests hears of them; scripts/check runs the same and more."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def _need(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install '.[dev]'")


def test_the_format_is_ruffs() -> None:
    _need("ruff")
    _run(sys.executable, "-m", "ruff", "format", "--check", "--quiet", ".")


def test_ruff_finds_nothing() -> None:
    _need("ruff")
    _run(sys.executable, "-m", "ruff", "check", "--quiet", ".")


def test_imports_keep_to_their_directions() -> None:
    _need("importlinter")
    _run(str(Path(sys.executable).parent / "lint-imports"), "--no-cache")


@pytest.mark.slow
def test_types_are_strict() -> None:
    _need("mypy")
    if os.environ.get("CI") == "true":
        pytest.skip("scripts/check has looked at the types, and CI has run it before the tests")
    _run(sys.executable, "-m", "mypy")


def test_shell_scripts_are_sound() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    scripts = [
        str(path)
        for folder in ("scripts", ".ci", "examples", "nixops_proxmox")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.is_file() and path.read_bytes()[:64].startswith((b"#!/bin/sh", b"#!/bin/bash", b"# shellcheck shell="))
    ]
    assert scripts
    _run("shellcheck", "-x", "-S", "warning", *scripts)
