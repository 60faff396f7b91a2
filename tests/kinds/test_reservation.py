"""Reservations: which entries a router is to have, whose they are, and what is never touched."""

import pytest

from nixops_proxmox.core.kind import Presence
from nixops_proxmox.errors import SpecError, StateError
from nixops_proxmox.kinds.reservation.kind import foresee
from nixops_proxmox.kinds.resource import KnownNic
from nixops_proxmox.model import Machine, Phase
from nixops_proxmox.routers import Reservation
from nixops_proxmox.spec import parse_network
from nixops_proxmox.spec.reservations import ReservationsSpec
from tests.kinds.machine.cluster import Fuse
from tests.kinds.reservation_bench import ReservationBench


def test_an_entry_of_somebody_else_with_the_same_address_is_told_and_left_alone() -> None:
    bench = ReservationBench()
    bench.nics[0] = KnownNic("web", "net0", "02:00:00:00:00:01", "", ("10.9.0.99",))
    before = bench.shelf.read()
    with pytest.raises(
        StateError, match=r"the router lan has printer .* for somebody else, with the same IPv4 address"
    ):
        bench.run(Fuse(), wanted=True)
    assert bench.shelf.read() == before


def test_what_stands_in_the_way_of_one_machine_does_not_keep_another() -> None:
    bench = ReservationBench()
    bench.machines[1] = Machine("demo", "db", Phase.DEFINED)
    bench.nics[1] = KnownNic("db", "net0", "02:00:00:00:00:03", "", ("10.9.0.99",))
    with pytest.raises(StateError, match="somebody else"):
        bench.run(Fuse(), wanted=True, only="db")
    bench.run(Fuse(), wanted=True, only="web")
    assert ReservationBench.WEB in bench.shelf.acting
    with pytest.raises(StateError, match="somebody else"):
        bench.run(Fuse(), wanted=True)


def test_machines_of_ours_may_change_their_addresses_with_one_another() -> None:
    bench = ReservationBench()
    bench.machines[1] = Machine("demo", "db", Phase.READY)
    bench.run(Fuse(), wanted=True)
    web, db = bench.nics
    bench.nics = [
        KnownNic("web", "net0", web.mac, "", db.addresses),
        KnownNic("db", "net0", db.mac, "", web.addresses),
    ]
    bench.run(Fuse(), wanted=True)
    assert {one.owner: one.ipv4 for one in bench.shelf.acting if one.owner} == {
        "demo/web.net0": "10.9.0.25",
        "demo/db.net0": "10.9.0.23",
    }


def test_what_was_changed_by_hand_is_put_right() -> None:
    bench = ReservationBench()
    bench.run(Fuse(), wanted=True)
    bench.shelf.there[1] = Reservation("demo/web.net0", "02:00:00:00:00:01", "10.9.0.66", "", "web.lan")
    assert bench.run(Fuse(), wanted=True).phase is Presence.PRESENT
    bench.check(wanted=True)


def test_without_a_description_entries_stay_until_their_machine_is_gone() -> None:
    bench = ReservationBench()
    bench.run(Fuse(), wanted=True)
    bench.run(Fuse(), wanted=True, described=False)
    bench.check(wanted=True)
    bench.machines.clear()
    assert bench.run(Fuse(), wanted=True, described=False).phase is Presence.PRESENT
    bench.check(wanted=False)


def test_a_plan_says_what_is_reserved_for_a_new_machine() -> None:
    spec = ReservationsSpec(name="lan", networks=("inside",), domain="lan")
    nics = [
        KnownNic("web", "net0", "02:00:00:00:00:01", "", ("10.9.0.23", "fd00::23"), "inside"),
        KnownNic("web", "net1", "", "", ("10.9.0.24",), "inside"),
        KnownNic("web", "net2", "02:00:00:00:00:03", "", (), "inside"),
        KnownNic("web", "net3", "02:00:00:00:00:04", "", ("10.8.0.1",), "outside"),
    ]
    assert list(foresee(spec, "demo", nics)) == [
        "reserve 10.9.0.23 and fd00::23 for web.lan, 02:00:00:00:00:01 on the router lan",
        "reserve 10.9.0.24 for net1, whose MAC follows from its UUID on the router lan",
    ]


@pytest.mark.parametrize(
    ("reservations", "told"),
    [
        ({"lan": {"machines": ["mail"]}}, "resources.reservations.lan.machines: there is no machine mail"),
        ({"lan": {"networks": ["dmz"]}}, "there is no dmz in resources.networks"),
        (
            {"lan": {"machines": ["web"], "networks": ["inside"]}},
            "lan.machines: no NIC of web is on one of these networks",
        ),
        ({"lan": {}, "again": {"router": "lan"}}, "it is the same thing as"),
        ({"lan": {"profile": "default"}}, "resources.reservations.lan.profile"),
    ],
)
def test_what_does_not_fit_together_is_told(reservations: object, told: str) -> None:
    nic = {"bridge": "vmbr0"}
    machine = {"proxmox": {"network": [nic], "disks": [{"storage": "local", "size": "1G"}]}}
    resources = {"reservations": reservations, "networks": {"inside": {"bridge": "vmbr1"}}}
    with pytest.raises(SpecError) as caught:
        parse_network("demo", {"machines": {"web": machine}, "resources": resources})
    assert told in str(caught.value.message)
