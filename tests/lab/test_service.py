"""The lab in the background: comes up once, goes down whole, and a killed one leaves nothing that lives."""

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from nixops_proxmox.lab import service
from nixops_proxmox.lab.network import Privilege, find_privilege
from nixops_proxmox.lab.ports import listen
from nixops_proxmox.lab.processes import identity
from nixops_proxmox.lab.service import LabProcess, ServiceError, Settings
from nixops_proxmox.lab.starter import STARTERS, name_starter, watch_starters
from tests.pace import patience, wait_until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(find_privilege() is Privilege.NONE, reason="no network namespaces here"),
]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "lab"
    try:
        yield directory
    finally:
        service.down(directory)


def call(running: LabProcess, method: str, path: str, **fields: str) -> object:
    context = ssl.create_default_context(cafile=running.ca_file)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    data = "&".join(f"{key}={urllib.parse.quote(value)}" for key, value in fields.items()).encode() or None
    request = urllib.request.Request(f"{running.url}/api2/json{path}", data=data, method=method)
    request.add_header("Authorization", f"PVEAPIToken={running.token}")
    with opener.open(request, timeout=patience(10)) as answer:
        return json.loads(answer.read())["data"]


def start_guest(running: LabProcess) -> None:
    """A VM that boots the installer, up to its agent."""
    call(running, "POST", "/nodes/pve1/qemu", vmid="100", name="web", memory="512", agent="1",
         net0="virtio,bridge=vmbr0",
         scsi0="local-lvm:1", ide2=f"{running.iso},media=cdrom", boot="order=ide2")  # fmt: skip
    wait_until(lambda: "lock" not in str(call(running, "GET", "/nodes/pve1/qemu/100/config")), what="the VM")
    call(running, "POST", "/nodes/pve1/qemu/100/status/start")

    def answers() -> bool:
        try:
            call(running, "POST", "/nodes/pve1/qemu/100/agent/ping")
        except OSError:
            return False
        return True

    wait_until(answers, what="the agent")


