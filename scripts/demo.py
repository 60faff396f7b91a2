"""The demo: three machines on the lab, from nothing to an HTTP answer, changed, and away again; checks what it shows.

Everything that it makes is in a scratch folder with a HOME of its own, and is gone at the end, however it ends.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from timeline import Span, as_svg, as_text

ROOT = Path(__file__).resolve().parents[1]
NETWORK = ("--file", str(ROOT / "examples" / "demo" / "network.nix"))
LAB = ("--profile", "lab")  # the hypervisor: what `lab up` wrote
MACHINES = ("web", "app", "db")
WEB = "http://[fd77:77::11]/", "http://10.77.0.11/"
ANSWER_SECONDS = 60.0  # from ready to a first answer
WORTH_SHOWING = 0.1  # seconds: what took less is only in the picture
READ = "import sys, urllib.request as r; sys.stdout.write(r.urlopen(sys.argv[1], timeout=20).read().decode())"


class DemoFailed(Exception):
    """The demo did not show what it must show."""


class Demo:
    """Runs the tool in a scratch folder, says every command, and remembers how long each part took."""

    def __init__(self, scratch: Path, guests: str) -> None:
        self.scratch = scratch
        self.guests = guests
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

    def deploy(self, version: str) -> None:
        self.tool("deploy", *NETWORK, *LAB, env={"DEMO_VERSION": version} if version != "1" else {})

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
        words = ["curl", "--silent", "--show-error", url] if shutil.which("curl") else ["python3", "-c", READ, url]
        say(f"$ nixops-proxmox lab exec -- {shlex.join(words)}")
        argv, deadline = tool_argv("lab", "exec", "--", *words), time.monotonic() + ANSWER_SECONDS
        while True:
            done = subprocess.run(argv, env=self.environment, check=False, capture_output=True, text=True, timeout=60)
            if done.stdout.strip() == expected:
                say(expected)
                return
            if time.monotonic() > deadline:
                raise DemoFailed(f"{url} answered {done.stdout!r}, not {expected!r}\n{done.stderr}")
            time.sleep(0.5)

    def calls(self) -> int:
        """How many API calls the lab has answered so far."""
        return int(self.ask("lab", "status")["calls"])


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


def run(demo: Demo) -> None:
    with demo.part("Start the lab"):
        demo.tool("lab", "up", f"--{demo.guests}")
    with demo.part("Deploy web, app and db"):
        demo.deploy("1")
    with demo.part("Ask web, which asks app, which asks db"):
        for url in WEB:
            demo.fetch(url, "web (version 1) -> app -> db: 42 rows")
    with demo.part("Look at them"):
        demo.tool("status", *NETWORK)
        machines = demo.ask("status", *NETWORK)["machines"]
        require([m["phase"] for m in machines] == ["ready"] * len(MACHINES), "not every machine is ready")
    with demo.part("Deploy again: nothing changes"):
        before, last = demo.calls(), len(history(demo))
        demo.deploy("1")
        calls = demo.calls() - before
        say(f"API calls: {calls}")
        require(calls <= 1 + len(MACHINES), f"a deploy without a change took {calls} API calls")
        require(len(history(demo)) == last, "a deploy without a change took a step")
    with demo.part("Deploy a change: it is only activated"):
        last = len(history(demo))
        demo.deploy("2")
        demo.fetch(WEB[0], "web (version 2) -> app -> db: 42 rows")
        steps = [(entry["machine"], entry["from"], entry["to"]) for entry in history(demo)[last:]]
        require(all(machine == "web" for machine, _, _ in steps), f"more than web was touched: {steps}")
        require({to for _, _, to in steps} <= {"running", "ready"}, f"more than an activation was done: {steps}")
    demo.spans += machine_spans(history(demo))
    with demo.part("Destroy everything"):
        demo.tool("destroy", "--yes", *NETWORK, *LAB)
        vms = demo.ask("lab", "status")["vms"]
        require(not vms, f"the lab still has VMs: {vms}")
    with demo.part("Stop the lab"):
        demo.tool("lab", "down")


def history(demo: Demo) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = demo.ask("history", *NETWORK)["history"]
    return entries


def machine_spans(entries: Sequence[Mapping[str, Any]]) -> list[Span]:
    """The journal as spans, machine by machine; sightings take no time and are left out."""
    timed = [entry for entry in entries if entry["ended"] is not None and entry["ended"] > entry["began"]]
    return [
        Span(machine, entry["label"], entry["began"], entry["ended"])
        for machine in MACHINES
        for entry in timed
        if entry["machine"] == machine
    ]


def show_timeline(demo: Demo, file: Path | None) -> None:
    if file is None:  # a name of its own: /tmp is shared
        file = Path(tempfile.mkstemp(prefix="nixops-proxmox-demo.", suffix=".svg")[1])
    rows = [span for span in demo.spans if span.row == "demo"]
    long = [span for span in demo.spans if span.row != "demo" and span.seconds >= WORTH_SHOWING]
    say("\n" + as_text([*rows, *long]))
    file.write_text(as_svg(demo.spans, f"nixops-proxmox demo, {demo.guests} guests"), encoding="utf-8")
    say(f"the same as a picture: {file}")


def choose_guests(arguments: argparse.Namespace) -> str:
    """Real guests where everything that they need is at hand; simulated ones where it is not, or when asked for."""
    if arguments.simulated or arguments.qemu:
        return "simulated" if arguments.simulated else "qemu"
    missing = missing_for_qemu()
    if missing:
        say(f"simulated guests, for real ones need what is not installed here: {', '.join(missing)}")
    return "simulated" if missing else "qemu"


def missing_for_qemu() -> list[str]:
    """What real guests need and this machine does not have."""
    from nixops_proxmox.lab.image.build import missing_tools

    programs = [name for name in ("qemu-system-x86_64", "qemu-img", "dnsmasq") if shutil.which(name) is None]
    return [*programs, *missing_tools()]


def clean_up(demo: Demo) -> None:
    """End the lab, in whatever state it is, and remove the scratch folder."""
    subprocess.run(tool_argv("lab", "down"), env=demo.environment, check=False, capture_output=True, timeout=60)
    for path in demo.scratch.rglob("*"):  # Nix makes its store's folders read-only
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(demo.scratch, ignore_errors=True)


def interrupted(number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt(signal.Signals(number).name)


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=(__doc__ or "").splitlines()[0])
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--simulated", action="store_true", help="simulated guests: quicker, and no QEMU needed")
    kind.add_argument("--qemu", action="store_true", help="real guests in QEMU (the default where there is one)")
    parser.add_argument("--timeline", type=Path, metavar="FILE", help="where to draw what took how long, as an SVG")
    arguments = parser.parse_args(words)
    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGHUP, interrupted)
    demo = Demo(Path(tempfile.mkdtemp(prefix="nixops-proxmox-demo.")), choose_guests(arguments))
    try:
        run(demo)
        show_timeline(demo, arguments.timeline)
    except DemoFailed as error:
        say(f"error: the demo failed: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    finally:
        clean_up(demo)
    say("\nThat was it: nothing is left of it on this machine.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
