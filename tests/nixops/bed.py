"""The real NixOps 2 against the lab, with folders, a state and an environment of its own."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.builds import nix_config
from tests.e2e.bed import Bed
from tests.pace import patience
from tests.published import check_printed

HERE = Path(__file__).parent
PATIENCE = 180.0  # seconds for any one command

NIXOPS = "NIXOPS_PROXMOX_NIXOPS"
HOW_NIXOPS = (
    "no NixOps 2: `pip install git+https://github.com/NixOS/nixops` into an environment of its own, "
    f"`pip install -e .` there too, and {NIXOPS}=…/bin/nixops"
)


def find_nixops() -> str:
    found = os.environ.get(NIXOPS) or shutil.which("nixops")
    if not found or not Path(found).exists():
        pytest.skip(HOW_NIXOPS)
    return found


@dataclass(frozen=True)
class Nixops:
    """One network's folder, and NixOps in it. `bed`: the lab and the user's folders."""

    bed: Bed
    program: str
    lib: Path
    folder: Path
    deployment: str = "shop"

    @property
    def environment(self) -> dict[str, str]:
        paths = f"nixpkgs={HERE / 'nixpkgs'}:nixpkgs-lib={self.lib}"
        settings = nix_config()
        return self.bed.environment | {
            "NIX_PATH": paths,
            "NIX_CONFIG": settings,
            "NIXOPS_STATE": str(self.folder / "state.nixops"),
            "NIXOPS_DEPLOYMENT": self.deployment,
            "PATH": f"{Path(self.program).parent}:{os.environ['PATH']}",
        }

    def run(self, *words: str, check: bool = True, stdin: str = "", **extra: str) -> subprocess.CompletedProcess[str]:
        """`nixops …` in the network's folder, to its end; it enters the lab's network by itself."""
        done = subprocess.run(
            [self.program, *words],
            cwd=self.folder,
            env=self.environment | extra,
            capture_output=True,
            text=True,
            input=stdin,
            timeout=patience(PATIENCE),
            check=False,
        )
        assert not check or done.returncode == 0, f"nixops {words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        if "--json" in words and done.stdout:
            check_printed(words, done.stdout)
        return done

    def create(self) -> None:
        self.run("create")

    def deploy(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("deploy", *words, check=check)

    def ssh(self, machine: str, *words: str) -> str:
        return self.run("ssh", machine, *words).stdout

    def write(self, network: str) -> None:
        (self.folder / "nixops.nix").write_text(network)

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        with (self.folder / "killed.log").open("ab") as log:
            return subprocess.Popen(
                [self.program, *words],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    # What NixOps has recorded.

    def records(self) -> dict[str, dict[str, Any]]:
        """The record of each machine."""
        rows = self.query(
            "select r.name, a.value from Resources r join ResourceAttrs a on a.machine = r.id where a.name = ?",
            "proxmox.record",
        )
        return {name: json.loads(text) for name, text in rows}

    def attributes(self, machine: str) -> dict[str, str]:
        return dict(
            self.query(
                "select a.name, a.value from Resources r join ResourceAttrs a on a.machine = r.id where r.name = ?",
                machine,
            )
        )

    def query(self, statement: str, *values: object) -> list[Any]:
        connection = sqlite3.connect(self.folder / "state.nixops", timeout=patience(30))
        try:
            found = connection.execute(statement, values).fetchall()
            connection.commit()
            return found
        finally:
            connection.close()


def kill_all(process: "subprocess.Popen[bytes]") -> None:
    """With everything that it has started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE)


def wait_for_text(path: Path, text: str, process: "subprocess.Popen[bytes]") -> bool:
    """Until the file has it; False if the process ended before."""
    deadline = time.monotonic() + patience(PATIENCE)
    while time.monotonic() < deadline:
        if path.exists() and text in path.read_text(errors="replace"):
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    raise AssertionError(f"{text!r} did not come within {PATIENCE} s")


def machine(*, ipv4: str = "none", ipv6: str = "none", bridge: str = "vmbr0", more: str = "", proxmox: str = "") -> str:
    """A machine of a network, in Nix."""
    return f"""
    {{ ... }}: {{
      deployment.targetEnv = "proxmox";
      deployment.proxmox = {{
        disks = [ {{ storage = "local-lvm"; size = "2G"; }} ];
        install.iso = "local:iso/lab-installer.iso";
        network = [ {{ bridge = "{bridge}"; ipv4 = "{ipv4}"; ipv6 = "{ipv6}"; }} ];
        memory = 512;
        {proxmox}
      }};
      {more}
    }};
    """


def network(machines: Mapping[str, str], *, more: str = "network.storage.legacy = { };") -> str:
    body = "".join(f"{name} = {text}\n" for name, text in machines.items())
    return f'{{\n  network.description = "a shop";\n  {more}\n  {body}}}\n'
