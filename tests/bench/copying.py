"""What it costs to bring many machines their systems: uplink bytes and time, by a copy for each, and by a binary cache.

    scripts/measure_copying [--machines 1,5,20] [--shared 38] [--own 2] [--json]

Machines are Nix stores in folders. `ssh` is a program that counts what goes through it, and the cache is a folder with
a web server in front of it. So the bytes are exact, and the times are those of one computer that does everything.
"""

import argparse
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from typing_extensions import override

from nixops_proxmox.model import Completed
from nixops_proxmox.nixeval.caches import CacheKey, Caches
from nixops_proxmox.nixeval.closure import list_closure
from nixops_proxmox.nixeval.copy import Destination, copy_closure
from nixops_proxmox.nixeval.runner import ProcessRunner
from nixops_proxmox.nixeval.tools import Nix, get_nix
from nixops_proxmox.ssh.keys import KeyStore

HEADS = ("machines", "union MiB", "how", "uplink MiB", "uplink / union", "wall s")
SSH = """\
#!/bin/bash
# Runs here what it should run there, and counts what it is sent.
[[ "$*" != *"echo started"* ]] || echo started
command=() seen=
for word in "$@"; do
  case $word in nix-*) seen=1 ;; esac
  [ -z "$seen" ] || command+=("$word")
done
[ -n "$seen" ] || exit 1
tee >(wc -c >>"$UPLINK") | eval "${command[*]}"
"""
SYSTEM = """\
let store = path: builtins.path { path = FOLDER + "/${path}"; name = path; };
in builtins.toFile "system-NUMBER" "${store "shared"} ${store "own-NUMBER"}"
"""


@dataclass(frozen=True)
class Cost:
    """Sizes in MiB; `union`: of all that the machines need, each path once."""

    machines: int
    union: float
    how: str
    uplink: float
    wall: float

    @property
    def ratio(self) -> float:
        return self.uplink / self.union


class Folder:
    """Shells of machines that are stores in folders."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment

    def run(self, script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed:
        done = subprocess.run(
            ["sh", "-c", script], input=stdin, capture_output=True, env=self._environment, timeout=timeout, check=False
        )
        return Completed(done.returncode, done.stdout.decode(), done.stderr.decode())


class Field:
    """The operator's store with the systems, and what counts the bytes that leave it."""

    def __init__(self, scratch: Path, count: int, shared: int, own: int, nix: Nix | None = None) -> None:
        self.scratch, self.uplink = scratch, scratch / "uplink"
        (scratch / "bin").mkdir()
        ssh = scratch / "bin" / "ssh"
        ssh.write_text(SSH)
        ssh.chmod(0o755)
        self.environment = {
            **os.environ,
            "NIX_REMOTE": f"local?root={scratch}/operator",
            "NIX_CONFIG": "substituters =\nbuild-users-group =\nsandbox = false",
            "UPLINK": str(self.uplink),
            "XDG_CACHE_HOME": str(scratch / "cache-of-nix"),
        }
        self.nix = nix or get_nix()
        self.environment["PATH"] = f"{ssh.parent}:{self.nix.directory}:{os.environ['PATH']}"
        self.run = ProcessRunner(environment=self.environment)
        self.guest = {name: value for name, value in self.environment.items() if name != "NIX_REMOTE"}
        self.systems = [self._build(number, shared, own) for number in range(count)]
        paths: dict[str, int] = {}
        for system in self.systems:
            paths |= list_closure(self.nix, system, self.run) or {}
        self.union = sum(paths.values())
        self.keys = KeyStore(scratch / "keys", "bench")
        self.uplink.write_text("")

    def _build(self, number: int, shared: int, own: int) -> str:
        files = self.scratch / "files"
        files.mkdir(exist_ok=True)
        for name, size in {"shared": shared, f"own-{number}": own}.items():
            if not (files / name).exists():
                (files / name).write_bytes(os.urandom(size << 20))
        text = SYSTEM.replace("FOLDER", str(files)).replace("NUMBER", str(number))
        done = self.run(self.nix.argv("nix-instantiate", "--eval", "--json", "--read-write-mode", "-E", text))
        assert done.status == 0, done.stderr
        return str(json.loads(done.stdout))

    def copy_each(self) -> int:
        """Bytes that left us."""

        def one(number: int) -> None:
            url = f"ssh-ng://root@[::1]?remote-store=local%3Froot%3D{self.scratch}/direct-{number}"
            copy_closure(self.nix, self.systems[number], Destination(url), machine=f"m{number}", run=self.run)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(one, range(len(self.systems))))
        return sum(map(int, self.uplink.read_text().split()))

    def copy_by_cache(self) -> int:
        """The same. What stands in the cache is what was sent to it."""
        folder = self.scratch / "binary-cache"
        caches = Caches(self.nix, lambda: CacheKey(*self.keys.signing_key()), self.run)

        def one(number: int) -> None:
            root, system = str(self.scratch / f"by-cache-{number}"), self.systems[number]
            caches.push(system, f"file://{folder}", lambda _: None)
            caches.fetch(system, url, Folder(self.guest), machine=f"m{number}", root=root)
            assert (Path(root) / "nix" / "store" / Path(system).name).exists()

        folder.mkdir()
        with serve(folder) as url, ThreadPoolExecutor(4) as pool:
            list(pool.map(one, range(len(self.systems))))
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


class _Quiet(http.server.SimpleHTTPRequestHandler):
    @override
    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """A web server in front of the folder, and its URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def measure(count: int, shared: int, own: int) -> list[Cost]:
    """`shared`, `own`: MiB that all machines have in common, and that each has for itself."""
    scratch = Path(tempfile.mkdtemp(prefix="nixops-proxmox-copying."))
    try:
        field = Field(scratch, count, shared, own)
        found = []
        for how, work in {"a copy for each": field.copy_each, "binary cache": field.copy_by_cache}.items():
            began = time.monotonic()
            uplink = work()
            found.append(Cost(count, field.union / 2**20, how, uplink / 2**20, time.monotonic() - began))
        return found
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(scratch)], check=False)
        shutil.rmtree(scratch)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", default="1,5,20")
    parser.add_argument("--shared", type=int, default=38)
    parser.add_argument("--own", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    costs = [cost for count in args.machines.split(",") for cost in measure(int(count), args.shared, args.own)]
    if args.json:
        sys.stdout.write(json.dumps({"copying": [{**asdict(cost), "ratio": cost.ratio} for cost in costs]}) + "\n")
        return 0
    rows = [
        f"{one.machines} | {one.union:.1f} | {one.how} | {one.uplink:.1f} | {one.ratio:.2f} | {one.wall:.1f}"
        for one in costs
    ]
    sys.stdout.write("".join(f"| {row} |\n" for row in [" | ".join(HEADS), " | ".join(["---"] * len(HEADS)), *rows]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
