"""MACs that follow from the description: schemes and lists."""

from typing import Any

import pytest

from nixops_proxmox.errors import SpecError
from nixops_proxmox.spec import NetworkSpec, parse_network
from tests.spec.build import DISK

SCHEME = {"prefix": "02:4d", "site": 1, "roles": {"web": 16, "db": 32}}


def parse(nics: dict[str, dict[str, Any]], scheme: dict[str, Any] | None = None, **resources: Any) -> NetworkSpec:
    machines = {
        name: {"proxmox": {"disks": [DISK], "network": [{"bridge": "vmbr0", **nic}]}} for name, nic in nics.items()
    }
    resources = {"macSchemes": {"mgmt": scheme or SCHEME}, **resources}
    return parse_network("demo", {"machines": machines, "resources": resources})


def refusal(*words: Any, **more: Any) -> str:
    with pytest.raises(SpecError) as caught:
        parse(*words, **more)
    return str(caught.value) + caught.value.hint


def test_a_static_address_without_one_of_its_own_is_for_nics_of_lists() -> None:
    static = {"ipv4": {"method": "static", "prefix": 24}}
    (web,) = parse({"web": {"pool": "campus", **static}}, macPools={"campus": {"file": "machines.yml"}}).machines
    assert web.network[0].ipv4.address is None
    told = refusal({"web": static})
    assert "network[0].ipv4: a static address needs its address" in told and "set pool" in told
    assert "needs its prefix" in refusal(
        {"web": {"pool": "campus", "ipv4": {"method": "static"}}}, macPools={"campus": {"file": "machines.yml"}}
    )


def test_a_number_stands_in_the_last_bytes() -> None:
    nics = {
        "web1": {"macScheme": "mgmt", "macRole": "web", "macNumber": 258},
        "db1": {"macScheme": "mgmt", "macRole": "db", "macNumber": 1},
    }
    assert [m.network[0].mac for m in parse(nics).machines] == ["02:4D:01:10:01:02", "02:4D:01:20:00:01"]


def test_without_a_number_it_follows_from_the_name_and_stays() -> None:
    first = parse({"web": {"macScheme": "mgmt", "macRole": "web"}, "api": {"macScheme": "mgmt", "macRole": "web"}})
    again = parse({"web": {"macScheme": "mgmt", "macRole": "web"}})
    assert again.machines[0].network[0].mac == first.machines[0].network[0].mac == "02:4D:01:10:0C:BF"
    assert first.machines[1].network[0].mac != first.machines[0].network[0].mac


@pytest.mark.parametrize(
    ("scheme", "told"),
    [
        ({"prefix": "03:4d"}, "begins multicast addresses"),
        ({"prefix": "00:4d"}, "not locally administered"),
        ({"prefix": "BC:24:11"}, "begin with BE"),
        ({"prefix": "02:00:00:00:00", "site": 1}, "leave no byte for a number"),
        ({"prefix": "02", "roles": {"web": 256}}, "expected a byte, 0 to 255, got 256"),
        ({"prefix": "2"}, "expected 1 to 5 bytes such as 02:4D"),
        ({"prefix": "02", "site": 256}, "resources.macSchemes.mgmt.site"),
    ],
)
def test_a_scheme_that_makes_bad_macs_is_refused(scheme: dict[str, Any], told: str) -> None:
    assert told in refusal({"web": {}}, scheme)


def test_a_registered_prefix_is_taken() -> None:
    nic = {"macScheme": "mgmt", "macNumber": 1}
    network = parse({"web": nic}, {"prefix": "BC:24:11", "registered": True})
    assert network.machines[0].network[0].mac == "BC:24:11:00:00:01"


@pytest.mark.parametrize(
    ("nic", "told"),
    [
        ({"macScheme": "mgtm"}, "there is no scheme mgtm in resources.macSchemes"),
        ({"macScheme": "mgmt"}, "wants macRole: one of web, db"),
        ({"macScheme": "mgmt", "macRole": "wbe"}, "has no role wbe"),
        ({"macScheme": "mgmt", "macRole": "web", "macNumber": 65536}, "room for numbers up to 65535"),
        ({"macNumber": 1}, "have no meaning without macScheme"),
        ({"macScheme": "mgmt", "macRole": "web", "mac": "02:00:00:00:00:01"}, "set only one"),
        ({"pool": "campus"}, "there is no pool campus in resources.macPools"),
    ],
)
def test_a_nic_that_says_too_much_or_too_little_is_refused(nic: dict[str, Any], told: str) -> None:
    text = refusal({"web": nic})
    assert told in text and "web.deployment.proxmox.network" in text


def test_two_machines_with_the_same_number_are_refused() -> None:
    nic = {"macScheme": "mgmt", "macRole": "web", "macNumber": 1}
    assert "has the MAC 02:4D:01:10:00:01 of" in refusal({"web": nic, "api": nic})


def test_a_list_is_named_by_its_path() -> None:
    network = parse({"web": {"pool": "campus"}}, macPools={"campus": {"file": "machines.yml"}})
    assert [(pool.name, pool.file) for pool in network.mac_pools] == [("campus", "machines.yml")]
    assert network.machines[0].network[0].mac is None


def test_the_machines_among_the_resources_are_no_mistake() -> None:
    assert parse({"web": {}}, machines=None).warnings == ()
