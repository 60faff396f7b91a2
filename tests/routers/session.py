"""Real DHCP servers in a network namespace: `unshare --net python -m tests.routers.session kea|dnsmasq FOLDER`.

Makes a reservation by the driver, asks for an address as a client with that MAC, changes and removes it, and prints
what happened as JSON. With `serve` behind it: prints the router's profile, and then for each MAC that it reads, which
address and name a client with it is given.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nixops_proxmox.errors import DeployError
from nixops_proxmox.routers import Reservation, RouterProfile, open_router
from tests.pace import patience

MAC = "de:ad:be:ef:00:01"
SCRIPT = '#!/bin/sh\n[ "$1" != bound ] || echo "$ip $hostname" >"${0%/*}/given"\n'
SUBNET = {"id": 1, "subnet": "10.9.0.0/24", "pools": [{"pool": "10.9.0.100 - 10.9.0.200"}]}
THEIRS = {"hw-address": "de:ad:be:ef:00:99", "ip-address": "10.9.0.99", "hostname": "theirs"}


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=patience(30)).stdout


class Client:
    """A veth's other end in a namespace of its own, with that MAC."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(["unshare", "--net", "sleep", "300"])
        space = Path(f"/proc/{self.process.pid}/ns/net")
        wait_for(lambda: space.readlink() != Path("/proc/self/ns/net").readlink())
        pid = str(self.process.pid)
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1", "address", MAC)
        run("ip", "link", "set", "v1", "netns", pid)
        run("ip", "addr", "add", "10.9.0.1/24", "dev", "v0")
        run("ip", "link", "set", "v0", "up")
        self.inside = ["nsenter", "-t", pid, "-n"]
        run(*self.inside, "ip", "link", "set", "v1", "up")
        (folder / "script").write_text(SCRIPT)
        (folder / "script").chmod(0o755)

    def become(self, mac: str) -> None:
        run(*self.inside, "ip", "link", "set", "v1", "down")
        run(*self.inside, "ip", "link", "set", "v1", "address", mac)
        run(*self.inside, "ip", "link", "set", "v1", "up")

    def ask(self) -> str:
        """The address and the name that it is given."""
        (self.folder / "given").unlink(missing_ok=True)
        script = str(self.folder / "script")
        udhcpc = ["busybox", "udhcpc", "-i", "v1", "-f", "-q", "-n", "-t", "20", "-T", "1", "-s", script]
        subprocess.run([*self.inside, *udhcpc], check=False, capture_output=True, timeout=patience(60))
        given = self.folder / "given"
        return given.read_text().strip() if given.exists() else ""


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + patience(20)
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def hear() -> None:
    """dnsmasq is told of a new file by the kernel, and does not say when it has read it."""
    time.sleep(1)


def start_kea(folder: Path) -> tuple[RouterProfile, list["subprocess.Popen[bytes]"]]:
    root = Path(os.environ["NIXOPS_PROXMOX_TEST_KEA"])
    environment = os.environ | {
        "LD_LIBRARY_PATH": ":".join(str(found) for found in root.glob("usr/lib/*-linux-gnu")),
        "KEA_PIDFILE_DIR": str(folder),
        "KEA_LOCKFILE_DIR": str(folder),
        "KEA_LOGGER_DESTINATION": str(folder / "log"),
    }
    sock = {"socket-type": "unix", "socket-name": f"{folder}/dhcp4.socket"}
    dhcp4 = {
        "interfaces-config": {"interfaces": ["v0"]},
        "control-socket": sock,
        "lease-database": {"type": "memfile", "persist": False},
        "subnet4": [SUBNET | {"reservations": [THEIRS]}],
    }
    agent = {"http-host": "127.0.0.1", "http-port": 8000, "control-sockets": {"dhcp4": sock}}
    files = {"kea-dhcp4": {"Dhcp4": dhcp4}, "kea-ctrl-agent": {"Control-agent": agent}}
    processes = []
    for name, config in files.items():
        (folder / f"{name}.conf").write_text(json.dumps(config))
        argv = [str(root / "usr/sbin" / name), "-c", str(folder / f"{name}.conf")]
        processes.append(subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL))
    profile = RouterProfile("lan", "kea", "http://127.0.0.1:8000")
    wait_for(lambda: (folder / "dhcp4.socket").exists() and _answers(profile))
    return profile, processes


def _answers(profile: RouterProfile) -> bool:
    try:
        with open_router(profile) as router:
            router.read()
    except DeployError:
        return False
    return True


def start_dnsmasq(folder: Path) -> tuple[RouterProfile, list["subprocess.Popen[bytes]"]]:
    hosts = folder / "hosts.d"
    hosts.mkdir()
    (hosts / "theirs").write_text("# somebody else's\nde:ad:be:ef:00:99,10.9.0.99,theirs\n")
    pid = folder / "pid"
    argv = [
        "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=v0", "--bind-interfaces",
        "--leasefile-ro", "--dhcp-authoritative", "--user=root", "--dhcp-range=10.9.0.100,10.9.0.200,1h",
        f"--dhcp-hostsdir={hosts}", f"--pid-file={pid}", "--log-facility=-",
    ]  # fmt: skip
    process = subprocess.Popen(argv, stderr=(folder / "log").open("wb"))
    wait_for(lambda: pid.exists() and bool(pid.read_text().strip()))
    settings = {"directory": str(hosts), "reload": f"kill -HUP $(cat {pid})"}
    return RouterProfile("lan", "dnsmasq", settings=settings), [process]


def play(kind: str, folder: Path) -> dict[str, Any]:
    client = Client(folder)
    profile, processes = {"kea": start_kea, "dnsmasq": start_dnsmasq}[kind](folder)
    try:
        with open_router(profile) as router:
            found: dict[str, Any] = {"before": sorted(one.title for one in router.read())}
            web = Reservation("campus/web.net0", MAC, "10.9.0.23", "", "web")
            db = Reservation("campus/db.net0", "de:ad:be:ef:00:02", "10.9.0.24", "", "db")
            router.put([web, db])
            router.put([web])
            router.settle()
            found["put"] = sorted(f"{one.owner}: {one.title}" for one in router.read())
            hear()
            found["given"] = client.ask()
            router.put([Reservation("campus/web.net0", MAC, "10.9.0.33", "", "www")])
            hear()
            found["given then"] = client.ask()
            router.drop([web, db])
            router.drop([web])
            router.settle()
            found["after"] = sorted(one.title for one in router.read())
            if kind == "kea":
                try:
                    router.put([Reservation("campus/web.net0", MAC, "10.8.0.1", "", "web")])
                except DeployError as error:
                    found["outside"] = f"{error.message} {error.hint}"
        return found
    finally:
        for process in [*processes, client.process]:
            process.kill()
            process.wait()


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def serve(kind: str, folder: Path) -> None:
    client = Client(folder)
    profile, processes = {"kea": start_kea, "dnsmasq": start_dnsmasq}[kind](folder)
    try:
        told = {"type": profile.type, "endpoint": profile.endpoint, **profile.settings}
        say(json.dumps({key: value for key, value in told.items() if value}))
        for line in sys.stdin:
            client.become(line.strip())
            say(client.ask())
    finally:
        for process in [*processes, client.process]:
            process.kill()
            process.wait()


if __name__ == "__main__":
    if sys.argv[3:] == ["serve"]:
        serve(sys.argv[1], Path(sys.argv[2]))
    else:
        sys.stdout.write(json.dumps(play(sys.argv[1], Path(sys.argv[2]))))
