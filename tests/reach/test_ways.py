"""Behind another machine of ours: the way is the one that leads there, and its key is the one that we know."""

from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from nixops_proxmox.model import Endpoint, Facts, Machine, Phase
from nixops_proxmox.reach.candidates import Criteria, choose_candidates
from nixops_proxmox.reach.ways import Ways
from nixops_proxmox.spec import EndpointPolicy, MachineSpec
from nixops_proxmox.ssh.argv import jump_text, name_hops
from nixops_proxmox.ssh.keys import KeyStore
from nixops_proxmox.ssh.known_hosts import find_trusted
from tests.spec.build import machine

GATE = Endpoint("fd77::1", 22, "root")
CELLAR = Endpoint("10.0.0.5", 2222, "deploy", "root@[fd77::1]:22")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJj6CZoPEIpkjaBGEwXVVIGdpk2fC1wdVzs0rgjIFN0B"


class Record:
    name = "shop"

    def __init__(self, **endpoints: Endpoint | None) -> None:
        self._endpoints = endpoints

    def machines(self) -> list[Machine]:
        return [
            Machine("shop", name, Phase.READY, Facts(endpoint=endpoint, host_key=KEY))
            for name, endpoint in self._endpoints.items()
        ]

    def find_winner(self, machine: str, site: str) -> Endpoint | None:
        return None

    def remember_winner(self, machine: str, site: str, endpoint: Endpoint) -> None: ...


def ways(folder: Path, **endpoints: Endpoint | None) -> Ways:
    return Ways(Record(**endpoints), KeyStore(folder / "keys", "shop"), folder)


def behind(gate: str | None, **more: Any) -> MachineSpec:
    return machine(endpoint={"through": gate, **more} if gate else more)


def test_the_way_is_the_one_that_leads_to_the_gate(tmp_path: Path) -> None:
    known = ways(tmp_path, gate=GATE, cellar=CELLAR, new=None)
    assert known.filled(behind("gate")).endpoint.jump == "root@[fd77::1]:22"
    assert known.filled(behind("cellar")).endpoint.jump == "root@[fd77::1]:22,deploy@10.0.0.5:2222"
    for same in (behind("new"), behind("strange"), behind(None, jump="bastion")):
        assert known.filled(same) == same
    assert known.find(behind("new")) is None and known.find(behind("gate")) == GATE


def test_a_way_that_leads_through_nothing_reads_no_record(tmp_path: Path) -> None:
    """A fleet asks for each connection: a thousand machines would read a thousand records each."""

    class Unread(Record):
        @override
        def machines(self) -> list[Machine]:
            raise AssertionError("it was read")

    known = Ways(Unread(), KeyStore(tmp_path / "keys", "shop"), tmp_path)
    assert known.hops("") == () and known.find(behind(None)) is None
    assert known.filled(behind(None)) == behind(None)


def test_nothing_is_tried_while_the_gate_is_nowhere() -> None:
    nowhere = choose_candidates((), Criteria(EndpointPolicy(through="gate", address="10.0.0.9")))
    assert nowhere.candidates == () and "leads through gate" in nowhere.left_out[0].reason
    there = choose_candidates((), Criteria(EndpointPolicy(through="gate", jump="root@10.0.0.1", address="10.0.0.9")))
    assert [one.endpoint.jump for one in there.candidates] == ["root@10.0.0.1"]


def test_our_own_machines_prove_the_key_that_we_gave_them(tmp_path: Path) -> None:
    known = ways(tmp_path, gate=GATE, cellar=CELLAR)
    gate, cellar = known.hops(jump_text(CELLAR))
    for hop, alias in ((gate, "gate.shop"), (cellar, "cellar.shop")):
        trusted = find_trusted(hop.host, hop.port, hop.known_hosts, hop.alias)
        assert hop.alias == alias and trusted.keys == (KEY,)
        assert [key.exists() for key in hop.identities] == [True], "they are shown our own key"
    (stranger,) = known.hops("admin@bastion.invalid")
    assert (stranger.alias, stranger.known_hosts, stranger.identities) == ("", (), ())


@pytest.mark.parametrize(
    ("jump", "names"),
    [
        ("", []),
        ("root@[fd77::1]:22", ["gate"]),
        ("root@[fd77:0::1]", ["gate"]),
        ("root@[fd77::1]:22,deploy@10.0.0.5:2222", ["gate", "cellar"]),
        ("deploy@10.0.0.5:2222", [""]),  # the same address, and nobody knows whose
        ("bastion,deploy@10.0.0.5:2222", ["", ""]),  # behind another jump host, it is another machine
        ("jump@[fd77::1]:22", [""]),
        ("root@[fd77::1]:2222", [""]),
    ],
)
def test_a_jump_host_is_ours_by_its_address_and_the_way_to_it(jump: str, names: list[str]) -> None:
    odd = Endpoint("-oProxyCommand=x", 22, "root")
    assert [name for _, name in name_hops(jump, {"gate": GATE, "cellar": CELLAR, "odd": odd})] == names
