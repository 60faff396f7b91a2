"""Debian's tang, in the lab's network: the very packages that the lab's image is made of."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.pace import patience, wait_until

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed

PORT = 7500
HOST = "10.77.0.1"  # of the lab's own side, as its guests reach it
PACKAGES = ("tang-common", "jose", "libjose0", "libhttp-parser2.9", "libjansson4")


@dataclass
class TangServer:
    """Keys in a folder, and a server that can be stopped."""

    bed: "GuestBed"
    folder: Path
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{PORT}"

    @property
    def thumbprint(self) -> str:
        """Of the key by which the advertisement is signed."""
        for key in sorted((self.folder / "db").glob("*.jwk")):
            if '"verify"' in key.read_text():
                return key.stem
        raise AssertionError("tang has no signing key")

    def start(self) -> None:
        if self.process is not None:
            return
        tangd = self.folder / "usr/libexec/tangd"
        script = self.folder / "tangd"
        script.write_text(f"#!/bin/sh\n{self._environment()} exec {tangd} {self.folder / 'db'}\n")
        script.chmod(0o755)
        argv = self.bed.running.enter_argv(["busybox", "nc", "-ll", "-p", str(PORT), "-e", str(script)])
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(argv, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
        wait_until(self.answers, 20, "tang's advertisement")

    def answers(self) -> bool:
        argv = ["busybox", "wget", "-q", "-O", "-", f"http://127.0.0.1:{PORT}/adv"]  # no bridge is there without guests
        done = subprocess.run(self.bed.running.enter_argv(argv), capture_output=True, check=False, timeout=patience(20))
        return done.returncode == 0

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _environment(self) -> str:
        return f"LD_LIBRARY_PATH={self.folder / 'usr/lib/x86_64-linux-gnu'}"

    def make_keys(self) -> None:
        (self.folder / "db").mkdir()
        keygen = (
            f"{self._environment()} PATH={self.folder / 'usr/bin'}:$PATH {self.folder / 'usr/libexec/tangd-keygen'} db"
        )
        subprocess.run(["bash", "-c", keygen], cwd=self.folder, check=True, capture_output=True)


@contextmanager
def start_tang(bed: "GuestBed", folder: Path) -> Iterator[TangServer]:
    from nixops_proxmox.lab.image import default_cache

    folder.mkdir()
    for package in PACKAGES:
        (*_, newest) = sorted((default_cache() / "apt" / "debs").glob(f"{package}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", newest, folder], check=True)
    server = TangServer(bed, folder)
    server.make_keys()
    server.start()
    try:
        yield server
    finally:
        server.stop()
