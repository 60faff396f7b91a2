"""What each command imports: only what it uses. Counts, because times depend on the machine."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import nixops_proxmox
from nixops_proxmox.cli import VERBS, build_parser, find_about, verb_module

ROOT = str(Path(nixops_proxmox.__file__).parent.parent)
HEAVY = {"sqlalchemy", "pydantic", "paramiko", "cryptography", "requests", "urllib3", "aiohttp", "yaml", "asyncio"}
HELP = {*HEAVY, "rich"}
OF_THE_STATE = {"sqlalchemy", "asyncio", "rich"}  # SQLAlchemy imports asyncio
#         command                       what it may import of these      modules at most
BUDGET = {
    "--help": (set(), 160),
    "--version": (set(), 160),
    "completion bash": (set(), 275),
    "deploy --help": (set(), 230),
    "lifecycle --help": (set(), 250),
    "status": (OF_THE_STATE, 435),
    "history": (OF_THE_STATE, 435),
    "profile list": ({"rich"}, 260),
}


def find_imports(folder: Path, *words: str) -> set[str]:
    """What Python imports for the command, in a home and a folder with nothing in them."""
    homes = {name: str(folder / name.lower()) for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME")}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "nixops_proxmox", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ROOT, "NIXOPS_PROXMOX_DEPLOYMENT": "none", **homes},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return set(re.findall(r"^import time:[^|]*\|[^|]*\| *(\S+)$", done.stderr, re.MULTILINE))


@pytest.mark.parametrize("command", BUDGET)
def test_a_command_imports_what_it_needs(command: str, tmp_path: Path) -> None:
    allowed, most = BUDGET[command]
    names = find_imports(tmp_path, *command.split())
    assert {name.partition(".")[0] for name in names} & HELP <= allowed
    assert len(names) <= most


def test_a_lab_is_entered_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    """In the lab's network the command begins again: what was imported before is imported twice."""
    profiles = tmp_path / "xdg_config_home" / "nixops-proxmox"
    profiles.mkdir(parents=True)
    table = '[lab]\nurl = "https://127.0.0.1:8006"\nnamespace = "/nowhere"\n'
    (profiles / "profiles.toml").write_text(table)
    (profiles / "profiles.toml").chmod(0o600)
    names = find_imports(tmp_path, "--profile", "lab", "plan")
    assert "nixops_proxmox.namespace" in names
    assert {name.partition(".")[0] for name in names} & HEAVY == set()


UNUSED = {
    "paramiko": "nothing connects to a guest",
    "requests": "no router is asked",
    "websocket": "nobody looks at a console",
    "pyotp": "no profile has a second factor",
    "nixops_proxmox.routers": "no router is described",
    "nixops_proxmox.kinds.routing": "no router is described",
    "nixops_proxmox.kinds.firewall": "no firewall is described",
    "nixops_proxmox.pve.api.displays": "nobody looks at a display",
}


def test_what_the_verbs_do_is_imported_without_what_few_of_them_need() -> None:
    code = "import sys, nixops_proxmox.operations; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    names = set(done.stdout.split())
    assert not names & set(UNUSED)
    assert len(names) <= 800, "sys.modules has what Python itself needs, too"


def test_a_start_looks_for_no_garbage(tmp_path: Path) -> None:
    """Nearly all that is imported stays, so Python would find nothing in it, a dozen times."""
    code = (
        "import gc, sys; from nixops_proxmox.__main__ import start; sys.argv = ['x', '--version']; start();"
        " print(gc.get_stats()[2]['collections'], gc.get_freeze_count() > 10_000)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "0 True"


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_line_of_a_verb_is_the_first_of_its_docstring(verb: str) -> None:
    told = verb_module(verb).__doc__
    assert told
    assert find_about(verb) == told.strip().splitlines()[0].rstrip(".")


def test_a_parser_in_full_knows_the_arguments_of_all_verbs() -> None:
    brief, full = build_parser(), build_parser(in_full=True)
    assert brief.parse_args(["plan", "web"]) == full.parse_args(["plan", "web"])
