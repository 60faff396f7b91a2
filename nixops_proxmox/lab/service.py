"""The lab in the background: up, status, down, reset. One directory is one lab."""

import argparse
import asyncio
import contextlib
import dataclasses
import errno
import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nixops_proxmox.lab.network import LabNetwork, NamespaceError, Privilege, as_oneself, find_privilege, nsenter_argv
from nixops_proxmox.lab.ports import PortTakenError, listen_anywhere, listen_in_a_row, listen_once_free
from nixops_proxmox.lab.processes import identity
from nixops_proxmox.lab.starter import STARTERS, watch_starters

RUNNING = "running.json"  # written when the API answers; 0600, for it has the API's secrets
STARTING = "starting.json"  # who is about to be the lab
LOG = "lab.log"
NAMESPACE = "namespace.pid"
BESIDE, EXPORTS = "beside", "exports"  # folders: of the other hypervisors, and of the file servers that all use
INSTALLER = "lab-installer.iso"  # in both kinds of lab, so that a description fits both
KEPT = ("secrets.json", "tls")  # over a restart, so that a profile stays right
POLL = 0.05
LOOPBACK = "127.0.0.1"
PORT_SECONDS = 5.0  # for the ports that the lab had before, if another program has one of them
LOOPBACK_SSH = 2222

logger = logging.getLogger(__name__)


class ServiceError(Exception):
    """The lab did not come up, or did not go down; `log` is the end of its log."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


@dataclass(frozen=True)
class Settings:
    """What `up` was asked for. `port`: the first node's API, 0 for any; the next nodes have the ports after it.

    `taken`: what to do if another program has one of them: "refuse", "wait" a few seconds for it, or take any "other".
    """

    driver: str = "simulated"  # simulated, qemu, inert
    version: str = "8.4"
    nodes: tuple[str, ...] = ("pve1", "pve2", "pve3")
    port: int = 8006
    taken: str = "refuse"
    realistic: bool = False  # the latencies of a small cluster, and guests that take time to boot
    image_cache: str = ""  # where the QEMU driver keeps its image; "": in the lab's directory
    memory_cap: int = 0  # MiB that a QEMU guest gets at most; 0: the driver's own
    scripted: bool = False  # simulated guests of which only a model exists
    beside: tuple[str, ...] = ()  # other hypervisors in the same network, each a node of its own with this name

    @classmethod
    def load(cls, told: Mapping[str, Any]) -> "Settings":
        return cls(**{**told, "nodes": tuple(told["nodes"]), "beside": tuple(told.get("beside", ()))})


@dataclass(frozen=True)
class BesideLab:
    """Another hypervisor of the lab, as `LabProcess` tells of the first."""

    url: str
    ca_file: str
    fingerprint: str
    token: str
    control_token: str


@dataclass(frozen=True)
class LabProcess:
    """A lab that is up. `url` is the same on the host's loopback and inside of the lab's network."""

    pid: int
    since: float  # epoch
    settings: Settings
    url: str
    urls: Mapping[str, str]
    ca_file: str
    fingerprint: str
    token: str  # user@realm!name=secret
    root_password: str
    control_token: str
    namespace: int  # the process that holds the network; 0: there is none
    user_namespace: bool
    iso: str  # volid of the installer
    beside: Mapping[str, BesideLab] = field(default_factory=dict)  # by name

    def enter_argv(self, argv: Sequence[str]) -> list[str]:
        """`argv` on the operator's side of the lab's network."""
        if not self.namespace:
            return list(argv)
        inside = as_oneself(argv) if self.user_namespace else argv
        return nsenter_argv(self.namespace, inside, user=self.user_namespace)


def find_running(directory: Path) -> LabProcess | None:
    """The lab of this directory, if it is up. A file that a killed lab left is no lab."""
    told = _read(directory / RUNNING)
    if told is None or identity(told["pid"]) != told.pop("identity"):
        return None
    beside = {name: BesideLab(**one) for name, one in told.get("beside", {}).items()}
    return LabProcess(**{**told, "settings": Settings.load(told["settings"]), "beside": beside})


def up(
    directory: Path, settings: Settings, *, timeout: float = 60.0, tell: Callable[[str], None] = lambda _: None
) -> LabProcess:
    """Start the lab and wait until its API answers; one that is up already is left as it is.

    `tell` gets the lines that the lab logs meanwhile. Raises ServiceError.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(directory, timeout):
        found = find_running(directory)
        if found is not None:
            return found
        _end(_find_pid(directory / STARTING), 5.0)
        for name in (RUNNING, NAMESPACE):
            (directory / name).unlink(missing_ok=True)
        process = _spawn(directory, settings)
        return _wait_until_up(directory, process, timeout, tell)


