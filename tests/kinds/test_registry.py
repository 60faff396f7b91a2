"""Somebody's own kind is a package of its own: installed as any other, found, and used by our engine."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nixops_proxmox.core.table import label
from nixops_proxmox.kinds.machine.table import LIFECYCLE
from nixops_proxmox.kinds.names import OURS as NAMES
from nixops_proxmox.kinds.registry import OURS, find_kinds, find_resource_types, our_kinds
from tests.pace import patience

USE = """
import sys
from pathlib import Path
from nixops_proxmox.core.engine import pursue
from nixops_proxmox.core.kind import Presence, Thing
from nixops_proxmox.kinds.registry import find_kinds
from nixops_proxmox.state import open_state
from nixops_proxmox_notes import Folder
from tests.clocks import SteppedClock
from tests.kinds.machine.cluster import Quiet

kind = find_kinds()["note"]
with open_state(sys.argv[2]) as state:
    record = state.deployment("demo")
    world = Folder(Path(sys.argv[1]), "hello", SteppedClock(), Quiet())
    note = pursue(kind.lifecycle, Presence.PRESENT, Thing("note", "demo", "one"), world, record.journal())
    print(note.phase, [entry.kind for entry in record.history()])
"""


DOORS = """
import json, sys
from nixops_proxmox.cli import main
from nixops_proxmox.cli.completion import completion_script
from nixops_proxmox.nixops4.provider import answer
from nixops_proxmox.nixops4.resources import Resources
from scripts.generate_docs import kinds_text
from nixops_proxmox.kinds.registry import find_kinds

for shell in ("bash", "zsh", "tcsh"):
    script = completion_script(shell).splitlines()
    assert [line for line in script if all(kind in line for kind in ("machine", "medium", "note"))], shell
assert "`note`: a file in a folder. NixOps 4 has it as `note`." in kinds_text(find_kinds().values())
inputs = {"name": "one", "folder": sys.argv[1], "text": "hello"}
request = {"createResourceRequest": {"type": "note", "inputProperties": inputs, "isStateful": False}}
for _ in range(2):
    print(answer(json.dumps(request).encode(), Resources(state=sys.argv[2])).strip())
sys.exit(main(["lifecycle", "note"]))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the package of notes is installed."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(Path(__file__).parent / "plugin", folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-build-isolation", "--no-deps"]
    argv = [*pip, "--target", str(folder / "site"), str(folder / "source")]
    subprocess.run(argv, check=True, timeout=patience(120))
    return folder / "site"


def run_with(site: Path, script: str, *words: str) -> str:
    root = str(Path(__file__).parents[2])
    ran = subprocess.run(
        [sys.executable, "-c", script, *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(site), root))},
        capture_output=True, text=True, timeout=patience(120), cwd=root,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_machines_are_registered_with_their_own_table() -> None:
    assert find_kinds()["machine"].lifecycle is LIFECYCLE


def test_a_kind_of_another_package_is_found_and_used(site: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    told = run_with(site, USE, str(tmp_path / "notes"), str(tmp_path / "state.sqlite"))
    assert told == "present ['note']\n"
    assert (tmp_path / "notes" / "one").read_text() == "hello"


def test_each_door_offers_a_kind_of_another_package(site: Path, tmp_path: Path) -> None:
    """Completion, documents, the table of its life, and NixOps 4's provider."""
    (tmp_path / "notes").mkdir()
    first, second, *table = run_with(site, DOORS, str(tmp_path / "notes"), str(tmp_path / "state.sqlite")).splitlines()
    made = {"createResourceResponse": {"outputProperties": {"path": str(tmp_path / "notes" / "one")}}}
    assert (json.loads(first), json.loads(second)) == (made, made)
    assert (tmp_path / "notes" / "one").read_text() == "hello"
    assert any("Make it as described" in line for line in table)


def test_our_kinds_are_known_by_their_names_before_they_are_imported() -> None:
    assert tuple(OURS) == NAMES
    assert [entry.name for entry in our_kinds()] == list(OURS)


def test_two_kinds_cannot_have_one_resource_type() -> None:
    names = [one.name for entry in our_kinds() for one in entry.types()]
    assert sorted(names) == sorted(find_resource_types())


def test_every_step_is_called_by_words_that_people_use() -> None:
    """What a step says of itself is shown in plans, in progress and in the history: a class has no place there."""
    labels = {label(move.step) for kind in our_kinds() for move in kind.lifecycle.moves}
    assert labels and [text for text in labels if re.search(r"[a-z][A-Z]", text)] == []
