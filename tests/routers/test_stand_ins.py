"""Drivers against the lab's stand-ins, which have the habits of VyOS and OPNsense that bite."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.core.kind import Presence
from nixops_proxmox.errors import RouterError, RouterOutcomeUnknown
from nixops_proxmox.lab.routers.opnsense import OpnsenseStandIn
from nixops_proxmox.lab.routers.vyos import VyosStandIn, mappings
from nixops_proxmox.routers import Reservation, Router, RouterProfile, open_router
from tests.kinds.machine.cluster import Fuse
from tests.kinds.reservation_bench import ReservationBench
from tests.routers.serving import serve

WEB = Reservation("campus/web.net0", "02:00:00:00:00:01", "10.9.0.23", "fd00:9::23", "web.lan")
DB = Reservation("campus/db.net0", "02:00:00:00:00:02", "10.9.0.24", "", "db.lan")
SWAPPED = [
    Reservation("campus/web.net0", WEB.mac, DB.ipv4, "", "web.lan"),
    Reservation("campus/db.net0", DB.mac, WEB.ipv4, "", "db.lan"),
]
VERSIONS = ["1.3", "1.4", "1.5"]
KEY = "a-key-of-the-API"


def configuration(version: str) -> dict[str, Any]:
    """Somebody's router, with a printer."""
    mac = "mac" if version == "1.5" else "mac-address"
    printer = {mac: "02:00:00:00:00:99", "ip-address": "10.9.0.99"}
    subnet = {"static-mapping": {"printer": printer}, **({"subnet-id": "1"} if version == "1.5" else {})}
    return {
        "interfaces": {"ethernet": {"eth1": {"address": "10.9.0.1/24"}}},
        "service": {
            "dhcp-server": {"shared-network-name": {"LAN": {"subnet": {"10.9.0.0/24": subnet}}}},
            "dhcpv6-server": {"shared-network-name": {"LAN": {"subnet": {"fd00:9::/64": {}}}}},
        },
        "system": {"host-name": "vyos"},
    }


@contextmanager
def vyos(stand_in: VyosStandIn, folder: Path, **settings: object) -> Iterator[Router]:
    with serve(stand_in.app, folder) as (url, fingerprint):
        profile = RouterProfile(
            "lan", "vyos", url, "", fingerprint, secret=stand_in.key, settings={"network": "LAN", **settings}
        )
        with open_router(profile) as router:
            yield router


def ours(router: Router) -> list[Reservation]:
    return sorted(one for one in router.read() if one.owner)


@pytest.mark.parametrize("version", VERSIONS)
def test_vyos_has_what_it_is_told_and_others_keep_theirs(version: str, tmp_path: Path) -> None:
    stand_in = VyosStandIn(version, KEY, configuration(version))
    before = stand_in.running
    with vyos(stand_in, tmp_path) as router:
        (printer,) = router.read()
        assert (printer.owner, printer.ipv4, printer.hostname) == ("", "10.9.0.99", "printer")
        router.put([WEB, DB])
        assert stand_in.commits == 1, "a list is one commit"
        assert all(router.agrees(have, want) for have, want in zip(ours(router), [DB, WEB], strict=True))
        assert bool(ours(router)[1].ipv6) == (version != "1.3")
        router.put([WEB, DB])
        assert stand_in.commits == 1, "what is there is not put again"
        router.put(SWAPPED)
        assert sorted(ours(router)) == sorted(SWAPPED)
        stand_in.reboot()
        assert ours(router) == [], "a commit is not saved"
        router.put([WEB])
        router.settle()
        stand_in.reboot()
        assert len(ours(router)) == 1
        router.drop([WEB])
        router.drop([WEB])
        router.settle()
    assert list(mappings(stand_in.running)) == list(mappings(before))
    assert stand_in.saved == before


