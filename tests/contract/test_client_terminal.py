"""A VM's serial terminal through the lab's API."""

import pytest

from nixops_proxmox.errors import PveRefused, PveUnreachable
from nixops_proxmox.model import Machine, Vm
from nixops_proxmox.pve.api.connection import open_transport
from nixops_proxmox.pve.api.terminal import Terminal, open_terminal
from nixops_proxmox.pve.wire.profiles import Profile, parse_profile
from tests.contract.client_bench import Bench, start_bench


def profile_of(bench: Bench, **changes: str) -> Profile:
    table = {"endpoint": bench.lab.url, "token": bench.lab.token, "fingerprint": bench.lab.fingerprint}
    return parse_profile("lab", table | changes)


def start(bench: Bench, machine: Machine, said: bytes = b"") -> Vm:
    bench.hypervisor.start_vm(machine.facts, bench.note)
    folder = bench.lab.cluster.vms[machine.facts.vmid].directory
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "serial.log").write_bytes(said)
    vm = bench.hypervisor.find_vm(machine.facts)
    assert vm is not None
    return vm


def read(terminal: Terminal, until: bytes) -> bytes:
    said = b""
    for _ in range(50):
        more = terminal.receive(0.2)
        assert more is not None, "the terminal was closed"
        said += more
        if until in said:
            return said
    raise AssertionError(f"only {said!r} was said")


def test_what_the_machine_says_is_heard() -> None:
    with start_bench() as bench:
        machine = bench.created()
        vm = start(bench, machine, b"Welcome \xff\r\nlogin: ")
        with open_terminal(profile_of(bench), vm.node, vm.vmid, vm.config) as terminal:
            terminal.resize(80, 24)
            terminal.send(b"root\n")
            terminal.keep_alive()
            assert read(terminal, b"login: ") == b"Welcome \xff\r\nlogin: "


def test_a_machine_without_a_serial_port_is_told() -> None:
    nobody = parse_profile("lab", {"endpoint": "127.0.0.1:1", "token": "a@pve!b=c"})
    with pytest.raises(PveRefused, match="has no serial port"), open_terminal(nobody, "pve1", 101, {}):
        pass


def test_nothing_is_sent_to_who_has_another_certificate() -> None:
    with start_bench() as bench:
        vm = start(bench, bench.created())
        wrong = open_transport(profile_of(bench, fingerprint="00" * 32))
        with pytest.raises(PveUnreachable, match="not the one in the profile"), wrong.open_stream():
            pass
        wrong.close()
        assert vm.vmid
