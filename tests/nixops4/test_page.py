"""docs/with-nixops4.md: the commands that it shows are run word for word, and its table is the executable's."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nixops_proxmox.nixops4.outputs import nixos_outputs, vm_outputs
from tests.nixes import find_obstacle
from tests.nixops4.test_declaration import INPUTS, MACHINE
from tests.pace import patience

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "with-nixops4.md").read_text()


@pytest.mark.netns
@pytest.mark.nix
@pytest.mark.slow
def test_what_the_page_shows_works(tmp_path: Path) -> None:
    from tests.e2e.bed import user_folders

    if obstacle := find_obstacle():
        pytest.skip(obstacle)
    script = "\n".join(["set -eux", *re.findall(r"(?s)```sh\n(.*?)```", PAGE)])
    script = script.replace("lab up --simulated", "lab up --simulated --port 0")  # whatever else runs here
    for folder in ("examples", "nix"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, module in (("nixops-proxmox", ""), ("nixops4-resources-proxmox", ".nixops4.provider")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m nixops_proxmox{module} "$@"\n')
        program.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "PROXMOX_VE_"))}
    environment |= user_folders(tmp_path / "user") | {
        "PATH": f"{programs}:{environment['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    try:
        done = subprocess.run(
            ["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=patience(240)
        )
    finally:
        subprocess.run(
            [programs / "nixops-proxmox", "lab", "down"], env=environment, capture_output=True, timeout=patience(60)
        )
    assert done.returncode == 0, done.stdout + done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [next(iter(answer)) for answer in answers] == [
        "createResourceResponse",
        "createResourceResponse",
        "createResourceResponse",
        "createResourceResponse",
        "stateResourceEventResponse",
        "stateResourceReadResponse",
        "stateResourceEventResponse",
    ]
    assert answers[0] == answers[1]
    assert re.search(r"(?m)^/nix/store/\w{32}-web-system$", done.stdout), "ssh shows the system"


def test_the_pages_table_has_every_input_and_output() -> None:
    rows = re.findall(r"(?m)^\| (`\w+`(?:, `\w+`)*) \| .* \| (yes|no) \| (.*?) \| (.*?)\s*\|$", PAGE)
    found = {
        kind: (stateful, re.findall(r"`(\w+)`", inputs), re.findall(r"`(\w+)`", outputs))
        for kinds, stateful, inputs, outputs in rows
        for kind in re.findall(r"`(\w+)`", kinds)
    }
    outputs = {"vm": list(vm_outputs(MACHINE, {})), "nixos": list(nixos_outputs(MACHINE)), "state": []}
    outputs["volume"] = ["volume", "serial", "device"]
    for kind, model in INPUTS.items():
        needs = "yes" if kind in ("vm", "nixos", "volume") else "no"
        assert found[kind] == (needs, list(model.model_fields), outputs.get(kind, ["volume"])), kind
