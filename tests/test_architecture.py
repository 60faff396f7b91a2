"""Promises about the source as a whole, beyond the import contracts in pyproject.toml."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "nixops_proxmox"
MODULES = sorted(PACKAGE.rglob("*.py"))


def _name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _shells(path: Path) -> Iterator[str]:
    for node in ast.walk(_tree(path)):
        match node:
            case ast.keyword(arg="shell", value=ast.Constant(value=True)):
                yield f"{_name(path)}:{node.value.lineno}"
            case ast.Attribute(value=ast.Name(id="os"), attr="system" | "popen"):
                yield f"{_name(path)}:{node.lineno}"


def test_every_module_says_in_a_sentence_what_it_is_for() -> None:
    silent = [_name(path) for path in MODULES if path.read_text().strip() and not ast.get_docstring(_tree(path))]
    assert silent == []


def test_no_module_is_named_after_nothing() -> None:
    assert [_name(path) for path in MODULES if re.search(r"util|helper|common|manager|misc", path.stem)] == []


def test_no_shell_is_started_by_us() -> None:
    assert [where for path in MODULES for where in _shells(path)] == []


@pytest.mark.parametrize(
    "module",
    ["nixops_proxmox.cli", "nixops_proxmox.operations", "nixops_proxmox.kinds.machine.table", "nixops_proxmox.errors"],
)
def test_it_is_imported_without_nixops_and_without_the_lab(module: str) -> None:
    script = f"""
import sys
for missing in ("nixops", "aiohttp", "asyncssh", "qemu"):
    sys.modules[missing] = None
import {module}
assert not [name for name in sys.modules if name.startswith("nixops_proxmox.lab")]
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_tests_mirror_the_package() -> None:
    parts = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    tests = ROOT / "tests"
    have = {path.name.removeprefix("test_").removesuffix(".py") for path in tests.iterdir()}
    elsewhere = {"nixops2": "nixops"}  # with the real NixOps
    assert {part for part in parts if part not in have and elsewhere.get(part) not in have} == set()
