"""Real DHCP servers in a network namespace: `unshare --net python -m tests.routers.session kea|dnsmasq FOLDER`.

Makes a reservation by the driver, asks for addresses as a client with that MAC, changes and removes it, and prints
what happened as JSON. With `serve` behind it: prints the router's profile, and then for each MAC that it reads, which
address and name a client with it is given. With `guests INTERFACE IPV4 IPV6` behind it: prints the profile, and serves
what is on that interface until its input ends.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nixops_proxmox.errors import DeployError
from nixops_proxmox.routers import Reservation, RouterProfile, open_router
from tests.pace import patience
from tests.routers.daemons import LAN, START, Lan, hear, wait_for

MAC = "de:ad:be:ef:00:01"
SCRIPT = '#!/bin/sh\n[ "$1" != bound ] || echo "$ip $hostname" >"${0%/*}/given"\n'
ROOT = Path(__file__).parents[2]


def run(*argv: str) -> str:
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=patience(30), cwd=ROOT)
    return done.stdout


class Client:
    """A veth's other end in a namespace of its own, with that MAC."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.mac = folder, MAC
        self.process = subprocess.Popen(["unshare", "--net", "sleep", "300"])
        space = Path(f"/proc/{self.process.pid}/ns/net")
        wait_for(lambda: space.readlink() != Path("/proc/self/ns/net").readlink())
        pid = str(self.process.pid)
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1", "address", MAC)
        run("ip", "link", "set", "v1", "netns", pid)
        run("ip", "addr", "add", "10.9.0.1/24", "dev", "v0")
        run("ip", "addr", "add", "fd09::1/64", "dev", "v0", "nodad")
        run("sysctl", "-qw", "net.ipv6.conf.v0.accept_dad=0")
        run("ip", "link", "set", "v0", "up")
        self.inside = ["nsenter", "-t", pid, "-n"]
        run(*self.inside, "sysctl", "-qw", "net.ipv6.conf.v1.accept_dad=0")
        run(*self.inside, "ip", "link", "set", "v1", "up")
        (folder / "script").write_text(SCRIPT)
        (folder / "script").chmod(0o755)

    def become(self, mac: str) -> None:
        self.mac = mac
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

    def ask_six(self) -> str:
        """The IPv6 address that it is given."""
        return run(*self.inside, sys.executable, "-m", "tests.routers.six", "v1", self.mac, str(patience(10)))


@contextmanager
def client_in(folder: Path) -> Iterator[Client]:
    client = Client(folder)
    try:
        yield client
    finally:
        client.process.kill()
        client.process.wait()


def play(kind: str, folder: Path) -> dict[str, Any]:
    with client_in(folder) as client, START[kind](folder, LAN) as profile, open_router(profile) as router:
        found: dict[str, Any] = {"before": sorted(one.title for one in router.read())}
        web = Reservation("campus/web.net0", MAC, "10.9.0.23", "fd09::23", "web")
        db = Reservation("campus/db.net0", "de:ad:be:ef:00:02", "10.9.0.24", "", "db")
        router.put([web, db])
        router.put([web])
        router.settle()
        found["put"] = sorted(f"{one.owner}: {one.title}" for one in router.read())
        hear()
        found["given"], found["given six"] = client.ask(), client.ask_six()
        router.put([Reservation("campus/web.net0", MAC, "10.9.0.33", "fd09::33", "www")])
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


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def tell_profile(profile: RouterProfile) -> None:
    told = {"type": profile.type, "endpoint": profile.endpoint, **profile.settings}
    say(json.dumps({key: value for key, value in told.items() if value}))


def serve(kind: str, folder: Path) -> None:
    with client_in(folder) as client, START[kind](folder, LAN) as profile:
        tell_profile(profile)
        for line in sys.stdin:
            client.become(line.strip())
            say(client.ask())


def serve_guests(kind: str, folder: Path, lan: Lan) -> None:
    with START[kind](folder, lan) as profile:
        tell_profile(profile)
        sys.stdin.read()


def main(kind: str, folder: Path, *how: str) -> None:
    match how:
        case ("serve",):
            serve(kind, folder)
        case ("guests", *where):
            serve_guests(kind, folder, Lan(*where))
        case _:
            sys.stdout.write(json.dumps(play(kind, folder)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
