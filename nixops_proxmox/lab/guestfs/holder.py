"""Process 1 of a namespace: keeps it alive, and does inside it what can only be done there.

Serves one client over the SOCK_SEQPACKET socket whose descriptor is argv[1]: one JSON object per message, descriptors
beside it. Ends when the client is gone, so that nothing outlives a killed lab; with a PID namespace of its own, every
process of the guest ends with it.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

MESSAGE = 1 << 18  # bytes; both ends set their buffers to this
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    1,
    2,
    4,
    8,
    32,
    4096,
    16384,
    1 << 18,
)
MNT_DETACH = 2
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def mount(source: str, target: str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    code = libc.mount(source.encode(), target.encode(), fstype.encode() or None, flags, data.encode() or None)
    check(code, f"mount {source} on {target}")


def make_read_only(target: str) -> None:
    """In a user namespace the flags that the mount came with are locked, and must be repeated."""
    locked = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("none", target, flags=MS_REMOUNT | MS_BIND | MS_RDONLY | locked)


def bind(source: str, target: str, *, read_only: bool = False) -> None:
    place = Path(target)
    if Path(source).is_dir():
        place.mkdir(parents=True, exist_ok=True)
    elif not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    mount(source, target, flags=MS_BIND | (0 if read_only else MS_REC))
    if read_only:
        make_read_only(target)


def put(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        path.unlink()
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def put_link(path: Path, to: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or path.is_file():
        path.unlink()
    if not path.exists():
        path.symlink_to(to)


def make_device(path: Path, number: int) -> None:
    """A block device node which nothing can open (the file system is `nodev`); a plain file where there may be none."""
    try:
        os.mknod(path, 0o60660, os.makedev(240, number))
    except PermissionError:
        path.touch()


def make_dev(dev: Path, devices: list[str]) -> None:
    dev.mkdir(exist_ok=True)
    mount("tmpfs", str(dev), "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        bind(f"/dev/{name}", str(dev / name))
    for name, to in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (dev / name).symlink_to(to)
    (dev / "shm").mkdir()
    (dev / "pts").mkdir()
    mount("devpts", str(dev / "pts"), "devpts", data="newinstance,ptmxmode=0666,mode=620")
    (dev / "ptmx").symlink_to("pts/ptmx")
    for number, name in enumerate(devices):
        make_device(dev / name, number)


def set_up(spec: dict[str, Any]) -> None:
    """Build the guest's root and move into it.

    `stage`: an empty folder; `root`: the folder that becomes `/`, or "" for one in memory; `links`, `files`: what to
    put in; `binds`: [source, target, read only]; `devices`: names in /dev; `tmpfs`: folders; `boot_id`; `hostname`.
    """
    stage = Path(spec["stage"])
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    if spec["root"]:
        mount(spec["root"], str(stage), flags=MS_BIND)
    else:
        mount("tmpfs", str(stage), "tmpfs", MS_NOSUID, "mode=755")
    for name in ("proc", "sys", "run", "tmp", "dev", *spec["folders"]):
        (stage / name).mkdir(parents=True, exist_ok=True)
    mount("proc", str(stage / "proc"), "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for name in ("sys", "run", "tmp"):
        mount("tmpfs", str(stage / name), "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777" if name == "tmp" else "mode=755")
    make_dev(stage / "dev", spec["devices"])
    for path, to in spec["links"]:
        put_link(stage / path.lstrip("/"), to)
    for source, target, read_only in spec["binds"]:
        bind(source, str(stage / target.lstrip("/")), read_only=read_only)
    for path, text, mode in spec["files"]:
        put(stage / path.lstrip("/"), text, mode)
    enter(stage)
    put(Path("/run/boot_id"), spec["boot_id"] + "\n", 0o444)
    bind("/run/boot_id", "/proc/sys/kernel/random/boot_id")
    libc.sethostname(spec["hostname"].encode(), len(spec["hostname"].encode()))


def drop_disks(spec: dict[str, Any]) -> None:
    """The disks `names` are gone at once, with what is mounted of them (but for the root); `lab`: the new lab.json."""
    for name in spec["names"]:
        folder = Path("/run/lab/disks", name)
        trees = {(stat.st_dev, stat.st_ino) for stat in (path.stat() for path in (folder / "parts").iterdir())}
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
        points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
        for point in reversed(points):  # what was mounted last is on top
            if point == str(folder) or (point != "/" and is_one_of(point, trees)):
                check(libc.umount2(point.encode(), MNT_DETACH), f"umount {point}")
        for node in Path("/dev").glob(f"{name}*"):
            node.unlink()
    put(Path("/run/lab/lab.json"), spec["lab"], 0o644)


def add_disks(spec: dict[str, Any]) -> None:
    """Disks that come while the guest runs. `disks`: where each one is, its name, and udev's."""
    for source, name, by_id in spec["disks"]:
        bind(source, f"/run/lab/disks/{name}")
        make_device(Path("/dev", name), len(list(Path("/run/lab/disks").iterdir())))
        put_link(Path("/dev/disk/by-id", by_id), f"../../{name}")


