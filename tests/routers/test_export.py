"""Reservations as files: what each format says, and that servers which nobody here wrote take them."""

import json
import os
import shutil
import subprocess
from ipaddress import ip_network
from pathlib import Path

import pytest

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.operations.addressing import MacShown
from nixops_proxmox.operations.reservations import reservations_of
from nixops_proxmox.routers import Reservation, Surroundings, export
from tests.pace import patience

WEB = Reservation("campus/web.net0", "de:ad:be:ef:00:01", "10.9.0.23", "fd00:9::23", "web.example.com")
SIDE = Reservation("campus/web.net1", "de:ad:be:ef:00:02", "10.9.1.23", "", "web-net1")
AROUND = Surroundings([ip_network("10.9.0.0/24"), ip_network("10.9.1.0/24"), ip_network("fd00:9::/64")], "LAN")

EXPECTED = {
    "dnsmasq": "de:ad:be:ef:00:01,10.9.0.23,[fd00:9::23],web\nde:ad:be:ef:00:02,10.9.1.23,web-net1\n",
    "isc": (
        'host web { hardware ethernet de:ad:be:ef:00:01; fixed-address 10.9.0.23; option host-name "web"; }\n'
        "host web-v6 { hardware ethernet de:ad:be:ef:00:01; fixed-address6 fd00:9::23; }\n"
        'host web-net1 { hardware ethernet de:ad:be:ef:00:02; fixed-address 10.9.1.23; option host-name "web-net1"; }\n'
    ),
    "opnsense-csv": (
        "subnet,ip_address,hw_address,hostname,description\n"
        "10.9.0.0/24,10.9.0.23,de:ad:be:ef:00:01,web,nixops-proxmox:campus/web.net0\n"
        "10.9.1.0/24,10.9.1.23,de:ad:be:ef:00:02,web-net1,nixops-proxmox:campus/web.net1\n"
    ),
    "hosts": "10.9.0.23 web.example.com web\nfd00:9::23 web.example.com web\n10.9.1.23 web-net1.lan web-net1\n",
    "unbound": (
        "server:\n"
        '  local-data: "web.example.com. IN A 10.9.0.23"\n  local-data-ptr: "10.9.0.23 web.example.com"\n'
        '  local-data: "web.example.com. IN AAAA fd00:9::23"\n  local-data-ptr: "fd00:9::23 web.example.com"\n'
        '  local-data: "web-net1.lan. IN A 10.9.1.23"\n  local-data-ptr: "10.9.1.23 web-net1.lan"\n'
    ),
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_what_each_format_says(kind: str) -> None:
    around = Surroundings(AROUND.subnets, AROUND.network, domain="lan")
    assert export(kind, [SIDE, WEB], around) == EXPECTED[kind]


def test_keas_entries_say_whose_they_are() -> None:
    found = json.loads(export("kea", [WEB], AROUND))
    mark = {"nixops-proxmox": "campus/web.net0"}
    common = {"hw-address": WEB.mac, "hostname": "web.example.com", "user-context": mark}
    assert found == {
        "Dhcp4": {"reservations": [{**common, "ip-address": "10.9.0.23"}]},
        "Dhcp6": {"reservations": [{**common, "ip-addresses": ["fd00:9::23"]}]},
    }


@pytest.mark.parametrize(
    ("release", "leaf", "lines"), [("1.3", "mac-address", 4), ("1.4", "mac-address", 6), ("1.5", "mac", 6)]
)
def test_vyos_has_its_words_in_each_release(release: str, leaf: str, lines: int) -> None:
    text = export("vyos", [WEB, SIDE], Surroundings(AROUND.subnets, "LAN", release))
    place = "set service dhcp-server shared-network-name LAN subnet 10.9.0.0/24 static-mapping web"
    assert text.splitlines()[:2] == [f"{place} {leaf} de:ad:be:ef:00:01", f"{place} ip-address 10.9.0.23"]
    assert len(text.splitlines()) == lines and "static-mapping web-net1 " in text


@pytest.mark.parametrize(
    ("kind", "around", "told"),
    [
        ("opnsense-csv", Surroundings(), "needs the subnet of 10.9.0.23"),
        ("vyos", Surroundings(), "needs the name of the shared network"),
        ("vyos", Surroundings([], "LAN", "1.2"), "VyOS 1.2 is not known"),
    ],
)
def test_what_a_format_lacks_is_asked_for(kind: str, around: Surroundings, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        export(kind, [WEB], around)


def test_nics_without_a_mac_or_an_address_are_left_out_and_named() -> None:
    shown = [
        MacShown("web", "net0", "DE:AD:BE:EF:00:01", "pool campus", "pvm1.example.com", ("10.9.0.23",)),
        MacShown("web", "net1", "DE:AD:BE:EF:00:02", "described", "", ("fd00:9::24",)),
        MacShown("db", "net0", "", "the machine's UUID", "", ("10.9.0.5",)),
        MacShown("ci", "net0", "DE:AD:BE:EF:00:03", "described"),
    ]
    found, left = reservations_of("campus", shown)
    assert found == [
        Reservation("campus/web.net0", "de:ad:be:ef:00:01", "10.9.0.23", "", "pvm1.example.com"),
        Reservation("campus/web.net1", "de:ad:be:ef:00:02", "", "fd00:9::24", "web-net1"),
    ]
    assert left == [
        "db.net0: its MAC is not known, so it is left out",
        "ci.net0: its address is not known, so it is left out",
    ]


ASK_DNSMASQ = """\
set -eu
unshare --net sleep 60 & client=$!
trap 'kill $client 2>/dev/null; [ -z "${server:-}" ] || kill $server 2>/dev/null' EXIT
until [ "$(readlink /proc/$client/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
ip link set lo up
ip link add v0 type veth peer name v1 address de:ad:be:ef:00:01
ip link set v1 netns $client
ip addr add 10.9.0.1/24 dev v0; ip link set v0 up
nsenter -t $client -n ip link set v1 up
dnsmasq --no-daemon --conf-file=/dev/null --port=0 --interface=v0 --bind-interfaces --leasefile-ro --user=root \\
  --dhcp-authoritative --dhcp-range=10.9.0.100,10.9.0.200,1h --dhcp-hostsfile=hosts --pid-file= 2>log & server=$!
until grep -q 'dnsmasq-dhcp: read' log; do kill -0 $server; sleep 0.1; done
nsenter -t $client -n busybox udhcpc -i v1 -f -q -n -t 20 -T 1 -s ./script >/dev/null 2>&1
"""


@pytest.mark.netns
def test_a_real_dnsmasq_gives_a_real_client_the_reserved_address_and_name(tmp_path: Path) -> None:
    programs = ("dnsmasq", "busybox", "unshare", "nsenter", "ip")
    lacking = [name for name in programs if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
    if lacking or os.geteuid() != 0:
        pytest.skip(
            f"a real dnsmasq is not asked: {', '.join(lacking) + ' not installed' if lacking else 'needs root'}"
        )
    (tmp_path / "hosts").write_text(export("dnsmasq", [WEB, SIDE], AROUND))
    script = tmp_path / "script"
    script.write_text('#!/bin/sh\n[ "$1" != bound ] || echo "$ip $hostname" >given\n')
    script.chmod(0o755)
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    argv = ["unshare", "--net", "sh", "-c", ASK_DNSMASQ]
    done = subprocess.run(
        argv, cwd=tmp_path, env=environment, timeout=patience(60), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert done.returncode == 0, f"{done.stderr.decode()}\n{(tmp_path / 'log').read_text()}"
    assert (tmp_path / "given").read_text() == "10.9.0.23 web\n"
