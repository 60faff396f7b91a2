"""What nobody means to type, and machines in a bad way: one clear error each, and never a defect."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pace import patience

Cli = Callable[..., "subprocess.CompletedProcess[bytes]"]
DEFECT = 70


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    def run(*words: "str | bytes", before: Callable[[], None] | None = None) -> "subprocess.CompletedProcess[bytes]":
        folders = {f"XDG_{kind}_HOME": str(tmp_path / kind.lower()) for kind in ("STATE", "CONFIG", "CACHE")}
        return subprocess.run(
            [sys.executable, "-m", "nixops_proxmox", *words],
            env=os.environ | folders,
            cwd=tmp_path,
            capture_output=True,
            check=False,
            timeout=patience(60),
            preexec_fn=before,
        )

    return run


@pytest.mark.parametrize(
    "words",
    [
        ("plan", "-f", b"/nowhere/\xff\xfe.nix"),
        ("plan", "--flake", "x" * 5000),
        ("plan", "--flake", "./" + "x" * 5000),
        ("plan", "--flake", "github:" + "x" * 5000),
        ("plan", "-f", "x" * 5000 + ".nix"),
        ("plan", "-f", "~nobody-of-that-name/network.nix"),
        ("status", "--state", "~nobody-of-that-name\0"[:-1] + "/" + "x" * 5000),
        ("status", "--deployment", b"\xff"),
        ("status", "--deployment", "x" * 5000),
        ("stop", "--deployment", "shop", b"\xff\x1b[2J"),
        ("stop", "--deployment", "shop", "--jobs", "1e30", "web"),
        ("lab", "up", "--simulated", "--port", "99999"),
        ("lab", "up", "--simulated", "--port", "-1"),
    ],
    ids=str,
)
def test_odd_words_are_one_clear_error(cli: Cli, words: "tuple[str | bytes, ...]") -> None:
    done = cli(*words)
    assert done.returncode not in (0, DEFECT), done.stderr
    assert b"error: " in done.stderr and b"defect" not in done.stderr and b"Traceback" not in done.stderr
    assert b"\x1b" not in done.stderr
    done.stderr.decode("utf-8")


def test_a_full_disk_is_told_with_its_remedy(cli: Cli, tmp_path: Path) -> None:
    done = cli("status", "--deployment", "shop", before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)))
    assert done.returncode not in (0, DEFECT), done.stderr
    assert b"state.sqlite" in done.stderr and b"full" in done.stderr


def test_results_that_find_no_room_are_no_defect(cli: Cli) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "nixops_proxmox", "lifecycle"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode not in (0, DEFECT), done.stderr
    assert b"the disk is full" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, and may write what is read-only by its mode")
def test_a_state_that_cannot_be_written_is_named_with_the_remedy(cli: Cli, tmp_path: Path) -> None:
    assert cli("status", "--deployment", "shop").returncode in (0, 2)
    folder = tmp_path / "state" / "nixops-proxmox"
    argv = [
        "unshare",
        "-m",
        "sh",
        "-c",
        f'mount --bind {folder} {folder} && mount -o remount,ro,bind {folder} && exec "$@"',
        "sh",
    ]
    if subprocess.run([*argv, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    done = subprocess.run(
        [*argv, sys.executable, "-m", "nixops_proxmox", "stop", "--deployment", "shop2", "web"],
        env=os.environ | {"XDG_STATE_HOME": str(tmp_path / "state"), "XDG_CONFIG_HOME": str(tmp_path / "config")},
        capture_output=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode not in (0, DEFECT), done.stderr
    assert str(folder).encode() in done.stderr and b"writable" in done.stderr
