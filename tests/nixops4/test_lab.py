"""The provider's whole dialogue against the lab: a real process, spoken to as NixOps 4 does."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.nixops4.conftest import Build
from tests.nixops4.dialogue import Provider, create, state_event, state_read, update
from tests.pace import patience, wait_until

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns]

PROXMOX: dict[str, Any] = {
    "profile": "lab",
    "disks": [{"storage": "local-lvm", "size": "1G"}],
    "install": {"iso": "local:iso/lab-installer.iso"},
    "memory": 512,
    "network": [{"bridge": "vmbr0"}],
}
BIGGER = {**PROXMOX, "memory": 1024, "disks": [*PROXMOX["disks"], {"storage": "local-lvm", "size": "2G"}]}

Start = Callable[..., Provider]


def vm(proxmox: dict[str, Any] = PROXMOX, name: str = "web", **more: Any) -> dict[str, Any]:
    return {"name": name, "proxmox": proxmox, **more}


def cli(bed: "Bed", *arguments: str) -> "subprocess.CompletedProcess[str]":
    """In a folder without a network."""
    return subprocess.run(
        [sys.executable, "-m", "nixops_proxmox", *arguments],
        cwd=bed.home,
        env=bed.environment,
        capture_output=True,
        text=True,
        timeout=patience(120),
    )


def config(bed: "Bed") -> dict[str, Any]:
    """The configuration of the only VM."""
    ((_, machine),) = bed.vms().items()
    assert isinstance(machine["config"], dict)
    return machine["config"]


def running_system(bed: "Bed", name: str = "web") -> str:
    done = cli(bed, "--deployment", "nixops4", "ssh", name, "--", "readlink -f /run/current-system")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.nix
@pytest.mark.slow
def test_a_machine_from_nothing_to_another_system_on_more_hardware(
    bed: "Bed", provider: Provider, build_system: Build, tmp_path: Path
) -> None:
    first, second = build_system("1"), build_system("2")
    provider.ask_outputs(create("state", {"name": "prod"}, stateful=False))
    made = provider.ask_outputs(create("vm", vm()))
    assert made["sshHost"] in made["addresses"]
    assert made["vmid"] == int(next(iter(bed.vms())))
    assert not any(address.startswith(("fe80:", "127.")) for address in made["addresses"])

    value = {"type": "vm", "input_properties": vm(), "output_properties": made}
    added = {"op": "add", "path": "/resources/web", "value": value}
    assert provider.ask(state_event("prod", [added])) == {"stateResourceEventResponse": {}}
    state = provider.ask(state_read("prod"))["stateResourceReadResponse"]["state"]
    assert state["resources"] == {"web": value}

    grown = provider.ask_outputs(update("vm", vm(), made, vm(BIGGER)))
    assert (grown["uuid"], grown["vmid"]) == (made["uuid"], made["vmid"])
    assert str(config(bed)["memory"]) == "1024" and "size=2G" in config(bed)["scsi1"]

    secret = f"token-{uuid.uuid4().hex}"
    (tmp_path / "token").write_text(secret)
    keys = {"token": {"keyFile": str(tmp_path / "token"), "keyCommand": None}}
    nixos = {"name": "web", "vm": made["uuid"], "system": first, "keys": keys}
    installed = provider.ask_outputs(create("nixos", nixos))
    assert (installed["system"], installed["generation"]) == (first, 1)
    assert running_system(bed) == first

    switched = provider.ask_outputs(update("nixos", nixos, installed, {**nixos, "system": second}))
    assert (switched["system"], switched["generation"]) == (second, 2)
    assert running_system(bed) == second

    assert key_in(bed) == secret

    more = {**BIGGER, "memory": 2048}
    changed = provider.ask_outputs(update("vm", vm(BIGGER), grown, vm(more, allowReboot=True)))
    assert changed["sshHostKeys"] == [switched["sshHostKey"]]
    assert str(config(bed)["memory"]) == "2048"
    assert running_system(bed) == second, "the hardware's change leaves the system as it is"

    assert provider.ask_outputs(create("vm", vm(more))) == changed, "an answer was lost, and it is asked again"
    assert len(bed.tasks("qmcreate")) == 1
    assert key_in(bed) == secret, "a restart by the `vm` sends it again"
    assert provider.ask_outputs(update("nixos", nixos, installed, {**nixos, "system": second, "keys": {}}))
    assert key_in(bed) == "", "it is not described any more"
    assert provider.close() == 0
    told = [json.dumps([state, installed, switched, changed]), (bed.home / "provider.log").read_text()]
    kept = b"".join(path.read_bytes() for path in (bed.home / "state").rglob("state.sqlite*"))
    assert secret not in "".join(told) and secret.encode() not in kept


def key_in(bed: "Bed") -> str:
    done = cli(bed, "--deployment", "nixops4", "ssh", "web", "--", "cat /run/keys/token 2>/dev/null || true")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_create_again_makes_nothing_new(bed: "Bed", start: Start) -> None:
    made = start().ask_outputs(create("vm", vm()))
    assert start().ask_outputs(create("vm", vm())) == made
    assert len(bed.vms()) == len(bed.images()) == len(bed.tasks("qmcreate")) == 1


def test_several_machines_are_made_at_once_as_nixops_asks_for_them(bed: "Bed", start: Start) -> None:
    """NixOps 4 starts a process for each resource, all at the same time."""
    names = ["a", "b", "c"]
    providers = [start() for _ in names]
    for provider, name in zip(providers, names, strict=True):
        provider.send(create("vm", vm(name=name)))
    outputs = [provider.receive()["createResourceResponse"]["outputProperties"] for provider in providers]
    assert len({one["uuid"] for one in outputs}) == len(bed.vms()) == len(names)


def test_two_that_make_the_same_machine_at_once_do_not_make_two(bed: "Bed", start: Start) -> None:
    providers = [start(), start()]
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda provider: provider.ask(create("vm", vm())), providers))
    kinds = sorted(next(iter(answer)) for answer in answers)
    assert kinds in (["createResourceResponse"] * 2, ["createResourceResponse", "errorResponse"])
    for answer in answers:
        if "errorResponse" in answer:
            assert "'web' of deployment 'nixops4' is being changed by" in answer["errorResponse"]["message"]
    assert len(bed.vms()) == 1


def begin_until(bed: "Bed", provider: Provider, call: int) -> bool:
    """Ask for a VM and wait until the lab sits on its n-th call; False if it takes fewer calls."""
    bed.fault("slow", nth=call, seconds=60)
    provider.send(create("vm", vm()))
    deadline = time.monotonic() + patience(60)
    assert provider.process.stdout is not None
    os.set_blocking(provider.process.stdout.fileno(), False)
    while len(bed.calls()) < call:
        assert time.monotonic() < deadline, "neither an answer nor the call"
        if provider.process.stdout.peek():  # type: ignore[attr-defined]
            return False
        time.sleep(0.02)
    return True


def check_one(bed: "Bed", outputs: dict[str, Any]) -> None:
    ((vmid, machine),) = bed.vms().items()
    assert int(vmid) == outputs["vmid"] and machine["status"] == "running"
    assert f"uuid={outputs['uuid']}" in machine["config"]["smbios1"]
    assert len(bed.images()) == 1, "a disk was left behind"
    assert len(bed.tasks("qmcreate")) == 1, "a second VM was asked for"


@pytest.mark.slow
@pytest.mark.parametrize(
    "step", [pytest.param(1, marks=pytest.mark.weekly, id="every call"), pytest.param(4, id="some")]
)
def test_the_same_request_finds_what_a_killed_provider_made(bed: "Bed", start: Start, step: int) -> None:
    """At a call: it has happened, the answer never came, and NixOps knows nothing of it."""
    for call in range(1, 41, step):
        bed.reset()
        clear_state(bed)
        killed = start()
        if not begin_until(bed, killed, call):
            assert call > 6, "to make a VM takes more calls than that"
            return
        killed.process.send_signal(signal.SIGKILL)
        killed.process.wait()
        bed.forget_faults()
        following = start()
        check_one(bed, following.ask_outputs(create("vm", vm())))
        assert following.close() == 0
    raise AssertionError("this test does not expect so many calls")


@pytest.mark.parametrize("call", [3, 6])
def test_a_stopped_provider_lets_go_and_the_next_one_goes_on(bed: "Bed", start: Start, call: int) -> None:
    from nixops_proxmox.state import open_state

    stopped = start()
    assert begin_until(bed, stopped, call)
    stopped.process.send_signal(signal.SIGTERM)
    assert stopped.process.wait(patience(20)) == 128 + signal.SIGTERM  # the call that hangs is not waited for
    with open_state(str(bed.home / "state" / "nixops-proxmox" / "state.sqlite")) as state:
        assert state.deployment("nixops4").held() is None
    assert "Traceback" not in (bed.home / "provider.log").read_text()
    bed.forget_faults()
    check_one(bed, start().ask_outputs(create("vm", vm())))


def test_a_machine_that_was_destroyed_by_its_uuid_is_made_anew_only_by_create(bed: "Bed", provider: Provider) -> None:
    made = provider.ask_outputs(create("vm", vm()))
    done = cli(bed, "destroy", "--uuid", made["uuid"], "--yes")
    assert done.returncode == 0, done.stderr
    assert not bed.vms() and not bed.images()
    refused = provider.ask_error(update("vm", vm(), made, vm(BIGGER)))
    assert made["uuid"] in refused and "remove the resource from NixOps's state" in refused
    assert not bed.vms()
    assert provider.ask_outputs(create("vm", vm()))["uuid"] != made["uuid"]


def test_a_vm_that_is_gone_is_replaced_only_by_word(bed: "Bed", provider: Provider) -> None:
    made = provider.ask_outputs(create("vm", vm()))
    path = f"/nodes/{made['node']}/qemu/{made['vmid']}"
    bed.api("POST", f"{path}/status/stop")
    wait_until(lambda: bed.vms()[str(made["vmid"])]["status"] == "stopped")
    bed.api("DELETE", path)
    wait_until(lambda: not bed.vms())
    for request in (create("vm", vm()), update("vm", vm(), made, vm(BIGGER))):
        refused = provider.ask_error(request)
        assert f"its VM {made['vmid']} is gone" in refused
        assert f"nixops-proxmox destroy --uuid {made['uuid']}" in refused
    done = cli(bed, "destroy", "--uuid", made["uuid"], "--yes")
    assert done.returncode == 0, done.stderr
    assert provider.ask_outputs(create("vm", vm()))["uuid"] != made["uuid"]


def test_a_machine_that_somebody_works_on_is_left_alone_unless_the_lock_is_broken(bed: "Bed", start: Start) -> None:
    from nixops_proxmox.state import open_state

    database = str(bed.home / "state" / "nixops-proxmox" / "state.sqlite")
    with open_state(database) as state, state.deployment("nixops4").lease():
        refused = start().ask_error(create("vm", vm()))
        assert "NIXOPS_PROXMOX_BREAK_LOCK=1" in refused and "--break-lock" not in refused
        assert start(NIXOPS_PROXMOX_BREAK_LOCK="1").ask_outputs(create("vm", vm()))["vmid"]


@pytest.mark.nix
def test_an_installation_that_was_stopped_is_finished_by_the_next_request(
    bed: "Bed", start: Start, build_system: Build
) -> None:
    system = build_system("1")
    stopped = start()
    made = stopped.ask_outputs(create("vm", vm()))
    nixos = {"name": "web", "vm": made["uuid"], "system": system}
    log = bed.home / "provider.log"
    seen = log.stat().st_size
    stopped.send(create("nixos", nixos))
    wait_until(lambda: b"Install the system" in log.read_bytes()[seen:])
    stopped.process.send_signal(signal.SIGTERM)
    assert stopped.process.wait(patience(20)) == 128 + signal.SIGTERM
    assert start().ask_outputs(create("nixos", nixos))["system"] == system
    assert running_system(bed) == system
    check_one(bed, made)


@pytest.mark.nix
def test_a_reinstall_that_is_asked_for_ends_with_the_system_that_was_there(
    bed: "Bed", start: Start, build_system: Build
) -> None:
    """NixOps does not apply `nixos` again, since nothing of it has changed; stopped in the middle, `vm` still knows."""
    system, log = build_system("1"), bed.home / "provider.log"
    provider = start()
    made = provider.ask_outputs(create("vm", vm()))
    provider.ask_outputs(create("nixos", {"name": "web", "vm": made["uuid"], "system": system}))
    again = {**PROXMOX, "install": {**PROXMOX["install"], "generation": 1}}
    seen = log.stat().st_size
    provider.send(update("vm", vm(), made, vm(again)))
    wait_until(lambda: b"Partition the disks" in log.read_bytes()[seen:])
    provider.process.send_signal(signal.SIGTERM)
    assert provider.process.wait(patience(20)) == 128 + signal.SIGTERM

    following = start()
    assert following.ask_outputs(update("vm", vm(), made, vm(again)))["uuid"] == made["uuid"]
    assert running_system(bed) == system
    seen = log.stat().st_size
    following.ask_outputs(update("vm", vm(again), made, vm(again)))
    assert b"Partition" not in log.read_bytes()[seen:], "once is enough"


def test_a_uuid_that_nobody_has_is_an_error_and_nothing_is_destroyed(bed: "Bed", provider: Provider) -> None:
    provider.ask_outputs(create("vm", vm()))
    done = cli(bed, "destroy", "--uuid", "00000000-0000-4000-8000-000000000000", "--yes")
    assert done.returncode == 2
    assert "00000000-0000-4000-8000-000000000000" in done.stderr
    assert len(bed.vms()) == 1


def test_what_the_provider_makes_the_command_line_knows(bed: "Bed", provider: Provider) -> None:
    made = provider.ask_outputs(create("vm", vm()))
    status = cli(bed, "--deployment", "nixops4", "status", "--json")
    (machine,) = json.loads(status.stdout)["machines"]
    assert (machine["machine"], machine["phase"], machine["vmid"]) == ("web", "reachable", made["vmid"])


def clear_state(bed: "Bed") -> None:
    for left in (bed.home / "state" / "nixops-proxmox").glob("state.sqlite*"):
        left.unlink()
