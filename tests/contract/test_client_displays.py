"""A VM's display through the lab's API: VNC and SPICE, and a viewer on this computer."""

import os
import socket
import threading
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.display.viewing import LocalViewer, Server, listen, viewer_text, write_private
from nixops_proxmox.errors import ConfigError, DeployError, NotAuthenticated, PveRefused, PveUnreachable
from nixops_proxmox.pve.api.displays import RemoteDisplay, ask_spice, open_display
from nixops_proxmox.pve.api.rfb import encrypt, log_in
from tests.contract.client_bench import bare, start_bench
from tests.contract.test_client_terminal import profile_of, start
from tests.pace import patience

FIRST_WORD = bytes([1])  # ClientInit: shared


@pytest.mark.parametrize("version", ["7.4", "8.4", "9.1"])
def test_the_screen_is_seen_by_the_password_that_each_release_gives(version: str) -> None:
    with start_bench(version) as bench:
        vm = start(bench, bench.created())
        with open_display(profile_of(bench), vm.node, vm.vmid) as screen:
            screen.send(FIRST_WORD)
            told = screen.read(24)
            assert int.from_bytes(told[:2], "big") == 640
            assert screen.read(int.from_bytes(told[20:], "big")).startswith(b"QEMU (")
            screen.send(bytes([3, 0, 0, 0, 0, 0, 0, 1, 0, 1]))  # asks for a picture
            assert screen.read(16)[:4] == bytes([0, 0, 0, 1])


def test_a_screen_that_takes_no_login_is_told() -> None:
    with start_bench() as bench:
        machine = bench.created()
        vm = start(bench, machine)
        told = bench.hypervisor.client.open_display(vm.node, vm.vmid)
        assert told["password"] and told["ticket"].startswith(told["password"]), "as recorded of 8.4.21"
        bench.hypervisor.stop_vm(machine.facts, bench.note)
        with (
            pytest.raises(PveUnreachable, match="closed the connection"),
            open_display(profile_of(bench), vm.node, vm.vmid),
        ):
            pass


def test_spice_needs_qxl_and_tells_what_a_viewer_needs() -> None:
    with start_bench() as bench:
        plain = start(bench, bench.created())
        with pytest.raises(PveRefused, match="no SPICE: its display is std"):
            ask_spice(profile_of(bench), plain.node, plain.vmid, plain.config)
        with pytest.raises(PveRefused, match="no spice port"):
            bench.hypervisor.client.open_spice(plain.node, plain.vmid)
        desk = bench.created(bare(name="desk", display="qxl"))
        vm = start(bench, desk)
        told = ask_spice(profile_of(bench), vm.node, vm.vmid, vm.config)
        assert told["type"] == "spice" and told["proxy"] == f"http://{bench.lab.host}:3128"
        assert told["host"].startswith("pvespiceproxy:") and told["delete-this-file"] == "1"
        lines = viewer_text(told).splitlines()
        assert lines[0] == "[virt-viewer]" and len(lines) == len(told) + 1, "the certificate is one line"
        bench.hypervisor.stop_vm(desk.facts, bench.note)
        with pytest.raises(PveRefused, match="not running"):
            bench.hypervisor.client.open_spice(vm.node, vm.vmid)


def test_the_viewers_file_is_the_users_own(tmp_path: Path) -> None:
    file = tmp_path / "web.vv"
    os.umask(0o022)
    write_private(file, viewer_text({"password": "secret"}))
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="cannot be written"):
        write_private(tmp_path / "nowhere" / "web.vv", "")


class Stand:
    """A local port, served for as long as the test takes."""

    def __init__(self, open_it: Any) -> None:
        self.failures: list[DeployError] = []
        self._listening: AbstractContextManager[socket.socket] = listen(0)
        listener = self._listening.__enter__()
        self.port = listener.getsockname()[1]
        self.server = Server(listener, "own-word", open_it, self.failures.append)
        self.thread = threading.Thread(target=self.server.run)

    def __enter__(self) -> "Stand":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()
        self.thread.join(patience(10))
        self._listening.__exit__(None, None, None)
        assert not self.thread.is_alive()

    def view(self, password: str) -> socket.socket:
        """Log in as a viewer does."""
        viewer = socket.create_connection(("127.0.0.1", self.port), timeout=patience(10))
        try:
            log_in(LocalViewer(viewer), password, "the local port")
        except BaseException:
            viewer.close()
            raise
        return viewer


def test_a_viewer_gets_the_screen_through_the_local_port_again_and_again() -> None:
    with start_bench() as bench:
        vm = start(bench, bench.created())
        with Stand(lambda: open_display(profile_of(bench), vm.node, vm.vmid)) as stand:
            with pytest.raises(NotAuthenticated):
                stand.view("another")
            for _ in range(2):
                with stand.view("own-word") as viewer:
                    viewer.sendall(FIRST_WORD)
                    assert int.from_bytes(LocalViewer(viewer).read(24)[:2], "big") == 640
            assert stand.failures == []


def test_a_screen_that_went_away_is_said_and_the_port_stays() -> None:
    def broken() -> AbstractContextManager[RemoteDisplay]:
        raise PveUnreachable("the node is gone")

    with Stand(broken) as stand:
        for count in (1, 2):
            with stand.view("own-word") as viewer, suppress(OSError):
                assert viewer.recv(1) == b""
            assert len(stand.failures) == count


def test_a_password_is_turned_as_vnc_does() -> None:
    """Known from QEMU's and TigerVNC's own tests of DES: the bits of each byte of the key are turned round."""
    assert encrypt("", bytes(8)).hex() == "8ca64de9c1b123a7", "DES of zeros by a key of zeros"
    assert encrypt("COW", bytes(range(16))) == encrypt("COW\0\0\0\0\0more", bytes(range(16)))[:16]
    assert encrypt("12345678", bytes(16)) == encrypt("123456789", bytes(16)), "8 characters count"


def test_a_port_that_is_taken_is_told() -> None:
    with listen(0) as taken, pytest.raises(ConfigError, match="cannot be used"), listen(taken.getsockname()[1]):
        pass