def processes_of(directory: Path) -> list[int]:
    """Whatever has the lab's folder in its command line or is a child of such a process."""
    table = subprocess.run(["ps", "-eww", "-o", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [re.match(r"\s*(\d+)\s+(\d+)\s+(.*)", line) for line in table.splitlines()[1:]]
    tree = {int(row[1]): (int(row[2]), row[3]) for row in rows if row}
    found = {pid for pid, (_, argv) in tree.items() if str(directory) in argv and pid != os.getpid()}
    while more := {pid for pid, (parent, _) in tree.items() if parent in found} - found:
        found |= more
    return sorted(found)


def is_alive(pid: int) -> bool:
    return identity(pid) is not None


def test_it_comes_up_answers_on_both_sides_and_goes_down_whole(lab: Path) -> None:
    running = service.up(lab, Settings(port=0))
    assert service.find_running(lab) == running and service.answers(running)
    assert call(running, "GET", "/version")["version"].startswith("8.4")  # type: ignore[index]
    port = running.url.rpartition(":")[2]
    inside = subprocess.run(running.enter_argv(["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}"]), check=False)
    assert inside.returncode == 0, "the API answers inside of the lab's network too"
    start_guest(running)
    alive = processes_of(lab)
    assert len(alive) > 3
    assert service.down(lab)
    assert not [pid for pid in alive if is_alive(pid)]
    assert service.find_running(lab) is None and not service.answers(running, 0.2)
    assert not service.down(lab), "it was down already"


START = """
import sys, time
from pathlib import Path
from nixops_proxmox.lab import service
service.up(Path(sys.argv[1]), service.Settings(port=0))
print("up", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_lab_ends_with_what_started_it_however_that_ends(lab: Path, number: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name != STARTERS}
    starter = subprocess.Popen(["sleep", "600"])
    name_starter(environment, starter.pid)
    argv = [sys.executable, "-c", START, str(lab)]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None and command.stdout.readline() == "up\n"
        running = service.find_running(lab)
        assert running is not None
        start_guest(running)
        alive = [pid for pid in processes_of(lab) if pid != command.pid]
        assert len(alive) > 3
        command.kill()
    time.sleep(1.5)
    assert service.find_running(lab) == running, "the command was not named: a lab outlives it"
    starter.send_signal(number)
    starter.wait()
    wait_until(lambda: not [pid for pid in alive if is_alive(pid)], 30, "the end of the lab and its guests")
    assert service.find_running(lab) is None


def test_a_starter_that_has_ended_already_ends_the_lab_at_once_and_none_never_does() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    ended = threading.Event()
    assert watch_starters(f"{os.getpid()},{gone.pid}", ended.set) is not None
    assert ended.wait(patience(10))
    assert watch_starters("") is None


def test_up_twice_is_one_lab(lab: Path) -> None:
    first = service.up(lab, Settings(port=0, driver="inert"))
    assert service.up(lab, Settings(port=0, driver="inert")) == first


def test_a_killed_lab_takes_its_guests_along_and_the_next_one_starts(lab: Path) -> None:
    running = service.up(lab, Settings(port=0))
    start_guest(running)
    alive = processes_of(lab)
    os.kill(running.pid, signal.SIGKILL)
    wait_until(lambda: not [pid for pid in alive if is_alive(pid)], what="the end of everything that it held")
    assert service.find_running(lab) is None
    again = service.up(lab, Settings(port=0))
    assert again.pid != running.pid and again.token == running.token
    assert call(again, "GET", "/cluster/resources?type=vm") == []


def test_reset_empties_it_and_keeps_url_and_secrets(lab: Path) -> None:
    running = service.up(lab, Settings(port=0))
    start_guest(running)
    fresh = service.reset(lab)
    assert fresh is not None and (fresh.url, fresh.token, fresh.fingerprint) == (
        running.url,
        running.token,
        running.fingerprint,
    )
    assert fresh.urls == running.urls, "those of all nodes"
    assert call(fresh, "GET", "/cluster/resources?type=vm") == []
    assert not list(lab.rglob("vm-100-disk-*"))


def move(lab: Path, port: int) -> None:
    """As if the lab had served at this port."""
    told = json.loads((lab / service.RUNNING).read_text())
    (lab / service.RUNNING).write_text(json.dumps({**told, "url": f"https://127.0.0.1:{port}"}))


def test_reset_waits_for_a_port_that_somebody_else_has_for_a_moment(lab: Path) -> None:
    service.up(lab, Settings(port=0, driver="inert", nodes=("pve1",)))
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        move(lab, port)
        done = threading.Timer(service.PORT_SECONDS / 2, taken.close)
        done.start()
        fresh = service.reset(lab)
        done.join()
    assert fresh is not None and fresh.url == f"https://127.0.0.1:{port}"


def test_reset_names_the_port_that_it_does_not_get(lab: Path) -> None:
    service.up(lab, Settings(port=0, driver="inert", nodes=("pve1",)))
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        move(lab, port)
        began = time.monotonic()
        with pytest.raises(ServiceError, match=f"another program uses port {port} of 127.0.0.1: end it"):
            service.reset(lab)
        assert time.monotonic() - began > service.PORT_SECONDS


def test_a_port_that_is_taken_is_an_error_with_the_log(lab: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match="ended while it started") as caught:
            service.up(lab, Settings(port=port, nodes=("pve1",)))
    assert f"another program uses port {port} of 127.0.0.1" in str(caught.value)
    assert f"another program uses port {port}" in caught.value.log
    assert service.find_running(lab) is None and processes_of(lab) == []


def test_another_port_will_do_where_that_is_said(lab: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        running = service.up(lab, Settings(port=port, taken="other", driver="inert", nodes=("pve1",)))
    assert running.url != f"https://127.0.0.1:{port}"


def test_a_process_number_that_was_used_again_is_no_lab(lab: Path) -> None:
    running = service.up(lab, Settings(port=0, driver="inert"))
    told = json.loads((lab / service.RUNNING).read_text())
    assert service.down(lab)
    (lab / service.RUNNING).write_text(json.dumps({**told, "pid": os.getpid()}))
    assert service.find_running(lab) is None
    assert not service.down(lab), "and nobody is killed for it"
    assert running.pid != os.getpid()


def test_its_secrets_are_for_its_owner_alone(lab: Path) -> None:
    running = service.up(lab, Settings(port=0, driver="inert"))
    assert (lab / service.RUNNING).stat().st_mode & 0o077 == 0 and lab.stat().st_mode & 0o077 == 0
    secret = running.token.partition("=")[2]
    assert secret not in (lab / service.LOG).read_text()
    assert secret not in Path(f"/proc/{running.pid}/cmdline").read_text()
