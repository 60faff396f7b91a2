"""A lab whose guests are only a model, with a node for each machine, so that a fault can be aimed at one of many."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.door import Door
from tests.pace import patience

ROOT = Path(__file__).resolve().parents[2]
SHORT = {"boot": 3.0, "sshd": 3.0, "busy": 4.0}


def time_limit() -> float:
    """For one run of a verb."""
    return patience(120)


@dataclass(frozen=True)
class Field(Door):
    folder: Path

    def run(
        self,
        verb: str,
        machines: Mapping[str, Mapping[str, Any]],
        *,
        names: Sequence[str] = (),
        patience: Mapping[str, float] = SHORT,
        profile: Mapping[str, str] | None = None,
        until: str = "",
        encryption: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """One run of a verb with fresh memory: what became of each machine (see crew.py)."""
        profile = profile or {"token": self.running.token}
        wanted = {
            "verb": verb,
            "machines": machines,
            "names": list(names),
            "until": until,
            "encryption": encryption or {},
            "patience": dict(patience),
            "profile": {"url": self.running.url, "fingerprint": self.running.fingerprint, **profile},
        }
        done = subprocess.run(
            self.running.enter_argv([sys.executable, "-m", "tests.e2e.crew", str(self.folder)]),
            input=json.dumps(wanted),
            capture_output=True,
            text=True,
            timeout=time_limit(),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def clear(self) -> None:
        """An empty lab, and a user without any state."""
        self.reset()
        for left in self.folder.glob("state.db*"):
            left.unlink()


@contextmanager
def start_field(folder: Path, nodes: Sequence[str]) -> Iterator[Field]:
    from nixops_proxmox.lab.service import Settings, down, up

    (folder / "user").mkdir(parents=True)
    settings = Settings(port=0, scripted=True, nodes=tuple(nodes))
    running = up(folder / "lab", settings, timeout=patience(60))
    try:
        yield Field(running, folder / "user")
    finally:
        down(folder / "lab")
