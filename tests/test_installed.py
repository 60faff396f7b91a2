"""Installed from a wheel into a virtualenv of its own, the program finds all that it needs, and its lab runs."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pace import patience

ROOT = Path(__file__).parents[1]
PAGES = [
    "SECURITY.md",
    "CHANGELOG.md",
    "LICENSE",
    "docs/first-hour.md",
    "examples/proxmox/network.nix",
    "tests/pace.py",
]


def run(*argv: str | Path, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(word) for word in argv],
        cwd=folder,
        env={**{name: os.environ[name] for name in ("PATH", "NIX_CONFIG") if name in os.environ}, **environment},
        capture_output=True,
        text=True,
        timeout=patience(240),
        check=False,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of the tracked files, and the wheel that is made of that sdist."""
    folder = tmp_path_factory.mktemp("built")
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    source = folder / "source"
    for name in filter(lambda one: (ROOT / one).is_file(), listed.stdout.splitlines()):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    script = "import sys; from setuptools import build_meta as b; b.build_sdist(sys.argv[1])"
    done = run(sys.executable, "-c", script, folder, folder=source)
    assert done.returncode == 0, done.stderr
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    script = "import sys; from setuptools import build_meta as b; b.build_wheel(sys.argv[1])"
    done = run(sys.executable, "-c", script, folder, folder=unpacked)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The virtualenv's folder of programs. What we need of others is lent from here, behind all that is ours."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    (wheel,) = built.glob("*.whl")
    python = folder / "bin" / "python"
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        wheel,
    ]
    done = run(*pip, folder=folder)
    assert done.returncode == 0, done.stderr
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    yield folder / "bin"
    run(folder / "bin" / "nixops-proxmox", "lab", "down", folder=folder, **home(folder))


def home(folder: Path) -> dict[str, str]:
    found = {"XDG_CONFIG_HOME": str(folder / "config"), "XDG_STATE_HOME": str(folder / "state"), "HOME": str(folder)}
    return found | {name: os.environ[name] for name in os.environ if name.startswith(("NIXOPS_PROXMOX_LAB", "DEMO_"))}


@pytest.mark.slow
def test_the_sdist_has_what_is_built_read_and_tested(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert set(PAGES) <= names


@pytest.mark.slow
@pytest.mark.nix
@pytest.mark.netns
def test_from_a_virtualenv_of_its_own_it_sets_up_a_lab_and_plans(installed: Path, tmp_path: Path) -> None:
    program, environment = installed / "nixops-proxmox", home(installed.parent)
    where = run(installed / "python", "-c", "import nixops_proxmox as n; print(n.__file__)", folder=tmp_path)
    assert Path(where.stdout.strip()).is_relative_to(installed.parent), where.stdout
    begun = run(program, "init", "--lab", folder=tmp_path, **environment)
    assert begun.returncode == 0, begun.stderr
    assert str(installed.parent) in (tmp_path / "network.nix").read_text(), "its own stand-in for a system"
    planned = run(program, "plan", folder=tmp_path, **environment)
    assert planned.returncode == 0 and "web: new, on pve" in planned.stdout, planned.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shell", "file", "ask"),
    [
        ("bash", "bash-completion/completions/nixops-proxmox", "source {file}; complete -p nixops-proxmox"),
        ("fish", "fish/vendor_completions.d/nixops-proxmox.fish", "source {file}; complete -C 'nixops-proxmox depl'"),
        ("zsh", "zsh/site-functions/_nixops-proxmox",
         "fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D; autoload +X _nixops-proxmox"
         "; echo ${{_comps[nixops-proxmox]}}"),
    ],
)  # fmt: skip
def test_each_shell_finds_its_completion_where_it_looks(installed: Path, shell: str, file: str, ask: str) -> None:
    there = installed.parent / "share" / file
    assert there.is_file()
    words = ask.format(file=there, folder=there.parent)
    environment = home(installed.parent) | {"PATH": f"{installed}:{os.environ['PATH']}"}
    try:
        done = run(shell, "-c", words, folder=installed.parent, **environment)
    except FileNotFoundError:
        pytest.skip(f"there is no {shell}")
    assert (done.returncode == 0 and "nixops" in done.stdout + done.stderr) or "deploy" in done.stdout, done


@pytest.mark.weekly
def test_a_package_index_has_all_that_it_needs(built: Path, tmp_path: Path) -> None:
    """As pipx and uv install it."""
    venv.create(tmp_path / "venv", with_pip=True, symlinks=True)
    (wheel,) = built.glob("*.whl")
    done = run(tmp_path / "venv" / "bin" / "pip", "install", "-q", f"{wheel}[lab]", folder=tmp_path, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    checked = run(tmp_path / "venv" / "bin" / "pip", "check", folder=tmp_path)
    assert checked.returncode == 0, checked.stdout
    helped = run(tmp_path / "venv" / "bin" / "nixops-proxmox", "lab", "status", folder=tmp_path, HOME=str(tmp_path))
    assert helped.returncode == 0, helped.stderr