def test_a_commit_that_ended_after_the_gateway_had_given_up_is_found(tmp_path: Path) -> None:
    stand_in = VyosStandIn("1.4", KEY, configuration("1.4"))
    stand_in.late = 1
    with vyos(stand_in, tmp_path) as router:
        with pytest.raises(RouterOutcomeUnknown, match="504"):
            router.put([WEB])
        router.put([WEB])
        assert stand_in.commits == 1 and ours(router) == [WEB]


def test_a_run_whose_answer_was_lost_goes_on_by_itself(tmp_path: Path) -> None:
    stand_in, bench = VyosStandIn("1.5", KEY, configuration("1.5")), ReservationBench()
    stand_in.late = 1
    with vyos(stand_in, tmp_path) as router:
        bench.router = router
        assert bench.run(Fuse(), wanted=True).phase is Presence.PRESENT
        stand_in.reboot()
        (web,) = ours(router)
        assert (web.title, stand_in.commits) == ("web.lan 02:00:00:00:00:01 10.9.0.23", 1)
        bench.run(Fuse(), wanted=False)
        assert ours(router) == []


def test_a_commit_that_failed_without_a_word_is_told(tmp_path: Path) -> None:
    stand_in = VyosStandIn("1.4", KEY, configuration("1.4"))
    stand_in.mute = 1
    with vyos(stand_in, tmp_path) as router, pytest.raises(RouterError, match="took the change, and does not have"):
        router.put([WEB])


def test_what_vyos_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    stand_in = VyosStandIn("1.5", KEY, configuration("1.5"))
    with vyos(stand_in, tmp_path) as router:
        twice = Reservation("campus/ci.net0", "02:00:00:00:00:03", "10.9.0.99", "", "ci")
        with pytest.raises(RouterError, match=r'static mapping "nixops-campus_2fci.net0" already exists'):
            router.put([twice])
        with pytest.raises(RouterError, match=r"has no subnet for 10.8.0.1 in the network LAN"):
            router.put([Reservation("campus/ci.net0", "02:00:00:00:00:03", "10.8.0.1", "", "ci")])
        stand_in.busy = True
        with pytest.raises(RouterError, match="temporarily locked"):
            router.put([WEB])
        stand_in.busy, stand_in.key = False, "another"
        with pytest.raises(RouterError, match="Valid API key is required") as caught:
            router.put([WEB])
    assert KEY not in f"{caught.value.message} {caught.value.hint}"


@contextmanager
def opnsense(
    stand_in: OpnsenseStandIn, folder: Path, service: str, secret: str = KEY, **more: object
) -> Iterator[Router]:
    settings = {"service": service, **more}
    with serve(stand_in.app, folder) as (url, fingerprint):
        profile = RouterProfile("lan", "opnsense", url, "", fingerprint, "nixops", secret, settings=settings)
        with open_router(profile) as router:
            yield router


def somebodys(release: str) -> OpnsenseStandIn:
    """More entries than one page has."""
    stand_in = OpnsenseStandIn(release, "nixops", KEY, ("10.9.0.0/24",), subnets6=("fd00:9::/64",))
    (subnet,) = stand_in.subnets
    for number in range(9):
        mac, address, name = f"02:00:00:00:01:{number:02x}", f"10.9.0.{100 + number}", f"printer{number}"
        row = {"subnet": subnet, "ip_address": address, "hw_address": mac, "hostname": name, "description": ""}
        stand_in.configured["reservation"][name] = row
        host = {"host": name, "domain": "lan", "ip": address, "hwaddr": mac, "client_id": "", "descr": "theirs"}
        stand_in.configured["host"][name] = host
    return stand_in


