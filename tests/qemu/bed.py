"""The command line against real guests: one deployment each, with everything of the lab and of the user shared."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from typing_extensions import override

from tests.e2e.bed import DEMO, Bed, start_bed
from tests.pace import patience, wait_until

COMMAND_SECONDS = 400.0  # of any one command; without KVM, a first boot alone may take half a minute on a busy machine
SIGHT_SECONDS = 200.0  # until a command says what is waited for
POLL = 0.05


@dataclass(frozen=True)
class GuestBed(Bed):
    """A bed with a deployment of its own."""

    deployment: str = ""
    agent_socket: str = ""  # of an SSH agent with the user's own key
    seconds: float = COMMAND_SECONDS

    @property
    @override
    def environment(self) -> dict[str, str]:
        return super().environment | {"SSH_AUTH_SOCK": self.agent_socket}

    @override
    def command(self, verb: str, *arguments: str) -> list[str]:
        return super().command(verb, "--deployment", self.deployment, *arguments)

    @override
    def run(self, *arguments: str, check: bool = True, **extra: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment | extra,
            capture_output=True,
            text=True,
            timeout=patience(self.seconds),
        )
        said = f"{self.deployment}: {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        with (self.home / "commands.log").open("a") as log:
            log.write(f"{said}\n")
        assert not check or done.returncode == 0, said
        return done

    @override
    def start(self, *arguments: str, **extra: str) -> "subprocess.Popen[bytes]":
        with self.log.open("wb") as log:
            return subprocess.Popen(
                self.command(*arguments),
                env=self.environment | extra,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> Path:
        return self.home / f"{self.deployment}.log"

    @property
    def state_file(self) -> Path:
        return self.home / "state" / "nixops-proxmox" / "state.sqlite"

    def named(self, deployment: str, network: str) -> "GuestBed":
        """Another deployment, with a network of its own."""
        file = self.home.parent / deployment / "network.nix"
        file.parent.mkdir(exist_ok=True)  # a test that is tried again must fail of what it failed of before
        file.write_text(network.replace("DEMO", str(DEMO)))
        return replace(self, deployment=deployment, network=file)

    def wait_until_said(self, pattern: str, process: "subprocess.Popen[bytes]") -> None:
        """Until a command that was started with -v says a line like that."""
        deadline = time.monotonic() + patience(SIGHT_SECONDS)
        while not re.search(pattern, text := self.log.read_text(errors="replace")):
            assert process.poll() is None, f"it ended without saying {pattern!r}:\n{text}"
            assert time.monotonic() < deadline, f"it did not say {pattern!r} within {SIGHT_SECONDS} s:\n{text}"
            time.sleep(POLL)

    def wait_until_begun(self, to: str, process: "subprocess.Popen[bytes]") -> None:
        """Until the record has an attempt to get to that phase."""
        query = "select 1 from journal j join deployments d on d.id = deployment_id where d.name = ? and phase_to = ?"
        deadline = time.monotonic() + patience(SIGHT_SECONDS)
        with closing(sqlite3.connect(self.state_file)) as state:
            while state.execute(query, (self.deployment, to)).fetchone() is None:
                assert process.poll() is None, f"it ended without beginning:\n{self.log.read_text(errors='replace')}"
                assert time.monotonic() < deadline, f"nothing led to {to} within {SIGHT_SECONDS} s"
                time.sleep(POLL / 5)

    def wait_for_end(self, process: "subprocess.Popen[bytes]") -> int:
        try:
            return process.wait(COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise AssertionError(f"it did not end:\n{self.log.read_text(errors='replace')}") from None

    def machine(self, name: str) -> dict[str, Any]:
        return next(machine for machine in self.status() if machine["machine"] == name)

    def facts(self, name: str) -> dict[str, Any]:
        """All that the record has, at once and without a program in between."""
        query = """
            select facts from things t join deployments d on d.id = deployment_id
            where d.name = ? and t.kind = 'machine' and t.name = ?
        """
        with closing(sqlite3.connect(self.state_file)) as state:
            (text,) = state.execute(query, (self.deployment, name)).fetchone()
        facts: dict[str, Any] = json.loads(text)
        return facts

    def history(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = json.loads(self.run("history", "--json").stdout)["history"]
        return entries

    # The lab's side.

    def node(self, vmid: int) -> str:
        return str(self.vms()[str(vmid)]["node"])

    def config(self, vmid: int) -> dict[str, Any]:
        config: dict[str, Any] = self.api("GET", f"/nodes/{self.node(vmid)}/qemu/{vmid}/config")
        return config

    def set_config(self, vmid: int, **values: Any) -> None:
        self.api("PUT", f"/nodes/{self.node(vmid)}/qemu/{vmid}/config", **values)

    def wait_until_off(self, vmid: int) -> None:
        wait_until(lambda: self.vms()[str(vmid)]["status"] == "stopped", SIGHT_SECONDS, f"the stop of VM {vmid}", POLL)

    @property
    def lab_folder(self) -> Path:
        return self.home / "state" / "nixops-proxmox" / "labs" / "lab"

    def qemu_pid(self, vmid: int) -> int:
        (file,) = self.lab_folder.glob(f"**/{vmid}/qemu.pid")
        return int(file.read_text().split()[0])

    def disk_file(self, vmid: int, slot: str) -> Path:
        volume = self.config(vmid)[slot].partition(",")[0].partition(":")[2].rpartition("/")[2]
        (file,) = self.lab_folder.glob(f"cluster/storage/**/{volume}")
        return file


@contextmanager
def start_guest_bed(home: Path) -> Iterator[GuestBed]:
    """The lab with real guests; the installer's image is the user's, for it takes a while to build."""
    from nixops_proxmox.lab.image import default_cache

    cache = home / "cache" / "nixops-proxmox" / "lab-image"
    cache.parent.mkdir(parents=True)
    default_cache().mkdir(parents=True, exist_ok=True)
    cache.symlink_to(default_cache())
    with start_agent(home) as agent, start_bed(home, home / "network.nix", "--qemu") as bed:
        yield GuestBed(bed.running, bed.home, bed.network, agent_socket=agent)


@contextmanager
def start_agent(home: Path) -> Iterator[str]:
    """An SSH agent with the user's own key, `~/.ssh/id_ed25519`."""
    folder, sock = home / ".ssh", home / "agent.sock"
    folder.mkdir(mode=0o700)
    key = folder / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "user", "-f", key], check=True)
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", sock], stdout=subprocess.DEVNULL)
    try:
        wait_until(sock.exists, what="the SSH agent's socket")
        environment = os.environ | {"SSH_AUTH_SOCK": str(sock)}
        subprocess.run(["ssh-add", "-q", key], env=environment, check=True, capture_output=True)
        yield str(sock)
    finally:
        agent.terminate()
        agent.wait()


def kill(process: "subprocess.Popen[bytes]") -> None:
    """`kill -9` of a command and of everything that it has started."""
    assert process.poll() is None, "it had ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
