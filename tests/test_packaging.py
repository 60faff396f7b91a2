"""What is installed is whole: the wheel carries every file that the package needs at run time."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_carries_every_tracked_file_of_the_package(tmp_path: Path) -> None:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "nixops_proxmox", "nix"], capture_output=True, text=True
    )
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    source = tmp_path / "source"
    for name in ["setup.py", "pyproject.toml", "README.md", *listed.stdout.splitlines()]:
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
    wanted = {f"nixops_proxmox/{name}" if name.startswith("nix/") else name for name in listed.stdout.splitlines()}
    assert not {name for name in wanted if (ROOT / name.replace("nixops_proxmox/nix/", "nix/")).exists()} - carried
