"""The user's own commands before and after a change: what they are told, and what becomes of one that fails."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.errors import HookFailed
from nixops_proxmox.hooks import HookCommands
from nixops_proxmox.model import Endpoint, Facts, Machine, Phase
from nixops_proxmox.secrecy import learn
from nixops_proxmox.spec import DeploySpec, HookSpec, MachineSpec, Strategy

WEB = Machine("shop", "web", Phase.READY, Facts(uuid="u", profile="lab", vmid=104, endpoint=Endpoint("10.0.0.2")))
SPEC = MachineSpec(name="web", tags=("prod",), deploy=DeploySpec(strategy=Strategy(group="front")))


def hooks(folder: Path, script: str, *arguments: str, **more: Any) -> tuple[HookCommands, list[str]]:
    told: list[str] = []
    argv = (sys.executable, "-c", script, *arguments)
    return HookCommands(HookSpec(before=argv, **more), folder, lambda _, line: told.append(line)), told


def test_a_command_gets_the_machine_as_json_and_stands_where_the_description_is(tmp_path: Path) -> None:
    found, told = hooks(tmp_path, "import os, sys; print(os.getcwd()); print(sys.stdin.read())")
    found.run("before", WEB, SPEC, "/nix/store/new")
    folder, text = told
    said = json.loads(text)
    assert folder == str(tmp_path.resolve())
    known = {"when": "before", "machine": "web", "deployment": "shop", "phase": "ready", "vmid": 104, "tags": ["prod"]}
    assert said | known | {"group": "front", "host": "10.0.0.2", "port": 22, "wanted": "/nix/store/new"} == said


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys; print('pool is busy'); sys.exit(3)", "it ended with exit status 3: pool is busy"),
        ("import os; os.kill(os.getpid(), 9)", "it ended with signal 9"),
        ("import subprocess; subprocess.run(['sleep', '1000'])", "it did not end within 1 s"),
    ],
)
def test_a_command_that_fails_is_told_with_its_option(tmp_path: Path, script: str, said: str) -> None:
    found, _ = hooks(tmp_path, script, timeout=1)
    with pytest.raises(HookFailed, match=r"web\.deployment\.proxmox\.deploy\.hooks\.before: ") as failed:
        found.run("before", WEB, SPEC, "")
    assert said in failed.value.message and failed.value.exit_status == 9


def test_a_command_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(HookFailed, match=r"\./drain cannot be started: No such file"):
        HookCommands(HookSpec(after=("./drain",)), tmp_path, lambda *_: None).run("after", WEB, SPEC, "")


def test_a_secret_that_a_command_says_is_blanked(tmp_path: Path) -> None:
    learn("a-secret-of-the-balancer")
    found, told = hooks(tmp_path, "import sys; print('token', sys.argv[1])", "a-secret-of-the-balancer")
    found.run("before", WEB, SPEC, "")
    assert told == ["token ***"]
