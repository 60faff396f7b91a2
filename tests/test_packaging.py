"""What is installed is whole: the wheel carries every file that the package needs at run time."""

import ast
import re
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_carries_every_tracked_file_of_the_package(tmp_path: Path) -> None:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "nixops_proxmox", "nix", "share"], capture_output=True, text=True
    )
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    source = tmp_path / "source"
    for name in ["setup.py", "pyproject.toml", "README.md", "man/nixops-proxmox.1", *listed.stdout.splitlines()]:
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), "."]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True)
    if "No module named 'setuptools'" in done.stderr or "BackendUnavailable" in done.stderr:
        pytest.skip("setuptools is not in this environment: pip install setuptools wheel")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        carried = set(archive.namelist())
    assert [name for name in carried if name.endswith(".data/data/share/man/man1/nixops-proxmox.1")]
    code = [name for name in listed.stdout.splitlines() if not name.startswith("share/")]
    wanted = {f"nixops_proxmox/{name}" if name.startswith("nix/") else name for name in code}
    assert not {name for name in wanted if (ROOT / name.replace("nixops_proxmox/nix/", "nix/")).exists()} - carried


NOT_OURS = {"nixops"}  # NixOps 2 loads us, from an environment of its own


def imported() -> set[str]:
    """The names of the modules of others that the package imports anywhere."""
    names: set[str] = set()
    for path in (ROOT / "nixops_proxmox").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
    tops = {name.partition(".")[0] for name in names}
    return {name for name in tops if name not in sys.stdlib_module_names} - {"nixops_proxmox"} - NOT_OURS


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(text: str) -> set[str]:
    return {plain(name) for name in re.findall(r'"([A-Za-z0-9_.-]+)(?:\[[a-z]+\])?>=', text)}


def test_whatever_is_imported_is_declared() -> None:
    """What comes along with something else today may not come tomorrow."""
    declared, found = requirements((ROOT / "setup.py").read_text()), packages_distributions()
    missing = {
        name: found.get(name, ["?"])
        for name in imported()
        if not any(plain(one) in declared for one in found.get(name, ["?"]))
    }
    assert missing == {}


def test_the_nix_package_has_what_pip_would_install() -> None:
    wanted = requirements((ROOT / "setup.py").read_text().partition('"dev"')[0])
    package = (ROOT / "nix" / "package.nix").read_text()
    (listed,) = re.findall(r"dependencies = with python3Packages; (.*?);\n", package, re.S)
    have = {plain(word) for word in re.findall(r"(?<![\w.])[a-z][a-z0-9-]+(?![\w.])", listed)}
    assert have == wanted
