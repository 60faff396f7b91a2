"""Where a demo happens: a scratch folder with a HOME of its own, the tool run in it, and how long each part took."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from timeline import Span

ROOT = Path(__file__).resolve().parents[1]
LAB = ("--profile", "lab")  # the hypervisor: what `lab up` wrote
T = TypeVar("T")
ANSWER_SECONDS = 120.0  # from ready to a first answer
READ = "import sys, urllib.request as r; sys.stdout.write(r.urlopen(sys.argv[1], timeout=20).read().decode())"


class DemoFailed(Exception):
    """The demo did not show what it must show."""


class Demo:
    """Runs the tool in a scratch folder, says every command, and remembers how long each part took."""

    def __init__(self, scratch: Path, guests: str, network: Path) -> None:
        self.scratch = scratch
        self.guests = guests
        self.network = ("--file", str(network))
        self.spans: list[Span] = []
        self.environment = scratch_environment(scratch, os.environ)

    @contextmanager
    def part(self, title: str) -> Iterator[None]:
        say(f"\n\033[1m━━ {title}\033[0m" if sys.stderr.isatty() else f"\n== {title}")
        began = time.time()
        yield
        self.spans.append(Span("demo", title, began, time.time()))

    def tool(self, *words: str, env: Mapping[str, str] | None = None) -> None:
        """Run the tool before the user's eyes; DemoFailed if it fails."""
        prefix = "".join(f"{name}={value} " for name, value in (env or {}).items())
        say(f"$ {prefix}nixops-proxmox {shlex.join(words)}")
        status = subprocess.run(tool_argv(*words), env={**self.environment, **(env or {})}, check=False).returncode
        if status != 0:
            raise DemoFailed(f"nixops-proxmox {words[0]} ended with status {status}")

    def on(self, machine: str, script: str) -> str:
        """What a command on a machine prints."""
        say(f"$ nixops-proxmox ssh {machine} -- {script}")
        argv = tool_argv("ssh", *self.network, machine, "--", script)
        done = subprocess.run(argv, env=self.environment, check=False, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise DemoFailed(f"on {machine}, {script!r} ended with status {done.returncode}: {done.stderr}")
        return done.stdout.strip()

    def ask(self, *words: str) -> Any:
        """What a command prints with --json."""
        done = subprocess.run(
            tool_argv(*words, "--json"), env=self.environment, check=False, stdout=subprocess.PIPE, text=True
        )
        if done.returncode != 0:
            raise DemoFailed(f"nixops-proxmox {shlex.join(words)} --json ended with status {done.returncode}")
        return json.loads(done.stdout)

    def fetch(self, url: str, expected: str) -> None:
        """Ask from the operator's side of the lab's network until it is answered: services need a moment to come up."""
        self.fetch_until(url, lambda answer: answer == expected, repr(expected))

    def fetch_until(self, url: str, is_expected: Callable[[str], bool], expected: str) -> str:
        """The first answer that is as expected; `expected` says how, for who reads that there was none."""
        words = (
            ["curl", "--silent", "--show-error", "--max-time", "20", url]
            if shutil.which("curl")
            else ["python3", "-c", READ, url]
        )
        say(f"$ nixops-proxmox lab exec -- {shlex.join(words)}")
        argv = tool_argv("lab", "exec", "--", *words)
        done = wait_for(
            partial(
                subprocess.run, argv, env=self.environment, check=False, capture_output=True, text=True, timeout=60
            ),
            lambda done: is_expected(done.stdout.strip()),
            ANSWER_SECONDS,
            lambda done: f"{url} answered {done.stdout.strip()!r}, not {expected}\n{done.stderr}",
        )
        answer = str(done.stdout.strip())
        say(answer)
        return answer

    def end(self, *more: Sequence[str]) -> None:
        """Nothing stays. `more`: commands that delete what outlives its machine."""
        with self.part("Destroy everything"):
            self.tool("destroy", "--yes", *self.network, *LAB)
            for words in more:
                self.tool(*words, *self.network, *LAB)
            vms = self.ask("lab", "status")["vms"]
            require(not vms, f"the lab still has VMs: {vms}")
        with self.part("Stop the lab"):
            self.tool("lab", "down")

    def calls(self) -> int:
        """How many API calls the lab has answered so far."""
        return int(self.ask("lab", "status")["calls"])


def wait_for(ask: Callable[[], T], fits: Callable[[T], bool], seconds: float, wrong: Callable[[T], str]) -> T:
    """The first answer that fits; DemoFailed with what is wrong with the last one."""
    deadline = time.monotonic() + seconds
    while not fits(answer := ask()):
        if time.monotonic() > deadline:
            raise DemoFailed(wrong(answer))
        time.sleep(0.5)
    return answer


def tool_argv(*words: str) -> list[str]:
    return [sys.executable, "-m", "nixops_proxmox", *words]


def scratch_environment(scratch: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with everything of the user's replaced: home, settings, state, run-time folder, Nix settings."""
    from nixops_proxmox.lab.starter import STARTERS, name_starter

    kept = {
        name: value
        for name, value in environment.items()
        if name == STARTERS or not name.startswith(("NIXOPS_PROXMOX_", "PROXMOX_VE_"))
    }
    folders = {
        "HOME": scratch / "home",
        "XDG_CONFIG_HOME": scratch / "config",
        "XDG_STATE_HOME": scratch / "state",
        "XDG_DATA_HOME": scratch / "data",
        "XDG_RUNTIME_DIR": scratch / "run",
    }
    for folder in folders.values():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The lab's installer image takes a while to build, and is the same for everybody: that cache alone is shared.
    cache = environment.get("XDG_CACHE_HOME") or str(Path(environment.get("HOME", "/root")) / ".cache")
    name_starter(kept, os.getpid())
    nix = nix_settings(scratch, environment)
    return {**kept, **{name: str(folder) for name, folder in folders.items()}, "XDG_CACHE_HOME": cache, **nix}


def nix_settings(scratch: Path, environment: Mapping[str, str], *, may_write: bool | None = None) -> dict[str, str]:
    """The demo's derivations need no binary cache. Whoever may write /nix builds there; everybody else in a store below
    the scratch folder, where Nix can only build in a sandbox."""
    lines = ["substituters =", environment.get("NIX_CONFIG", "")]
    nix = Path("/nix/var/nix")  # a Nix that has never run has made nothing yet
    if not (os.access(nix if nix.exists() else "/", os.W_OK) if may_write is None else may_write):
        lines += [f"store = {scratch / 'nix'}", "sandbox = true"]
    return {"NIX_CONFIG": "\n".join(line for line in lines if line)}


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def require(true: bool, what: str) -> None:
    if not true:
        raise DemoFailed(what)


def history(demo: Demo) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = demo.ask("history", *demo.network)["history"]
    return entries


def machine_spans(entries: Sequence[Mapping[str, Any]], machines: Sequence[str]) -> list[Span]:
    """The journal as spans, machine by machine; sightings take no time and are left out."""
    timed = [entry for entry in entries if entry["ended"] is not None and entry["ended"] > entry["began"]]
    return [
        Span(machine, entry["label"], entry["began"], entry["ended"])
        for machine in machines
        for entry in timed
        if entry["machine"] == machine
    ]
