"""Real DHCP servers, started where we are: on an interface that is there, for a subnet of it."""

import ipaddress
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nixops_proxmox.errors import DeployError
from nixops_proxmox.routers import RouterProfile, open_router
from tests.pace import patience

THEIR_MAC = "de:ad:be:ef:00:99"
# An interface has its link-local address only some time after it came up.
KEEP_TRYING = {"service-sockets-max-retries": 50, "service-sockets-retry-wait-time": 200}
FIRST, LAST, THEIRS = 100, 200, 99  # in the subnet: those that anybody gets, and the one of somebody else


@dataclass(frozen=True)
class Lan:
    """Where a server listens."""

    interface: str
    v4: str
    v6: str

    def host(self, number: int, family: int = 4) -> str:
        return str(ipaddress.ip_network(self.v4 if family == 4 else self.v6)[number])


LAN = Lan("v0", "10.9.0.0/24", "fd09::/64")


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + patience(20)
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def hear() -> None:
    """dnsmasq is told of a new file by the kernel, and does not say when it has read it."""
    time.sleep(1)


@contextmanager
def end_all(processes: "list[subprocess.Popen[bytes]]") -> Iterator[None]:
    """In any case: one that lives on holds the pipes of who started us."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def start_kea(folder: Path, lan: Lan) -> Iterator[RouterProfile]:
    root = Path(os.environ["NIXOPS_PROXMOX_TEST_KEA"])
    environment = os.environ | {
        "LD_LIBRARY_PATH": ":".join(str(found) for found in root.glob("usr/lib/*-linux-gnu")),
        "KEA_PIDFILE_DIR": str(folder),
        "KEA_LOCKFILE_DIR": str(folder),
        "KEA_LOGGER_DESTINATION": str(folder / "log"),
    }
    processes: list[subprocess.Popen[bytes]] = []
    for name, config in kea_files(folder, lan).items():
        (folder / f"{name}.conf").write_text(json.dumps(config))
        argv = [str(root / "usr/sbin" / name), "-c", str(folder / f"{name}.conf")]
        processes.append(subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL))
    profile = RouterProfile("lan", "kea", "http://127.0.0.1:8000", settings={"ipv6": True})
    with end_all(processes):
        wait_for(lambda: (folder / "dhcp6.socket").exists() and _answers(profile))
        yield profile


def kea_files(folder: Path, lan: Lan) -> dict[str, Any]:
    """The configuration of both daemons and of the agent."""
    sockets = {
        f"dhcp{family}": {"socket-type": "unix", "socket-name": f"{folder}/dhcp{family}.socket"} for family in (4, 6)
    }
    files: dict[str, Any] = {}
    for family, subnet, theirs in (
        (4, lan.v4, {"hw-address": THEIR_MAC, "ip-address": lan.host(THEIRS), "hostname": "theirs"}),
        (6, lan.v6, {"hw-address": THEIR_MAC, "ip-addresses": [lan.host(THEIRS, 6)], "hostname": "theirs"}),
    ):
        pool = f"{lan.host(FIRST, family)} - {lan.host(LAST, family)}"
        subnets = {"id": 1, "subnet": subnet, "pools": [{"pool": pool}], "reservations": [theirs]}
        files[f"kea-dhcp{family}"] = {
            f"Dhcp{family}": {
                "interfaces-config": {"interfaces": [lan.interface], **KEEP_TRYING},
                "loggers": [
                    {
                        "name": f"kea-dhcp{family}",
                        "severity": "INFO",
                        "output_options": [{"output": str(folder / "log")}],
                    }
                ],
                "control-socket": sockets[f"dhcp{family}"],
                "lease-database": {"type": "memfile", "persist": False},
                f"subnet{family}": [subnets | ({"interface": lan.interface} if family == 6 else {})],
                **({"server-id": {"type": "EN", "persist": False}} if family == 6 else {}),
            }
        }
    agent = {"http-host": "127.0.0.1", "http-port": 8000, "control-sockets": sockets}
    return {**files, "kea-ctrl-agent": {"Control-agent": agent}}


def _answers(profile: RouterProfile) -> bool:
    try:
        with open_router(profile) as router:
            router.read()
    except DeployError:
        return False
    return True


@contextmanager
def start_dnsmasq(folder: Path, lan: Lan) -> Iterator[RouterProfile]:
    hosts = folder / "hosts.d"
    hosts.mkdir()
    theirs = f"{THEIR_MAC},{lan.host(THEIRS)},[{lan.host(THEIRS, 6)}],theirs"
    (hosts / "theirs").write_text(f"# somebody else's\n{theirs}\n")
    pid = folder / "pid"
    argv = [
        "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", f"--interface={lan.interface}",
        "--bind-interfaces", "--leasefile-ro", "--dhcp-authoritative", "--user=root",
        *(f"--dhcp-range={lan.host(FIRST, family)},{lan.host(LAST, family)},1h" for family in (4, 6)),
        f"--dhcp-hostsdir={hosts}", f"--pid-file={pid}", "--log-facility=-",
    ]  # fmt: skip
    settings = {"directory": str(hosts), "reload": f"kill -HUP $(cat {pid})"}
    with (folder / "log").open("wb") as log, end_all([subprocess.Popen(argv, stderr=log)]):
        wait_for(lambda: pid.exists() and bool(pid.read_text().strip()))
        yield RouterProfile("lan", "dnsmasq", settings=settings)


START: dict[str, Callable[[Path, Lan], AbstractContextManager[RouterProfile]]] = {
    "kea": start_kea,
    "dnsmasq": start_dnsmasq,
}
