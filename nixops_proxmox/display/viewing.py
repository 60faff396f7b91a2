"""A machine's display in a viewer on this computer: the viewer's file, and the local port that it connects to.

What is in the file is secret. So it is the user's own (0600) and does not stay: the viewer deletes it (SPICE), or we do
when the port is closed (VNC). Nothing of it is an argument of a program.
"""

import secrets
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError, DeployError
from nixops_proxmox.messages.explaining import explain
from nixops_proxmox.pve.api.rfb import welcome
from nixops_proxmox.secrecy import learn
from nixops_proxmox.ssh.files import replace_file, start_private_file

if TYPE_CHECKING:
    from nixops_proxmox.operations import Deployed
    from nixops_proxmox.pve.api.displays import RemoteDisplay

VIEWER = "remote-viewer"
PIECE = 64 * 1024  # bytes that are handed on at once
PATIENCE = 30.0  # seconds for a viewer to log in


def viewer_text(settings: Mapping[str, str]) -> str:
    """A file of remote-viewer's."""
    return "\n".join(["[virt-viewer]", *(f"{key}={value}" for key, value in settings.items())]) + "\n"


def show_spice(screen: Screen, deployed: "Deployed", name: str, out: Path | None) -> int:
    if out is None:
        find_viewer()  # before the ticket begins to age
    text = viewer_text({**deployed.spice(name), "delete-this-file": "1"})
    if out is not None:
        write_private(out, text)
        screen.say(f"within 30 seconds: {VIEWER} {out} (which deletes the file)")
        return 0
    with start_private_file(f"{name}.vv", text) as file:
        return subprocess.run([find_viewer(), str(file)], check=False).returncode


def show_vnc(
    screen: Screen, deployed: "Deployed", name: str, *, port: int, out: Path | None, seconds: float | None
) -> int:
    """Until the viewer ends or, with `out`, until Ctrl-C or for so many seconds."""
    program = find_viewer() if out is None else ""
    password = secrets.token_hex(4)
    learn(password)
    with deployed.display(name):  # what is wrong is said before a viewer starts
        pass
    with listen(port) as listener:
        here = listener.getsockname()[1]
        settings = {"type": "vnc", "title": name, "host": "127.0.0.1", "port": str(here), "password": password}
        serve = Server(listener, password, lambda: deployed.display(name), lambda error: screen.show(explain(error)))
        thread = threading.Thread(target=serve.run, name="vnc", daemon=True)
        thread.start()
        try:
            if out is None:
                with start_private_file(f"{name}.vv", viewer_text(settings)) as file:
                    return subprocess.run([program, str(file)], check=False).returncode
            write_private(out, viewer_text(settings))
            screen.say(f"{VIEWER} {out} shows {name}, as long as this runs; Ctrl-C ends it")
            wait(seconds)
            return 0
        finally:
            serve.stop()
            if out is not None:
                out.unlink(missing_ok=True)
            thread.join(1)


def wait(seconds: float | None) -> None:
    """For so long, or until a signal ends us."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while deadline is None or time.monotonic() < deadline:
        time.sleep(0.2 if deadline is None else max(0.0, min(0.2, deadline - time.monotonic())))


def find_viewer() -> str:
    found = shutil.which(VIEWER)
    if found is None:
        raise ConfigError(
            f"there is no {VIEWER} on this computer", hint="install virt-viewer, or write a file for it with --out FILE"
        )
    return found


def write_private(path: Path, text: str) -> None:
    try:
        replace_file(path, text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", hint="give another file with --out") from error


@contextmanager
def listen(port: int) -> Iterator[socket.socket]:
    """On this computer only."""
    try:
        listener = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise ConfigError(
            f"the local port {port} cannot be used: {error.strerror}", hint="give another one with --port"
        ) from error
    with listener:
        yield listener


class LocalViewer:
    """The viewer's connection, as a stream."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def read(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            more = self.connection.recv(count - len(found))
            if not more:
                raise EOFError
            found += more
        return found

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)


class Server:
    """Takes viewers one after the other, and gives each a connection of its own to the display."""

    def __init__(
        self,
        listener: socket.socket,
        password: str,
        open_display: "Callable[[], AbstractContextManager[RemoteDisplay]]",
        failed: Callable[[DeployError], None],
    ) -> None:
        self._listener, self._password, self._open, self._failed = listener, password, open_display, failed
        self._ended = threading.Event()

    def stop(self) -> None:
        self._ended.set()
        with suppress(OSError):  # no connection was waited for
            self._listener.shutdown(socket.SHUT_RDWR)

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, suppress(OSError, EOFError):  # the viewer left
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        if not welcome(LocalViewer(connection), self._password):
            return
        connection.settimeout(None)
        try:
            with self._open() as remote:
                relay(connection, remote)
        except DeployError as error:
            self._failed(error)


def relay(connection: socket.socket, remote: "RemoteDisplay") -> None:
    """Until one of them ends."""

    def show() -> None:
        with suppress(OSError):  # the viewer left
            while data := remote.receive():
                connection.sendall(data)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=show, name="screen", daemon=True)
    thread.start()
    with suppress(OSError):
        while data := connection.recv(PIECE):
            remote.send(data)
    remote.close()
    thread.join(5)