def down(directory: Path, *, timeout: float = 30.0) -> bool:
    """Stop the lab and all that it started; False if it was not up. Raises ServiceError."""
    if not directory.is_dir():
        return False
    with _alone(directory, timeout):
        pids = [_find_pid(directory / name) for name in (RUNNING, STARTING)]
        for pid in pids:
            _end(pid, timeout)
        for name in (RUNNING, STARTING, NAMESPACE):
            (directory / name).unlink(missing_ok=True)
        _sweep(directory)
    return any(pid is not None for pid in pids)


def reset(directory: Path, *, timeout: float = 60.0) -> LabProcess | None:
    """An empty lab with the same secrets and settings; up again if it was up."""
    found = find_running(directory)
    down(directory, timeout=timeout)
    if directory.is_dir():
        _clear(directory)
    if found is None:
        return None
    settings = dataclasses.replace(found.settings, port=_port(found.url), taken="wait")
    return up(directory, settings, timeout=timeout)


def answers(running: LabProcess, timeout: float = 2.0) -> bool:
    """Does somebody listen where the API should be?"""
    try:
        socket.create_connection((LOOPBACK, _port(running.url)), timeout).close()
    except OSError:
        return False
    return True


def log_tail(directory: Path, lines: int = 15) -> str:
    try:
        text = (directory / LOG).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def _read(path: Path) -> dict[str, Any] | None:
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return told


def _write(path: Path, told: Mapping[str, Any]) -> None:
    """Whole or not at all, and readable by us alone."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    fresh.replace(path)


def _find_pid(path: Path) -> int | None:
    told = _read(path)
    return told["pid"] if told is not None and identity(told["pid"]) == told["identity"] else None


@contextlib.contextmanager
def _alone(directory: Path, timeout: float) -> Iterator[None]:
    """One `up` or `down` at a time."""
    deadline = time.monotonic() + timeout
    with (directory / "lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
            if time.monotonic() > deadline:
                raise ServiceError(f"another command is starting or stopping the lab in {directory}")
            time.sleep(POLL)
        yield


def _spawn(directory: Path, settings: Settings) -> subprocess.Popen[bytes]:
    """The lab's process: a session of its own, so that neither a terminal nor our end takes it along."""
    argv = [sys.executable, "-m", __name__, str(directory), json.dumps(dataclasses.asdict(settings))]
    package = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH", "")]))
    (directory / LOG).unlink(missing_ok=True)
    with (directory / LOG).open("ab") as log:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": path},
        )
    _write(directory / STARTING, {"pid": process.pid, "identity": identity(process.pid)})
    return process


def _wait_until_up(
    directory: Path, process: subprocess.Popen[bytes], timeout: float, tell: Callable[[str], None]
) -> LabProcess:
    deadline = time.monotonic() + timeout
    told = 0
    while True:
        lines = log_tail(directory, 1_000_000).splitlines()
        for line in lines[told:]:
            tell(line)
        told = len(lines)
        found = find_running(directory)
        if found is not None:
            (directory / STARTING).unlink(missing_ok=True)
            process.returncode = 0  # it lives on without us: no warning, no wait
            return found
        if process.poll() is not None:
            (directory / STARTING).unlink(missing_ok=True)
            why = _last_error(lines) or f"exit status {process.returncode}"
            raise ServiceError(f"the lab ended while it started: {why}", log_tail(directory))
        if time.monotonic() > deadline:
            _end(process.pid, 5.0)
            process.wait()
            raise ServiceError(f"the lab did not come up within {timeout:g} s", log_tail(directory))
        time.sleep(POLL)


