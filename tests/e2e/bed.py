"""A lab in the background, the real command line against it, and a look at what is left: for tests end to end."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.e2e.door import Door
from tests.pace import patience
from tests.published import check_printed

DEMO = Path(__file__).parents[2] / "examples" / "demo"
PATIENCE = 120.0  # seconds for any one command


@dataclass(frozen=True)
class Bed(Door):
    """One lab and one user's own folders."""

    home: Path
    network: Path
    profile: str = "lab"  # for all machines; empty: as described

    @property
    def environment(self) -> dict[str, str]:
        base = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "PROXMOX_VE_"))}
        return base | user_folders(self.home)

    def with_network(self, name: str, text: str) -> "Bed":
        """The same lab and folders, with this network; its deployment has this name."""
        network = self.home / name / "network.nix"
        network.parent.mkdir(exist_ok=True)
        network.write_text(text)
        return replace(self, network=network)

    def command(self, verb: str, *arguments: str) -> list[str]:
        profile = ("--profile", self.profile) if self.profile else ()
        return command(verb, *profile, "-f", str(self.network), *arguments)

    def inside(self, *arguments: str) -> list[str]:
        """The same, begun in the lab's network: a command that must first enter it starts, and imports all, twice."""
        from nixops_proxmox.namespace import INSIDE_VARIABLE

        known = f"{INSIDE_VARIABLE}={self.running.namespace}"  # as `lab exec` says it
        within: list[str] = self.running.enter_argv(["env", known, *self.command(*arguments)])
        return within

    def run(self, *arguments: str, check: bool = True, **extra: str) -> subprocess.CompletedProcess[str]:
        """`nixops-proxmox …` to its end; `extra` is environment."""
        done = subprocess.run(
            self.inside(*arguments),
            env=self.environment | extra,
            capture_output=True,
            text=True,
            timeout=patience(PATIENCE),
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        if "--json" in arguments and done.stdout:
            check_printed(arguments, done.stdout)
        return done

    def start(self, *arguments: str, **extra: str) -> "subprocess.Popen[bytes]":
        """The same, without waiting; in a session of its own, so that it can be killed whole."""
        with (self.home / "killed.log").open("ab") as log:
            return subprocess.Popen(
                self.inside(*arguments),
                env=self.environment | extra,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def status(self) -> list[dict[str, Any]]:
        machines: list[dict[str, Any]] = json.loads(self.run("status", "--json").stdout)["machines"]
        return machines

    def wait_for_calls(self, count: int, process: "subprocess.Popen[bytes]", methods: str = "*") -> bool:
        """Until the lab has seen so many calls (with such a method); False if the process ended before."""
        deadline = time.monotonic() + patience(PATIENCE)
        while time.monotonic() < deadline:
            if sum(methods == "*" or call["method"] in methods.split("|") for call in self.calls()) >= count:
                return True
            if process.poll() is not None:
                return False
            time.sleep(0.02)
        raise AssertionError(f"the lab saw fewer than {count} calls within {PATIENCE} s")

    def ssh(self, machine: str, script: str) -> str:
        return self.run("ssh", machine, "--", script).stdout


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "nixops_proxmox", *arguments]


def user_folders(home: Path) -> dict[str, str]:
    return {f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("STATE", "CONFIG", "CACHE")} | {"HOME": str(home)}


@contextmanager
def start_bed(home: Path, network: Path, *options: str) -> Iterator[Bed]:
    """`lab up` with folders of its own, `lab down` at the end, whatever happened."""
    from nixops_proxmox.lab.service import find_running

    home.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ) | user_folders(home)

    def lab(*arguments: str) -> None:
        done = subprocess.run(
            command("lab", *arguments), env=environment, capture_output=True, text=True, timeout=patience(PATIENCE)
        )
        assert done.returncode == 0, f"lab {arguments}: {done.stdout}{done.stderr}"

    lab("up", "--port", "0", *(options or ("--simulated",)))
    try:
        running = find_running(home / "state" / "nixops-proxmox" / "labs" / "lab")
        assert running is not None
        yield Bed(running, home, network)
    finally:
        lab("down")
