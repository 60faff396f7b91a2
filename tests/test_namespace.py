import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.namespace import INSIDE_VARIABLE, enter_argv, find_holder, needs_entering
from nixops_proxmox.spelling import Verb, command

LINKS = {"/proc/7/ns/net": "net:[7]", "/proc/8/ns/net": "net:[1]", "/proc/self/ns/net": "net:[1]"}


def link(path: str) -> str:
    if path not in LINKS:
        raise FileNotFoundError(path)
    return LINKS[path]


def test_a_namespace_is_a_process_or_a_file_that_names_one(tmp_path: Path) -> None:
    (tmp_path / "holder.pid").write_text("4711\n")
    assert find_holder("/proc/815/ns/net") == 815
    assert find_holder("/proc/815") == 815
    assert find_holder(str(tmp_path / "holder.pid")) == 4711


@pytest.mark.parametrize("content", [None, "", "x", "12 13"])
def test_a_lab_that_does_not_run_is_named_with_how_to_start_it(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "holder.pid").write_text(content)
    with pytest.raises(ConfigError) as caught:
        find_holder(str(tmp_path / "holder.pid"))
    assert command(Verb.LAB_UP) in caught.value.hint


def test_the_network_is_entered_once_and_only_if_it_is_another() -> None:
    assert needs_entering(7, {}, link)
    assert not needs_entering(8, {}, link)
    assert not needs_entering(7, {INSIDE_VARIABLE: "7"}, link)
    with pytest.raises(ConfigError, match="does not run"):
        needs_entering(9, {}, link)


def test_an_unprivileged_lab_is_entered_by_its_user_namespace() -> None:
    assert enter_argv(7, ["p", "x"], oneself=None) == [
        "nsenter",
        "--target",
        "7",
        "--net",
        "--",
        "p",
        "x",
    ]
    entered = enter_argv(7, ["p"], oneself=(1000, 100))
    assert entered[3:6] == ["--user", "--preserve-credentials", "--net"]
    assert entered[6:] == ["--", "unshare", "--user", "--map-user=1000", "--map-group=100", "--", "p"]


def test_the_network_of_another_user_is_called_so() -> None:
    def refuse(path: str) -> str:
        raise PermissionError(path)

    assert not needs_entering(7, {INSIDE_VARIABLE: "7"}, refuse), "we are inside, and may not look at it from there"
    with pytest.raises(ConfigError, match="another user"):
        needs_entering(7, {}, refuse)


@pytest.fixture(params=["root", "user"])
def holder(request: pytest.FixtureRequest) -> Iterator[int]:
    """A process with a network of its own."""
    if request.param == "root" and os.geteuid() != 0:
        pytest.skip("only root makes a network namespace without a user namespace")
    flags = ["--net"] if request.param == "root" else ["--user", "--map-root-user", "--net"]
    with hold_network(["unshare", *flags]) as pid:
        yield pid


@pytest.fixture
def somebodys() -> Iterator[tuple[list[str], int]]:
    """How to become a user without rights, and a process of that user with a network of its own."""
    prefix = [] if os.geteuid() else ["setpriv", f"--reuid={SOMEBODY}", f"--regid={SOMEBODY}", "--clear-groups"]
    with hold_network([*prefix, "unshare", "--user", "--map-root-user", "--net"]) as pid:
        yield prefix, pid


@contextmanager
def hold_network(argv: list[str]) -> Iterator[int]:
    try:
        process = subprocess.Popen(
            [*argv, "sh", "-c", "echo here; exec sleep 60"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    except FileNotFoundError:
        pytest.skip("no unshare here")
    with process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "here\n":
                pytest.skip("namespaces cannot be made here")
            yield process.pid
        finally:
            process.kill()


SCRIPT = """
import os, sys
from nixops_proxmox.namespace import enter
enter(sys.argv[1])
enter(sys.argv[1])
print(os.readlink("/proc/self/ns/net"), sys.argv[2])
"""


@pytest.mark.netns
def test_the_whole_command_goes_on_inside(holder: int) -> None:
    argv = [sys.executable, "-c", SCRIPT, f"/proc/{holder}/ns/net", "an argument"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    assert done.stdout == f"{os.readlink(f'/proc/{holder}/ns/net')} an argument\n", done.stderr


SOMEBODY = 31234  # a user and a group that need not exist


@pytest.mark.netns
def test_inside_of_an_unprivileged_lab_one_is_who_one_was(somebodys: tuple[list[str], int]) -> None:
    prefix, holder = somebodys
    oneself = (SOMEBODY, SOMEBODY) if prefix else (os.geteuid(), os.getegid())
    look = ["sh", "-c", "readlink /proc/self/ns/net; id -u; id -g"]
    done = subprocess.run(
        [*prefix, *enter_argv(holder, look, oneself=oneself)], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [os.readlink(f"/proc/{holder}/ns/net"), *map(str, oneself)], done.stderr