@pytest.mark.parametrize(("release", "service"), [("25.1", "kea"), ("26.7", "kea"), ("26.7", "dnsmasq")])
def test_opnsense_has_what_it_is_told_and_others_keep_theirs(release: str, service: str, tmp_path: Path) -> None:
    stand_in, what = somebodys(release), "host" if service == "dnsmasq" else "reservation"
    before = dict(stand_in.configured[what])
    with opnsense(stand_in, tmp_path, service) as router:
        assert len(router.read()) == 9 and ours(router) == []
        router.put([WEB, DB])
        assert all(router.agrees(have, want) for have, want in zip(ours(router), [DB, WEB], strict=True))
        assert stand_in.acting[what] == {}, "nothing acts yet"
        router.put(SWAPPED)
        router.settle()
        assert stand_in.acting[what] == stand_in.configured[what]
        assert {one.owner: one.ipv4 for one in ours(router)} == {one.owner: one.ipv4 for one in SWAPPED}
        router.drop(SWAPPED)
        router.drop(SWAPPED)
        stand_in.late = 1
        with pytest.raises(RouterOutcomeUnknown, match="504"):
            router.settle()
        router.settle()
    assert stand_in.acting[what] == stand_in.configured[what] == before


@pytest.mark.parametrize("release", ["26.1", "26.7"])
def test_opnsense_has_both_families_and_others_keep_theirs(release: str, tmp_path: Path) -> None:
    stand_in = somebodys(release)
    (subnet,) = stand_in.subnets6
    theirs = {"subnet": subnet, "ip_address": "fd00:9::99", "hw_address": "", "hostname": "printer", "description": ""}
    stand_in.configured["reservation6"] = {"theirs": {**theirs, "duid": "00:03:00:01:02"}}
    before = {what: dict(rows) for what, rows in stand_in.configured.items()}
    six = Reservation("campus/six.net0", "02:00:00:00:00:06", "", "fd00:9::6", "six")
    with opnsense(stand_in, tmp_path, "kea", ipv6=True) as router:
        assert len(router.read()) == 10 and ours(router) == []
        router.put([WEB, DB, six])
        router.put([WEB, six])
        assert all(router.agrees(have, want) for have, want in zip(ours(router), [DB, six, WEB], strict=True))
        router.settle()
        for what in ("reservation", "reservation6"):
            assert stand_in.acting[what] == stand_in.configured[what]
        swapped = [replace(WEB, ipv6=six.ipv6), replace(six, ipv6=WEB.ipv6)]
        router.put(swapped)
        assert {one.owner: one.ipv6 for one in ours(router) if one.ipv6} == {one.owner: one.ipv6 for one in swapped}
        router.put([replace(WEB, ipv6="")])
        assert len(stand_in.configured["reservation6"]) == 2, "an address that is no longer described goes"
        router.drop([WEB, DB, six])
    assert stand_in.configured == before


def test_an_opnsense_whose_dhcpv6_knows_no_macs_says_so(tmp_path: Path) -> None:
    with (
        opnsense(somebodys("25.7"), tmp_path, "kea", ipv6=True) as router,
        pytest.raises(RouterError, match="duid: A value is required") as caught,
    ):
        router.put([WEB])
    assert "since OPNsense 26.1" in caught.value.hint


@pytest.mark.parametrize(("service", "told"), [("kea", "ip_address: Duplicate entry"), ("dnsmasq", "ip: Duplicate IP")])
def test_a_refusal_with_status_200_is_a_refusal(service: str, told: str, tmp_path: Path) -> None:
    with opnsense(somebodys("26.7"), tmp_path, service) as router, pytest.raises(RouterError, match=told):
        router.put([Reservation("campus/ci.net0", "02:00:00:00:00:03", "10.9.0.104", "", "ci")])


def test_what_opnsense_does_not_know_or_allow_is_told(tmp_path: Path) -> None:
    with opnsense(somebodys("25.1"), tmp_path, "dnsmasq") as router, pytest.raises(RouterError, match="does not know"):
        router.read()
    with opnsense(somebodys("25.1"), tmp_path, "kea", "wrong-secret") as router:
        with pytest.raises(RouterError, match="401"):
            router.read()
        outside = Reservation("campus/ci.net0", "02:00:00:00:00:03", "10.8.0.1", "", "ci")
    with (
        opnsense(somebodys("25.1"), tmp_path, "kea") as router,
        pytest.raises(RouterError, match=r"no subnet for 10.8.0.1"),
    ):
        router.put([outside])
