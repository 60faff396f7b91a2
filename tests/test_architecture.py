"""Promises about the source as a whole, beyond the import contracts in pyproject.toml."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
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


def _asserts(function: ast.AST) -> bool:
    """By itself: an assert, an exception that it expects, or one that it raises."""
    return any(
        isinstance(node, ast.Assert | ast.Raise)
        or (isinstance(node, ast.Call) and ast.unparse(node.func) in ("pytest.raises", "pytest.warns", "pytest.fail"))
        for node in ast.walk(function)
    )


def _names(function: ast.AST) -> set[str]:
    """What it mentions, so what it may call, itself or by handing it on."""
    nodes = list(ast.walk(function))
    return {node.id for node in nodes if isinstance(node, ast.Name)} | {
        node.attr for node in nodes if isinstance(node, ast.Attribute)
    }


def test_each_test_asserts_something() -> None:
    """By itself, or by a function of ours, however deep."""
    found: list[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]] = [
        (path, node)
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    calls = [(node.name, _names(node)) for _, node in found]
    asserting = {node.name for _, node in found if _asserts(node)}
    while more := {name for name, called in calls if name not in asserting and called & asserting}:
        asserting |= more
    tests = [(path, node) for path, node in found if node.name.startswith("test_") and path.name.startswith("test_")]
    silent = [
        f"{path.name}:{node.lineno} {node.name}"
        for path, node in tests
        if not _asserts(node) and not _names(node) & asserting
    ]
    assert silent == []


def test_no_test_replaces_what_the_package_has_inside() -> None:
    """Environment variables may be set; what is to be another thing in a test is passed in."""
    patched = re.compile(r"monkeypatch\.(set|del)(attr|item)|mock\.patch|import patch")
    where = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if patched.search(line) and path != Path(__file__)
    ]
    assert where == []


ELSEWHERE = {
    "nixops2": "nixops",  # with the real NixOps
    "kinds/volume": "kinds/test_sweep.py",  # broken at every boundary, in memory
    "lab/guestfs": "lab/machines/test_simulated.py",  # seen from outside of a guest
    "lab/image": "lab/qemu/test_image.py",
    "lab/routers": "routers/test_stand_ins.py",  # our drivers ask them
    "lab/routes": "lab/test_recorded_answers.py",  # the lab is asked over HTTP, by behaviour
    "lab/vms": "lab/test_lifecycle.py",
}


def test_the_tests_mirror_the_package() -> None:
    """Two levels deep, as a folder of the same name or as one file."""
    parts = {path.parent.relative_to(PACKAGE) for deep in ("*", "*/*") for path in PACKAGE.glob(f"{deep}/__init__.py")}
    tests = ROOT / "tests"
    places = {part: ELSEWHERE.get(str(part), str(part)) for part in parts}
    missing = {
        str(part)
        for part, place in places.items()
        if not (tests / place).exists() and not (tests / place).with_name(f"test_{part.name}.py").exists()
    }
    assert missing == set()


def _is_port(node: ast.stmt) -> bool:
    return isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in node.bases)


def _of_its_namesake(node: ast.stmt, name: str) -> bool:
    """An alias that only fills in what a generic class leaves open: `Step: TypeAlias = table.Step[Machine]`."""
    return bool(re.search(rf"= (?:\w+\.)+{name}(?:\[|$)", ast.unparse(node)))


def _types(trees: dict[str, ast.Module]) -> Iterator[tuple[str, str, ast.stmt]]:
    """Each public class and alias of types at the top of a module: name, module, and where it is made."""
    for module, tree in trees.items():
        for node in tree.body:
            match node:
                case ast.ClassDef(name=name):
                    pass
                case ast.Assign(targets=[ast.Name(id=name)]) if "TypeVar(" not in ast.unparse(node.value):
                    pass
                case ast.AnnAssign(target=ast.Name(id=name)):
                    pass
                case _:
                    continue
            if re.match(r"[A-Z]\w*[a-z]", name) and not _of_its_namesake(node, name):
                yield name, module, node


def _twins(trees: dict[str, ast.Module]) -> dict[str, list[str]]:
    """Names that mean two things. A port and the one class that says "satisfies ….Name" are one thing."""
    found: dict[str, list[tuple[str, ast.stmt]]] = {}
    for name, module, node in _types(trees):
        found.setdefault(name, []).append((module, node))
    for name, made in found.items():
        if any(_is_port(node) for _, node in made):
            satisfies = re.compile(rf"satisfies `[\w.]+\.{name}`", re.IGNORECASE)
            made[:] = [
                (module, node)
                for module, node in made
                if not satisfies.search((ast.get_docstring(trees[module]) or "") + ast.unparse(node))
            ]
    return {name: [module for module, _ in made] for name, made in found.items() if len(made) > 1}


TWINS = {
    "World": "each kind has its own, and only its own modules use it: all that the kind's steps can reach",
}


@pytest.mark.parametrize("lab", [False, True], ids=["ours", "the lab"])
def test_a_name_means_one_thing(lab: bool) -> None:
    """The lab is a world of its own: it plays the other side, so it has a Disk and a Call where we have ours."""
    trees = {_name(path): _tree(path) for path in MODULES if (path.relative_to(PACKAGE).parts[0] == "lab") is lab}
    found = _twins(trees)
    assert {name: where for name, where in found.items() if name not in TWINS} == {}
    assert lab or set(TWINS) <= set(found), "the table allows what is not there"


def test_a_new_twin_is_found() -> None:
    one, other = "class Patience:\n    seconds: float\n", "Patience = dict[str, float]\n"
    port = "class Keys(Protocol): ...\n"
    trees = {"a.py": one + port, "b.py": other, "c.py": "class Keys:\n    'satisfies `a.Keys`'\n"}
    assert _twins({name: ast.parse(text) for name, text in trees.items()}) == {"Patience": ["a.py", "b.py"]}


SCRIPTS = [path for folder in (ROOT / "tests", ROOT / "scripts") for path in sorted(folder.rglob("*.py"))]
IMPORT = re.compile(r"^ *from (nixops_proxmox(?:\.[\w.]+)?) import ([\w, ]+)$", re.MULTILINE)


def _imports_in_strings(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for module, names in IMPORT.findall(node.value):
                yield from ((module, name.split(" as ")[0].strip()) for name in names.split(","))


def _exists(module: str, name: str) -> bool:
    found = importlib.import_module(module)
    return hasattr(found, name) or (hasattr(found, "__path__") and find_spec(f"{module}.{name}") is not None)


def test_scripts_in_strings_import_what_there_is() -> None:
    """No checker of types reads them, so a new name would be missed where only a few machines run the script."""
    found = [(path, *imported) for path in SCRIPTS for imported in _imports_in_strings(path)]
    assert len(found) > 5
    assert [
        f"{path.relative_to(ROOT)}: {module}.{name}" for path, module, name in found if not _exists(module, name)
    ] == []