def _last_error(lines: Sequence[str]) -> str:
    said = [text for _, found, text in (line.partition(" ERROR ") for line in lines) if found]
    return said[-1] if said else ""


def _end(pid: int | None, timeout: float) -> None:
    """SIGTERM, and after `timeout` SIGKILL: what the lab holds ends with it either way."""
    if pid is None:
        return
    was = identity(pid)
    for number, seconds in ((signal.SIGTERM, timeout), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while was is not None and identity(pid) == was:
            if time.monotonic() > deadline:
                break
            time.sleep(POLL)
        else:
            return
    raise ServiceError(f"the lab (process {pid}) does not end")


def _sweep(directory: Path) -> None:
    """What a killed lab may have left: QEMU's processes have pid files; namespaces have ended with the lab."""
    from nixops_proxmox.lab.owned import sweep

    for one in _all_of(directory):
        sweep(one / "machines")


def _clear(directory: Path) -> None:
    """The cluster's state lives in memory: what an earlier lab has left on disk belongs to no cluster."""
    from nixops_proxmox.lab.machines.simulated.volumes import remove_tree

    folders = [one / kind for one in _all_of(directory) for kind in ("cluster", "machines")]
    for path in [path for folder in (*folders, directory / EXPORTS) for path in folder.glob("*")]:
        if path.name in KEPT:
            continue
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            path.unlink()


def _all_of(directory: Path) -> list[Path]:
    """The folder of each hypervisor of the lab."""
    return [directory, *(directory / BESIDE).glob("*")]


# The lab's own process


async def serve(directory: Path, settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    from nixops_proxmox.lab.latency import Latency
    from nixops_proxmox.lab.server import Lab

    done = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, done.set)
    _sweep(directory)
    _clear(directory)
    network = await start_network(settings)
    latency = Latency.realistic() if settings.realistic else Latency.instant()
    exports = directory / EXPORTS
    try:
        async with contextlib.AsyncExitStack() as running:
            first = make_driver(directory, settings, network)
            labs: dict[str, Lab] = {}
            iso = ""
            for name, nodes in {"": settings.nodes, **{name: (name,) for name in settings.beside}}.items():
                folder = directory / BESIDE / name if name else directory
                driver = make_driver(folder, settings, network, beside=first) if name else first
                lab = Lab(
                    folder / "cluster", driver, version=settings.version, nodes=nodes, latency=latency, exports=exports
                )
                port = 0 if name else settings.port
                sockets = await api_sockets(dataclasses.replace(settings, nodes=nodes, port=port), network)
                running.push_async_callback(lab.stop)
                await lab.start(sockets=sockets)
                iso = add_installer(lab, folder)
                labs[name] = lab
            _announce(directory, settings, labs, network, iso)
            await done.wait()
            logger.info("going down")
    finally:
        if network is not None:
            await network.close()
        for name in (RUNNING, NAMESPACE):
            (directory / name).unlink(missing_ok=True)


async def start_network(settings: Settings) -> LabNetwork | None:
    """None for machines that need none; NamespaceError says what can be done where there is none to be had."""
    if settings.driver == "inert":
        return None
    privilege = find_privilege()
    if privilege is Privilege.NONE and settings.driver == "simulated" and settings.scripted:
        logger.info("no network namespaces here: guests are on 127.77.0.0/16, SSH at port %d", LOOPBACK_SSH)
        return None
    return await LabNetwork.start(privilege)


def make_driver(directory: Path, settings: Settings, network: LabNetwork | None, *, beside: Any = None) -> Any:
    """The machines' driver by its name; raises ValueError for another. `beside`: that of another hypervisor, whose
    machines have other addresses."""
    machines = directory / "machines"
    if settings.driver == "inert":
        from nixops_proxmox.lab.machines.inert import InertDriver

        return InertDriver(time.time)
    if settings.driver == "simulated":
        from nixops_proxmox.lab.machines.simulated import Body, Options, SimulatedDriver

        options = Options(body=Body.SCRIPTED if settings.scripted else Body.SANDBOX)
        if network is None:
            options = dataclasses.replace(options, loopback=True, ssh_port=LOOPBACK_SSH)
        if settings.realistic:
            options = options.realistic()
        return SimulatedDriver(
            machines, options, network=network, shelf=directory / "cluster" / "storage", beside=beside
        )
    if settings.driver == "qemu":
        from nixops_proxmox.lab.machines.qemu.driver import MEMORY_CAP, QemuDriver

        cache = Path(settings.image_cache) if settings.image_cache else directory / "image"
        cap = settings.memory_cap or MEMORY_CAP
        return QemuDriver(machines, cache, network=network, progress=logger.info, memory_cap=cap)
    raise ValueError(f"no such driver: {settings.driver}")


async def api_sockets(settings: Settings, network: LabNetwork | None) -> list[socket.socket]:
    """A port for each node on the host's loopback, and the same ports on the loopback of the lab's network."""
    outside = await _listen(settings)
    if network is None:
        return outside
    return [*outside, *[await network.holder.listen(LOOPBACK, one.getsockname()[1]) for one in outside]]


async def _listen(settings: Settings) -> list[socket.socket]:
    count = len(settings.nodes)
    if not settings.port:
        return listen_anywhere(LOOPBACK, count)
    if settings.taken == "wait":
        return await listen_once_free(LOOPBACK, settings.port, count, PORT_SECONDS)
    try:
        return listen_in_a_row(LOOPBACK, settings.port, count)
    except PortTakenError:
        if settings.taken != "other":
            raise
        return listen_anywhere(LOOPBACK, count)


def add_installer(lab: Any, directory: Path) -> str:
    """Put the installer's image into the storage `local`; its volid."""
    image = getattr(lab.driver, "image", None)
    if image is not None:
        return str(lab.add_file("local", "iso", image.iso, name=INSTALLER))
    iso = directory / "machines" / INSTALLER
    iso.parent.mkdir(parents=True, exist_ok=True)
    iso.write_bytes(b"the simulated installer\n" * 64)
    return str(lab.add_file("local", "iso", iso))


def _announce(
    directory: Path, settings: Settings, labs: Mapping[str, Any], network: LabNetwork | None, iso: str
) -> None:
    lab = labs[""]
    if network is not None:
        (directory / NAMESPACE).write_text(f"{network.pid}\n", encoding="ascii")
    running = LabProcess(
        pid=os.getpid(),
        since=time.time(),
        settings=settings,
        url=lab.url,
        urls=dict(lab.urls),
        ca_file=str(lab.ca_file),
        fingerprint=lab.fingerprint,
        token=lab.token,
        root_password=lab.root_password,
        control_token=lab.control_token,
        namespace=network.pid if network else 0,
        iso=iso,
        user_namespace=network is not None and network.privilege is Privilege.USER,
        beside={
            name: BesideLab(one.url, str(one.ca_file), one.fingerprint, one.token, one.control_token)
            for name, one in labs.items()
            if name
        },
    )
    _write(directory / RUNNING, {**dataclasses.asdict(running), "identity": identity(os.getpid())})
    logger.info("up: %s", lab.url)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m nixops_proxmox.lab.service")
    parser.add_argument("directory", type=Path)
    parser.add_argument("settings", type=json.loads)
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for noisy in ("asyncssh", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    watch_starters(os.environ.get(STARTERS, ""))
    try:
        asyncio.run(serve(arguments.directory, Settings.load(arguments.settings)))
    except (NamespaceError, OSError, ValueError) as error:
        logger.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
