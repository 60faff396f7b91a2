"""A lost record is made anew from the cluster, of which nothing is believed that anybody could have written there."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nixops_proxmox.errors import GuestError, StateError
from nixops_proxmox.guest.system import HOST_KEY, read_boot_id, read_host_key
from nixops_proxmox.model import Facts, Machine, Phase
from nixops_proxmox.operations.recovery import Recoverable
from nixops_proxmox.pve.vm.identity import Mark, notes_with_mark
from nixops_proxmox.state import open_state
from tests.contract.client_bench import start_bench
from tests.contract.machines import Deployment

HOSTILE = ["../../x", "a\nb", "\x1b[2Jweb", "-oProxyCommand=id", "", "web ", "a/b", "x" * 254, "\u202ebew", "web`"]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Deployment]:
    with start_bench(nodes=("pve1",)) as bench:
        yield Deployment(bench, tmp_path)


def look(made: Deployment) -> dict[int, Recoverable]:
    with made.opened() as deployed:
        return {one.vmid: one for one in deployed.recoverable(["default"])}


def write_notes(made: Deployment, machine: Machine, name: str) -> None:
    notes = notes_with_mark("", Mark(made.name, name, machine.facts.uuid))
    made.by_hand("PUT", f"/nodes/pve1/qemu/{machine.facts.vmid}/config", description=notes)


def test_two_vms_of_one_machine_are_refused_and_each_names_the_other(made: Deployment) -> None:
    one, two = made.make(recorded=False), made.make(recorded=False)
    found = look(made)
    for this, other in ((one, two), (two, one)):
        sighted = found[this.facts.vmid]
        assert sighted.machine is None
        assert f"VM {other.facts.vmid}" in sighted.problem and other.facts.uuid in sighted.problem
    made.by_hand("PUT", f"/nodes/pve1/qemu/{two.facts.vmid}/config", description="an old one")
    found = look(made)
    assert list(found) == [one.facts.vmid] and found[one.facts.vmid].machine is not None


def test_a_second_vm_of_a_recorded_machine_takes_nothing_from_it(made: Deployment) -> None:
    one, two = made.make(), made.make(recorded=False)
    found = look(made)
    assert found[one.facts.vmid].problem == "it is recorded already"
    assert str(one.facts.vmid) in found[two.facts.vmid].problem and found[two.facts.vmid].machine is None


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_hostile_name_is_not_believed(made: Deployment, name: str) -> None:
    machine = made.make(recorded=False)
    write_notes(made, machine, name)
    (sighted,) = look(made).values()
    assert sighted.machine is None and "no machine can be called" in sighted.problem
    assert sighted.problem.isprintable() and sighted.problem.isascii()


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_record_with_a_hostile_name_cannot_be_made(made: Deployment, name: str) -> None:
    machine = Machine(made.name, name, Phase.RUNNING, Facts(uuid="00000000-0000-4000-8000-000000000001", vmid=100))
    with pytest.raises(StateError, match="cannot be a machine's name"):
        made.record(machine)


def rename_record(made: Deployment, name: str) -> None:
    """As an older version recorded it."""
    from sqlalchemy import update

    from nixops_proxmox.state.schema import things

    with open_state(made.state) as state, state.engine.begin() as connection:
        connection.execute(update(things).values(name=name, phase="running"))


@pytest.mark.parametrize("name", [name for name in HOSTILE if name], ids=ascii)
def test_an_old_record_with_a_hostile_name_is_good_for_nothing_but_its_end(made: Deployment, name: str) -> None:
    machine = made.make()
    rename_record(made, name)
    with made.opened() as deployed:
        with pytest.raises(StateError, match="no machine can have that name") as refused:
            deployed.ssh_argv(name)
        assert f"destroy --uuid {machine.facts.uuid}" in refused.value.hint
        with pytest.raises(StateError):
            deployed.read_only(name)
        (started,) = deployed.start([name])
        assert isinstance(started.error, StateError)
        (destroyed,) = deployed.destroy([name])
    assert destroyed.error is None and made.bench.vmids == []
    with open_state(made.state) as state:
        assert state.deployment(made.name).names() == []


def test_what_an_agent_says_of_a_host_key_is_parsed() -> None:
    key = b"ssh-ed25519 " + b"A" * 68
    assert read_host_key(lambda _path: key + b" root@web\n") == key.decode()
    lies = (b"", b"@cert-authority * " + key, key + b"\nssh-ed25519 " + b"B" * 68, b"ssh-ed25519 *", b"\xff" * 90)
    for lie in lies:
        with pytest.raises(GuestError, match="does not hold an Ed25519 host key"):
            read_host_key({HOST_KEY: lie}.__getitem__)
    with pytest.raises(GuestError, match="boot"):
        read_boot_id(lambda _path: b"../../x")


def test_records_that_cannot_be_read_are_found_and_forgotten(made: Deployment) -> None:
    from sqlalchemy import text

    machine = made.make()
    made.record(replace(machine, name="db").moved(Phase.STOPPED, Facts(uuid="0" * 8 + machine.facts.uuid[8:])))
    with open_state(made.state) as state, state.engine.begin() as connection:
        facts = json.dumps({"uuid": machine.facts.uuid, "what": "ever"})
        connection.execute(text("update things set facts = :facts, phase = 'odd' where name = 'web'"), {"facts": facts})
        connection.execute(text("update things set facts = 'no json' where name = 'db'"))
    with open_state(made.state) as state:
        assert state.find_name(machine.facts.uuid) == (made.name, "web")
        record = state.deployment(made.name)
        assert record.names() == ["db", "web"]
        for name in record.names():
            record.forget(name)
        assert record.names() == []
