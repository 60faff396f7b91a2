"""A lab in the background, the real command line against it, and a look at what is left: for tests end to end."""

import json
import os
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEMO = Path(__file__).parents[2] / "examples" / "demo"
PATIENCE = 120.0  # seconds for any one command


@dataclass(frozen=True)
class Bed:
    """One lab and one user's own folders."""

    home: Path
    running: Any  # nixops_proxmox.lab.service.Running
    network: Path

    @property
    def environment(self) -> dict[str, str]:
        base = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "PROXMOX_VE_"))}
        return base | user_folders(self.home)

    def run(self, *arguments: str, check: bool = True, **extra: str) -> subprocess.CompletedProcess[str]:
        """`nixops-proxmox …` to its end; `extra` is environment."""
        done = subprocess.run(
            command(*arguments, "--profile", "lab", "-f", str(self.network)),
            env=self.environment | extra,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """The same, without waiting; in a session of its own, so that it can be killed whole."""
        with (self.home / "killed.log").open("ab") as log:
            return subprocess.Popen(
                command(*arguments, "--profile", "lab", "-f", str(self.network)),
                env=self.environment,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def status(self) -> list[dict[str, Any]]:
        machines: list[dict[str, Any]] = json.loads(self.run("status", "--json").stdout)["machines"]
        return machines

    # The lab's own door.

    def control(self, method: str, what: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self.running.url}/lab/{what}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.running.control_token}", "Content-Type": "application/json"},
        )
        trust = ssl.create_default_context(cafile=self.running.ca_file)
        with urllib.request.urlopen(request, context=trust, timeout=10) as answer:
            return json.load(answer)

    def fault(self, action: str, **how: Any) -> None:
        self.control("POST", "faults", {"action": action, **how})

    def calls(self) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = self.control("GET", "calls")
        return calls

    def forget_calls(self) -> None:
        self.control("DELETE", "calls")

    def reset(self) -> None:
        self.control("POST", "reset")

    def vms(self) -> Mapping[str, Mapping[str, Any]]:
        vms: Mapping[str, Mapping[str, Any]] = self.control("GET", "state")["vms"]
        return vms

    def images(self) -> list[str]:
        """Every volume that belongs to a VM, by volume ID."""
        return [one["volid"] for one in self.control("GET", "state")["volumes"] if one["content"] == "images"]

    def tasks(self, kind: str) -> list[dict[str, Any]]:
        return [task for task in self.control("GET", "state")["tasks"] if task["type"] == kind]

    def wait_for_calls(self, count: int, process: "subprocess.Popen[bytes]") -> bool:
        """Until the lab has seen so many calls; False if the process ended before."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if len(self.calls()) >= count:
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
            command("lab", *arguments), env=environment, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, f"lab {arguments}: {done.stdout}{done.stderr}"

    lab("up", "--port", "0", *(options or ("--simulated",)))
    try:
        running = find_running(home / "state" / "nixops-proxmox" / "labs" / "lab")
        assert running is not None
        yield Bed(home, running, network)
    finally:
        lab("down")
