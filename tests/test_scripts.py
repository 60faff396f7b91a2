"""What the scripts' common part decides: which Python, which packages, and what it says when it may not install."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from nixops_proxmox.lab.image.build import HOST_TOOLS

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


class Computer:
    """A folder of programs that is all there is on PATH, but for a few harmless ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("cat", "dirname", "env", "grep", "mkdir", "sh"):
            (folder / name).symlink_to(
                Path("/usr/bin") / name if (Path("/usr/bin") / name).exists() else f"/bin/{name}"
            )

    def has(self, name: str, script: str) -> None:
        program = self.folder / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def run(self, words: str) -> "subprocess.CompletedProcess[str]":
        """The words after the common part was read, on a PATH of our own."""
        script = f". '{SCRIPTS}/environment.sh'\nPATH={self.folder}\n{words}"
        argv = ["sh", "-c", script, str(SCRIPTS / "test")]
        return subprocess.run(argv, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    (tmp_path / "bin").mkdir()
    return Computer(tmp_path / "bin")


def test_the_first_python_that_is_new_enough_is_taken(computer: Computer) -> None:
    computer.has("python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")
    computer.has("python3.12", "exit 0")
    computer.has("python3.11", "exit 0")
    assert computer.run("find_python").stdout == f"{computer.folder}/python3.12\n"


def test_a_python_that_is_too_old_is_passed_over(computer: Computer) -> None:
    computer.has("python3.11", "exit 1")
    computer.has("python3", "exit 0")
    assert computer.run("find_python").stdout == f"{computer.folder}/python3\n"


def test_only_what_is_missing_is_installed_after_the_lists_are_fetched(computer: Computer) -> None:
    computer.has("dpkg-query", "case $5$4$3 in *there*) echo installed ;; *) exit 1 ;; esac")
    computer.has("apt-get", f'echo "$@" >>{computer.folder}/asked')
    computer.has("id", "echo 0")
    assert computer.run("install_packages there missing other").returncode == 0
    assert (computer.folder / "asked").read_text().splitlines() == [
        "update -qq",
        "install -y -qq --no-install-recommends missing other",
    ]


def test_nothing_is_asked_of_apt_when_everything_is_there(computer: Computer) -> None:
    computer.has("dpkg-query", "echo installed")
    computer.has("apt-get", "exit 9")
    assert computer.run("install_packages one two").returncode == 0


def test_without_rights_it_says_what_to_install(computer: Computer) -> None:
    computer.has("dpkg-query", "exit 1")
    computer.has("apt-get", "exit 9")
    computer.has("id", "echo 1000")
    done = computer.run("need_program nix-instantiate 'builds systems' nix-bin")
    assert done.returncode == 1
    assert "apt-get install nix-bin" in done.stderr
    assert "nix-instantiate is missing (builds systems)" in done.stderr


def test_another_distribution_is_told_what_is_missing(computer: Computer) -> None:
    done = computer.run("need_nix")
    assert done.returncode == 1
    assert "https://nixos.org/download" in done.stderr


def test_what_the_installers_image_is_built_with_is_installed(computer: Computer) -> None:
    of_every_debian = {"apt", "dpkg", "tar"}
    installed = computer.run("echo $QEMU_PACKAGES").stdout.split()
    assert set(HOST_TOOLS.values()) - of_every_debian <= set(installed)


def test_a_virtualenv_that_is_up_to_date_is_not_touched(computer: Computer, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    asked = tmp_path / "asked"
    python = venv / "bin" / "python"
    python.write_text(f'#!/bin/sh\ncase "$1" in -m) echo "$@" >>{asked} ;; -) cat >/dev/null; echo hash ;; esac\n')
    python.chmod(0o755)
    for _ in range(2):
        done = computer.run(f"VENV={venv}\nenter_environment dev")
        assert done.returncode == 0, done.stderr
    assert asked.read_text() == "-m pip install --quiet --editable .[dev]\n", "once, not twice"


def test_no_package_takes_the_place_of_the_static_busybox() -> None:
    """Debian's `busybox` removes `busybox-static`, and in Nix's sandbox it finds no libraries: no system is built."""
    packages = re.findall(r'^[A-Z]+_PACKAGES="([^"]*)"', (SCRIPTS / "environment.sh").read_text(), re.MULTILINE)
    assert packages and not [words for words in packages if "busybox" in words.split()]
