"""A real systemd as the first process of a namespace, on a copy of this computer's root that forgets."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from nixops_proxmox.model import Completed
from nixops_proxmox.nixeval.activate import PROFILE
from tests.nixeval.test_activate import NIX_ENV
from tests.pace import patience, wait_until

INIT = Path("/lib/systemd/systemd")
# What the system was that an administrator of a container would boot: nothing of this computer's own services.
BOOT = """\
set -e
at=$1
mount -t tmpfs tmpfs "$at"
mkdir "$at/upper" "$at/work" "$at/root"
root=$at/root
mount -t overlay overlay -o lowerdir=/,upperdir="$at/upper",workdir="$at/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys" 2>/dev/null || mount --rbind /sys "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs tmpfs "$root/run"
mount --rbind /dev "$root/dev"
rm -rf "$root/etc/systemd/system" "$root"/usr/lib/systemd/system/*.wants
mkdir -p "$root/etc/systemd/system"
printf '[Unit]\\nDefaultDependencies=no\\n' >"$root/etc/systemd/system/small.target"
printf '[Service]\\nType=oneshot\\nExecStart=false\\n' >"$root/etc/systemd/system/broken.service"
printf '[Service]\\nExecStart=sleep infinity\\n' >"$root/etc/systemd/system/well.service"
export container=lxc PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
exec chroot "$root" INIT --system --unit=small.target
"""
# Each in a cgroup of its own: in a common one, they would stop each other's units.
APART = """\
mkdir "$2"
mount -t cgroup2 cgroup2 "$2"
mkdir "$2/$1"
echo $$ >"$2/$1/cgroup.procs"
shift 2
exec "$@"
"""
LEAVE = """\
mount -t cgroup2 cgroup2 "$2"
for _ in 1 2 3 4 5 6 7 8 9 10; do  # its processes take a moment to end
  find "$2/$1" -depth -type d -exec rmdir {} + 2>/dev/null && break
  sleep 0.5
done
"""
NAMESPACES = ("--fork", "--pid", "--mount", "--cgroup", "--uts", "--ipc", "--kill-child")


def find_lack() -> str:
    """Why there can be none here. Empty: there can."""
    if os.geteuid() != 0:
        return "only root may make such namespaces"
    missing = [name for name in ("unshare", "nsenter") if shutil.which(name) is None]
    if missing or not INIT.exists():
        return f"there is no {missing[0] if missing else 'systemd'}"
    return ""


class SystemdGuest:
    """Scripts in it, as root. Each is a session of its own, as a login is."""

    def __init__(self, init: int) -> None:
        self._enter = ["nsenter", "-t", str(init), "-a", "-r", "-w", "--"]

    def argv(self, script: str) -> list[str]:
        return [*self._enter, "env", "-i", "PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-c", script]

    def run(self, script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed:
        done = subprocess.run(
            self.argv(script), input=stdin, capture_output=True, timeout=timeout, check=False, start_new_session=True
        )
        return Completed(done.returncode, done.stdout.decode(), done.stderr.decode())

    def tell(self, script: str) -> str:
        done = self.run(script)
        assert done.status == 0, done
        return done.stdout.strip()

    def make_system(self, name: str, switch: str = ":") -> str:
        """Its activation is that: as NixOS's, it has systemd execute itself again."""
        system = f"/nix/store/{name}"
        program = (
            f"#!/bin/sh\necho {name} $1\nsystemctl daemon-reexec\n{switch}\nln -sfn {system} /run/current-system\n"
        )
        file = f"{system}/bin/switch-to-configuration"
        self.tell(f"mkdir -p {system}/bin; cat >{file} <<'END'\n{program}\nEND\nchmod +x {file}")
        return system


@contextmanager
def start_guest(folder: Path) -> Iterator[SystemdGuest]:
    """It runs `one`, its first generation."""
    script = BOOT.replace("INIT", str(INIT))
    log = (folder / "log").open("wb")
    own, cgroups = f"guest-{uuid4().hex}", str(folder / "cgroups")
    argv = ["unshare", *NAMESPACES, "sh", "-c", script, "boot", str(folder)]
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-ec", APART, "apart", own, cgroups, *argv], stdout=log, stderr=log
    )
    try:
        wait_until(lambda: process.poll() is not None or has_guest(process.pid), 10, "the namespace")
        guest = SystemdGuest(*(children(process.pid) or [process.pid]))
        wait_until(lambda: process.poll() is not None or is_up(guest), 30, "systemd")
        if process.poll() is not None:
            raise OSError((folder / "log").read_text(errors="replace")[-500:])
        one = guest.make_system("one")
        guest.tell(f"cat >/usr/local/sbin/nix-env <<'END'\n{NIX_ENV}\nEND\nchmod +x /usr/local/sbin/nix-env")
        links = f"ln -sfn {one} {PROFILE}-1-link; ln -sfn system-1-link {PROFILE}; ln -sfn {one} /run/current-system"
        guest.tell(f"mkdir -p {PROFILE.rpartition('/')[0]}; rm -f {PROFILE}*; {links}")
        yield guest
    finally:
        log.close()
        for child in children(process.pid):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        process.kill()
        process.wait()
        argv = ["unshare", "--mount", "sh", "-c", LEAVE, "leave", own, cgroups]
        subprocess.run(argv, check=False, timeout=patience(60))


def is_up(guest: SystemdGuest) -> bool:
    return guest.run("systemctl is-system-running").stdout.strip() in ("running", "degraded")


def has_guest(pid: int) -> bool:
    """It has come as far as the namespaces, and what it started last is the guest."""
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return words[1:2] == [NAMESPACES[0].encode()] and bool(children(pid))
    return False


def children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
