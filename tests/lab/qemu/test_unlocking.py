"""The first stage of the lab's image asks for a passphrase as `unlock` expects it: its script, on a real terminal."""

import os
import pty
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from nixops_proxmox.errors import AgentSilent, StateError
from nixops_proxmox.guest.agent import RealClock
from nixops_proxmox.model import Machine
from nixops_proxmox.reach.unlocking import TRIES, ConsoleUnlocker
from tests.pace import patience

SCRIPT = Path(__file__).parents[3] / "nixops_proxmox/lab/image/overlay/usr/lib/lab/unlock"
KEY = "cbdefghi-jklnrtuv"
# In place of the disk: it opens with one passphrase.
CRYPTSETUP = '#!/bin/sh\n[ "$(cat)" = "{key}" ] && : > "{mapper}/root"\n'


class Pty:
    """The operator's end of a terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.heard = b""

    def receive(self, timeout: float) -> bytes | None:
        ready, _, _ = select.select([self._descriptor], [], [], timeout)
        try:
            data = os.read(self._descriptor, 4096) if ready else b""
        except OSError:  # the script has ended, and nobody else has the terminal
            return b"" if self.heard else None
        self.heard += data
        return data

    def send(self, data: bytes) -> None:
        os.write(self._descriptor, data)


@dataclass
class Agent:
    """The system starts when its disk is open."""

    root: Path

    def wait_for_agent(self, timeout: float) -> None:
        if not self.root.exists():
            raise AgentSilent("no answer")


@contextmanager
def first_stage(folder: Path) -> Iterator[tuple[Pty, Path]]:
    """Its question, and where the open disk shows."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("there is no busybox here")
    mapper, programs = folder / "mapper", folder / "bin"
    for one in (mapper, programs):
        one.mkdir()
    (folder / "encrypted").write_text("a-uuid\n")
    for name, text in {
        "cryptsetup": CRYPTSETUP.format(key=KEY, mapper=mapper),
        "findfs": "#!/bin/sh\necho /dev/sda\n",
    }.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    script = folder / "unlock"
    text = SCRIPT.read_text().replace("/dev/mapper/", f"{mapper}/").replace("/etc/encrypted", f"{folder}/encrypted")
    text = text.replace("/dev/kmsg", f"{folder}/kmsg").replace('[ -b "$disk" ]', "true")
    script.write_text(text.replace("PATH=", f"PATH={programs}:/bin:"))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [busybox, "sh", script, "ask"], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    try:
        yield Pty(ours), mapper / "root"
    finally:
        process.kill()
        process.wait(patience(10))
        os.close(ours)


def unlocker(line: Pty, root: Path) -> ConsoleUnlocker:
    @contextmanager
    def opened(machine: Machine) -> Iterator[Pty]:
        yield line

    return ConsoleUnlocker(opened, lambda _: Agent(root), RealClock(), patience=patience(30))


def test_the_key_opens_the_disk_and_is_not_echoed(tmp_path: Path) -> None:
    with first_stage(tmp_path) as (line, root):
        assert unlocker(line, root).unlock(Machine("demo", "web"), KEY, lambda _: None)
        assert root.exists()
        assert b"Please enter passphrase for disk root: " in line.heard and KEY.encode() not in line.heard
        assert "opened by a passphrase" in (tmp_path / "kmsg").read_text()


def test_another_key_does_not_and_is_not_typed_for_ever(tmp_path: Path) -> None:
    with first_stage(tmp_path) as (line, root):
        with pytest.raises(StateError, match="does not open it"):
            unlocker(line, root).unlock(Machine("demo", "web"), "another-key", lambda _: None)
        assert not root.exists()
        assert line.heard.count(b"That did not open the disk.") >= TRIES
