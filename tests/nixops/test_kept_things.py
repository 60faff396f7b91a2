"""Things in NixOps's state, seen without NixOps: their records, their journal, and what NixOps evaluated."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from nixops_proxmox.core.graph import Ref
from nixops_proxmox.core.kind import Known, Presence, Thing
from nixops_proxmox.errors import SpecError, StateError, StateTooNew
from nixops_proxmox.nixops2.described import Defined, find_states, read_network
from nixops_proxmox.nixops2.network import NixopsRecord
from nixops_proxmox.nixops2.things import KeptThingRecord, NixopsThings

POOL = Thing("pool", "0f0e", "front", Presence.PRESENT, Known({"spec": "{}"}))
PROXMOX = {
    "profile": "default",
    "disks": [{"storage": "local-lvm", "size": "1G"}],
    "install": {"iso": "local:iso/x.iso"},
    "network": [{"network": "lan"}],
    "firewall": {"rules": [{"macro": "SSH"}]},
}


class Attribute:
    """NixOps's attribute of the deployment."""

    def __init__(self, text: str = "") -> None:
        self.text = text

    def things(self, identity: str = "0f0e") -> NixopsThings:
        return NixopsThings(identity, lambda: self.text, self.write, lambda: 1.0)

    def write(self, text: str) -> None:
        self.text = text


def record_of(things: NixopsThings) -> NixopsRecord:
    return NixopsRecord("shop", {}, nullcontext, things=things)


def test_what_happens_to_a_thing_is_in_the_state_at_once_and_in_the_history() -> None:
    kept = Attribute()
    record = record_of(kept.things())
    journal = record.journal()
    attempt = journal.begin(POOL.moved(Presence.ABSENT, Known()), "Make it as described", "present")
    journal.note(attempt, POOL.moved(Presence.ABSENT, POOL.facts))
    killed = record_of(kept.things())
    (begun,) = killed.stored("pool")
    assert (begun.phase, begun.facts) == ("absent", {"values": {"spec": "{}"}}), "what shows that it is ours"
    journal.commit(attempt, POOL)
    (stored,) = record_of(kept.things()).stored("pool")
    assert (stored.name, stored.phase) == ("front", "present")
    assert [(entry.kind, entry.name) for entry in record.history("front")] == [("pool", "front")]
    record.forget("front", kind="pool")
    assert record_of(kept.things()).stored("pool") == []


def test_a_clone_of_the_deployment_has_things_of_its_own() -> None:
    kept = Attribute()
    record_of(kept.things()).journal().record(POOL, "made")
    assert record_of(kept.things("another")).stored("pool") == []
    assert len(record_of(kept.things()).stored("pool")) == 1


def test_a_record_that_cannot_be_read_is_told() -> None:
    with pytest.raises(StateTooNew, match="the thing's record is of version 9"):
        KeptThingRecord.from_json({"version": 9})
    with pytest.raises(StateError, match="the thing's record is damaged"):
        KeptThingRecord.from_json({"version": 1, "phase": "nowhere"})


def definitions(**more: Defined) -> dict[str, Any]:
    said = {"web": Defined("", PROXMOX), "lan": Defined("networks", {"profile": "default", "bridge": "vmbr0"}), **more}
    return {name: SimpleNamespace(said=one) for name, one in said.items()} | {"key": SimpleNamespace()}


def test_the_network_is_read_whole_as_on_the_command_line() -> None:
    network = read_network("0f0e", definitions())
    (web,) = network.machines
    assert (web.network[0].bridge, web.network[0].firewall, web.install.method) == ("vmbr0", True, "configuration")
    assert {(spec.kind, spec.name) for spec in network.resources} == {("network", "lan"), ("firewall", "web")}
    assert network.foreign == ("key",)
    with pytest.raises(SpecError, match=r"resources\.pools\.front\.colour"):
        read_network("0f0e", definitions(front=Defined("pools", {"colour": 1})))


def test_a_thing_and_a_machine_are_told_apart_among_nixops_resources() -> None:
    web = SimpleNamespace(name="web", get_type=lambda: "proxmox")
    pool = SimpleNamespace(name="front", kind="pool", get_type=lambda: "proxmox-pool")
    data = SimpleNamespace(name="data", get_type=lambda: "proxmox-volume")
    wanted = [Ref("machine", "web"), Ref("pool", "front"), Ref("network", "data")]
    assert list(find_states([web, pool, data], wanted)) == [web, pool]
