"""The real guests' network: taps on segments, VLANs joined to their bridge, DHCP everywhere, isolated or not."""

import asyncio
import ipaddress
import json
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.lab import bridges
from nixops_proxmox.lab.bridges import Bridges
from nixops_proxmox.lab.machines.base import NicSlot
from nixops_proxmox.lab.network import LabNetwork, Privilege, find_privilege, subnet
from tests.pace import patience, turns

NET = NicSlot("net0", "virtio", "BC:24:11:00:00:01", "vmbr0")


async def logged(log: Path, text: str) -> None:
    async def has() -> bool:
        return text in log.read_text()

    await turns(has, what=f"{text} in {log.name}")


def test_taps_have_proxmoxs_own_names() -> None:
    assert bridges.tap_name(101, "net0") == "tap101i0"
    assert len(bridges.tap_name(999999999, "net31")) <= 15


def test_a_larger_mtu_reaches_the_tap() -> None:
    assert bridges.tap_lines("tap101i0", "vmbr0", 1400)[2] == "link set tap101i0 mtu 1400"


def test_a_vlans_segment_hangs_on_its_bridge() -> None:
    assert bridges.vlan_lines("vmbr0", 20) == [
        "link add link vmbr0 name vmbr0.20 type vlan id 20",
        "link set vmbr0.20 master vmbr0v20",
        "link set vmbr0.20 up",
    ]


def test_dhcp_leases_and_prefixes_are_the_segments(tmp_path: Path) -> None:
    argv = bridges.dnsmasq_argv("vmbr0", subnet("vmbr0"), tmp_path, router=True)
    assert [word for word in argv if word.startswith("--dhcp-range")] == [
        "--dhcp-range=10.77.0.50,10.77.0.250,255.255.255.0,3600",
        "--dhcp-range=fd77:77::,ra-stateless,64",
        "--dhcp-range=3ffe:77::,ra-stateless,64",
    ]
    assert "--ra-param=vmbr0,4" in argv


def test_a_segment_without_ipv4_leases_none(tmp_path: Path) -> None:
    argv = bridges.dnsmasq_argv("vmbr3", subnet("vmbr3"), tmp_path, router=True)
    assert not any("255.255.255.0" in word for word in argv)


def test_an_isolated_segment_is_told_of_no_router(tmp_path: Path) -> None:
    argv = bridges.dnsmasq_argv("uplink", subnet("vmbr1"), tmp_path, router=False)
    assert "--dhcp-option=option:router" in argv
    assert "--ra-param=uplink,4,0" in argv


def test_public_looking_prefixes_look_public() -> None:
    for bridge in ("vmbr0", "vmbr2", "vmbr3"):
        assert any(prefix[1].is_global for prefix in subnet(bridge).v6)
    assert ipaddress.IPv4Address("192.88.99.50").is_global


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Callable[[Bridges, LabNetwork], Awaitable[Any]]], Any]:
    if find_privilege() is Privilege.NONE or shutil.which("dnsmasq") is None:
        pytest.skip("needs a network namespace and dnsmasq")

    async def whole(scenario: Callable[[Bridges, LabNetwork], Awaitable[Any]]) -> Any:
        network = await LabNetwork.start()
        made = Bridges(network, tmp_path)
        try:
            return await asyncio.wait_for(scenario(made, network), patience(30))
        finally:
            await made.close()
            await network.close()

    return lambda scenario: asyncio.run(whole(scenario))


def links(network: LabNetwork) -> dict[str, dict[str, Any]]:
    shown = subprocess.run(network.enter_argv(["ip", "-j", "link"]), capture_output=True, check=True, text=True)
    return {link["ifname"]: link for link in json.loads(shown.stdout)}


@pytest.mark.netns
def test_a_nics_tap_is_on_its_segment_and_goes_away(play: Callable[..., Any]) -> None:
    async def scenario(made: Bridges, network: LabNetwork) -> None:
        plain = await made.attach(101, NET)
        tagged = await made.attach(102, NicSlot("net1", "virtio", "BC:24:11:00:00:02", "vmbr0", 20))
        seen = links(network)
        assert (seen[plain]["master"], seen[tagged]["master"]) == ("vmbr0", "vmbr0v20")
        assert not made.has_trunks or seen["vmbr0.20"]["master"] == "vmbr0v20"
        await made.move(plain, "vmbr2", 0)
        assert links(network)[plain]["master"] == "vmbr2"
        await made.detach(plain)
        await made.detach(plain)
        assert plain not in links(network)
        assert sorted(made.servers()) == ["vmbr0", "vmbr0v20", "vmbr2"]

    play(scenario)


@pytest.mark.netns
def test_a_tap_left_over_is_replaced(play: Callable[..., Any]) -> None:
    async def scenario(made: Bridges, network: LabNetwork) -> None:
        await made.attach(101, NET)
        assert await made.attach(101, NET) == "tap101i0"

    play(scenario)


@pytest.mark.netns
def test_on_an_isolated_segment_dhcp_runs_where_the_operator_is_not(play: Callable[..., Any], tmp_path: Path) -> None:
    async def scenario(made: Bridges, network: LabNetwork) -> None:
        await made.ensure("vmbr1")
        shown = subprocess.run(
            network.enter_argv(["ip", "-j", "address", "show", "vmbr1"]), capture_output=True, check=True
        )
        addresses = [address for address in json.loads(shown.stdout)[0]["addr_info"] if address["scope"] == "global"]
        assert addresses == []
        assert links(network)["dhcp0"]["master"] == "vmbr1"
        log = tmp_path / "vmbr1/dnsmasq.log"
        await logged(log, "10.77.1.50")
        assert list(made.servers()) == ["vmbr1"]

    play(scenario)


@pytest.mark.netns
def test_a_reservation_is_checked_and_read_by_the_server(play: Callable[..., Any], tmp_path: Path) -> None:
    async def scenario(made: Bridges, network: LabNetwork) -> None:
        await made.ensure("vmbr0")
        with pytest.raises(ValueError, match=r"10\.99\.0\.1 is not an address of vmbr0"):
            made.reserve("vmbr0", 0, NET.mac, "10.99.0.1")
        log = tmp_path / "vmbr0/dnsmasq.log"
        await logged(log, "10.77.0.50")
        made.reserve("vmbr0", 0, NET.mac, "10.77.0.9")
        await logged(log, "bc2411000001")

    play(scenario)
