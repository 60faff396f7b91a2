"""Somebody's own kind is a package of its own: installed as any other, found, and used by our engine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from nixops_proxmox.kinds.machine.table import LIFECYCLE
from nixops_proxmox.kinds.registry import find_kinds
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


def test_machines_are_registered_with_their_own_table() -> None:
    assert find_kinds()["machine"].lifecycle is LIFECYCLE


def test_a_kind_of_another_package_is_found_and_used(tmp_path: Path) -> None:
    source, site, folder = tmp_path / "source", tmp_path / "site", tmp_path / "notes"
    shutil.copytree(Path(__file__).parent / "plugin", source)
    folder.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-build-isolation", "--no-deps"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True, timeout=patience(120))
    root = str(Path(__file__).parents[2])
    ran = subprocess.run(
        [sys.executable, "-c", USE, str(folder), str(tmp_path / "state.sqlite")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(site), root))},
        capture_output=True, text=True, timeout=patience(120), cwd=root,
    )  # fmt: skip
    assert (ran.stdout, ran.returncode) == ("present ['note']\n", 0), ran.stderr
    assert (folder / "one").read_text() == "hello"
