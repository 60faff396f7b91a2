"""What NixOps 2 asks of a backend is what ours has: seen without NixOps, by a recorded table."""

import ast
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.nixops.bed import find_nixops
from tests.pace import patience

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "nixops_proxmox" / "nixops2"
TABLE = json.loads((HERE / "contract.json").read_text())["classes"]

OURS = [  # base in NixOps, module, class
    ("MachineDefinition", "backend", "ProxmoxDefinition"),
    ("MachineState", "backend", "ProxmoxState"),
    ("ResourceDefinition", "volume", "ProxmoxVolumeDefinition"),
    ("ResourceState", "volume", "ProxmoxVolumeState"),
    ("Plugin", "plugin", "ProxmoxPlugin"),
    ("StorageBackend", "storage", "SqlStorage"),
    ("LockDriver", "storage", "SqlLock"),
]
# Without these, NixOps's own do nothing, or fail.
NEEDED = {
    "ProxmoxDefinition": {"get_type"},
    "ProxmoxState": {
        "get_type", "create", "destroy", "stop", "start", "reboot", "reboot_sync", "reboot_rescue", "resource_id",
        "get_ssh_name", "get_ssh_flags", "get_ssh_private_key_file", "get_ssh_host_keys", "get_physical_spec",
        "public_host_key", "address_to", "_check", "backup", "restore", "remove_backup", "get_backups",
        "get_console_output", "create_after",
    },
    "ProxmoxVolumeDefinition": {"get_type", "get_resource_type"},
    "ProxmoxVolumeState": {"get_type", "create", "destroy", "create_after", "_check", "resource_id", "show_state"},
    "ProxmoxPlugin": {"load", "nixexprs", "parser", "storage_backends", "lock_drivers"},
    "SqlStorage": {"options", "__init__", "fetchToFile", "onOpen", "uploadFromFile"},
    "SqlLock": {"options", "__init__", "lock", "unlock"},
}  # fmt: skip


def read_class(module: str, name: str) -> ast.ClassDef:
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)


def functions(of: ast.ClassDef) -> Mapping[str, ast.FunctionDef]:
    return {node.name: node for node in of.body if isinstance(node, ast.FunctionDef)}


def attributes(of: ast.ClassDef) -> set[str]:
    targets = [target for node in of.body if isinstance(node, ast.Assign) for target in node.targets]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def words(function: ast.FunctionDef) -> list[str]:
    """The parameters as the table has them."""
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    first_default = len(positional) - len(given.defaults)
    found = [f"{one.arg}{'=' if number >= first_default else ''}" for number, one in enumerate(positional)]
    found += [f"*{given.vararg.arg}"] if given.vararg else []
    return found + ([f"**{given.kwarg.arg}"] if given.kwarg else [])


def is_property(function: ast.FunctionDef) -> bool:
    return any(isinstance(one, ast.Name) and one.id == "property" for one in function.decorator_list)


def accepts(ours: list[str], theirs: list[str]) -> bool:
    """May ours be called in every way in which theirs may be?"""
    if any(word.startswith("*") for word in ours):
        return [word for word in ours if not word.startswith("*")] == [
            word for word in theirs if not word.startswith("*") and word in ours
        ]
    same = len(ours) >= len(theirs) and all(
        a.rstrip("=") == b.rstrip("=") and a.endswith("=") >= b.endswith("=")
        for a, b in zip(ours, theirs, strict=False)
    )
    return same and all(word.endswith("=") for word in ours[len(theirs) :])


@pytest.mark.parametrize(("base", "module", "name"), OURS)
def test_every_method_may_be_called_as_nixops_calls_it(base: str, module: str, name: str) -> None:
    theirs, wrong = TABLE[base], []
    for method, function in functions(read_class(module, name)).items():
        if method not in theirs:
            continue
        if theirs[method] == "property" or is_property(function):
            if (theirs[method] == "property") != is_property(function):
                wrong.append(f"{method} is a property in one of them only")
        elif not accepts(words(function), theirs[method]):
            wrong.append(f"{method}({', '.join(words(function))}) instead of ({', '.join(theirs[method])})")
    assert wrong == []


@pytest.mark.parametrize(("base", "module", "name"), OURS)
def test_what_is_needed_is_there_and_nixops_still_asks_for_it(base: str, module: str, name: str) -> None:
    here = read_class(module, name)
    assert NEEDED[name] - set(functions(here)) - attributes(here) == set()
    assert NEEDED[name] - set(TABLE[base]) == set()


@pytest.mark.parametrize(("module", "name"), [("backend", "ProxmoxDefinition"), ("volume", "ProxmoxVolumeDefinition")])
def test_the_annotation_that_nixops_reads_is_a_class(module: str, name: str) -> None:
    """NixOps takes `config: …` of the definition at run time, and refuses text (PEP 563)."""
    text = (PACKAGE / f"{module}.py").read_text()
    assert not [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ImportFrom) and n.module == "__future__"]
    annotated = [n for n in read_class(module, name).body if isinstance(n, ast.AnnAssign)]
    assert [(n.target.id, type(n.annotation)) for n in annotated if isinstance(n.target, ast.Name)] == [
        ("config", ast.Name)
    ]


@pytest.mark.nixops
def test_the_recorded_table_is_that_of_the_nixops_at_hand() -> None:
    python = Path(find_nixops()).with_name("python")
    if not python.exists():
        pytest.skip(f"there is no Python beside {find_nixops()}")
    argv = [str(python), str(HERE / "record_contract.py")]
    done = subprocess.run(argv, capture_output=True, text=True, env=os.environ, timeout=patience(60), check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["classes"] == TABLE