def is_one_of(point: str, trees: set[tuple[int, int]]) -> bool:
    try:
        stat = os.stat(point)
    except OSError:
        return False
    return (stat.st_dev, stat.st_ino) in trees


def enter(stage: Path) -> None:
    old = stage / "run" / "old"
    old.mkdir()
    os.chdir(stage)
    code = libc.syscall(SYS_PIVOT_ROOT[os.uname().machine], b".", b"run/old")
    check(code, "pivot_root")
    os.chdir("/")
    check(libc.umount2(b"/run/old", MNT_DETACH), "umount /run/old")
    Path("/run/old").rmdir()


def run(argv: list[str], text: str) -> dict[str, Any]:
    program = shutil.which(argv[0], path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") or argv[0]
    done = subprocess.run([program, *argv[1:]], input=text, capture_output=True, text=True, check=False, timeout=30)
    return {"status": done.returncode, "out": done.stdout, "err": done.stderr}


def new_socket(family: int, kind: int) -> socket.socket:
    return socket.socket(family, kind)


def listen(host: str, port: int) -> socket.socket:
    """A listener; host "" means every address of both families."""
    family = socket.AF_INET if "." in host else socket.AF_INET6
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "" else 1)
    listener.bind((host or "::", port))
    listener.listen(512)
    return listener


def serve_one(request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """One request; the descriptors are ours to close after sending."""
    what = request["do"]
    if what == "set_up":
        set_up(request["spec"])
        return {}, []
    if what == "drop_disks":
        drop_disks(request["spec"])
        return {}, []
    if what == "add_disks":
        add_disks(request["spec"])
        return {}, []
    if what == "run":
        return run(request["argv"], request["input"]), []
    if what == "socket":
        return {}, [new_socket(request["family"], request["kind"]).detach()]
    if what == "listen":
        return {}, [listen(request["host"], request["port"]).detach()]
    if what == "read":  # here and not through a descriptor: much of /proc depends on who reads
        with open(request["path"], "rb") as file:
            return {"text": file.read(MESSAGE // 8).decode("utf-8", "replace")}, []
    if what == "open":
        return {}, [os.open(request["path"], request["flags"] | os.O_CLOEXEC, 0o644)]
    raise ValueError(f"unknown request {what}")


def answer(channel: socket.socket, request: dict[str, Any]) -> None:
    descriptors: list[int] = []
    try:
        reply, descriptors = serve_one(request)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        reply = {"error": str(error), "errno": getattr(error, "errno", None) or 0}
    socket.send_fds(channel, [json.dumps({"id": request["id"], **reply}).encode()], descriptors)
    for descriptor in descriptors:
        os.close(descriptor)


def tell_of(channel: socket.socket, signals: bytes) -> None:
    events = (
        (signal.SIGHUP, "sshd"),
        (signal.SIGUSR1, "reboot"),
        (signal.SIGUSR2, "poweroff"),
        (signal.SIGTERM, "poweroff"),
    )
    for number, event in events:
        if number in signals:
            channel.send(json.dumps({"event": event}).encode())


def reap() -> None:
    """As process 1 we inherit every orphan of the guest."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.setblocking(True)
    os.set_inheritable(channel.fileno(), False)
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    os.set_blocking(wake_read, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel.send(json.dumps({"event": "hello"}).encode())
    while True:
        ready, _, _ = select.select([channel.fileno(), wake_read], [], [])
        if wake_read in ready:
            tell_of(channel, os.read(wake_read, 4096))
            reap()
        if channel.fileno() in ready:
            message = channel.recv(MESSAGE)
            if not message:
                return
            answer(channel, json.loads(message))


if __name__ == "__main__":
    main()
