"""The gateway's module, beside NixOS's own modules or the stand-in for them. A real sshd obeys what it says."""

import re
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from tests.nix.conftest import ROOT, Evaluate, Nixos
from tests.pace import patience
from tests.ssh.server import Sshd, start_sshd

pytestmark = pytest.mark.nix

OPTION = "services.nixops-proxmox.gateway"
REFUSED = {
    "noNic": ".inside.nic: deployment.proxmox.network has no net7",
    "noAddress": ".inside.nic: net1 needs a static address with its prefix",
    "noSix": ".ipv6.mode: net1 has no static IPv6 address",
    "unknownSite": '.web."www.example.org".to: no address is known of free nobody: ',
    "halfCertificate": '.web."www.example.org": a certificate needs its key',
    "storeKey": '.web."www.example.org".key: it is in the Nix store',
    "rootJumps": ".jump.user: root is a user who may do more than jump",
    "ownOptions": ".jump.keys: a key begins with its type",
    "noTables": " needs networking.nftables.enable",
}


@pytest.fixture(scope="module")
def told(evaluate: Evaluate, nixos: Nixos) -> dict[str, Any]:
    gateways: dict[str, Any] = evaluate(
        ROOT / "tests" / "nix" / "gateway.nix", {"nixpkgs": str(nixos.tree)}, search=nixos.search
    )
    return gateways


def places(gateway: dict[str, Any]) -> set[str]:
    (line,) = re.findall(r"PermitOpen (.*)", gateway["sshd"])
    return set(line.split())


def test_it_evaluates_or_is_refused_with_the_option_to_change(told: dict[str, Any]) -> None:
    for name, gateway in told.items():
        failed = gateway["failed"]
        assert len(failed) == (name in REFUSED), (name, failed)
        assert all(message.startswith(OPTION + REFUSED[name]) for message in failed), (name, failed)


def test_the_machines_behind_it_are_those_on_its_bridge(told: dict[str, Any]) -> None:
    machines = told["four"]["machines"]
    assert {name: one["ipv4"] for name, one in machines.items()} == {
        "web": "10.20.0.10", "app": "10.20.0.11", "ci": "10.20.0.12", "free": None
    }  # fmt: skip
    assert told["web"]["machines"]["old"] == {"ipv4": "10.20.0.99", "ipv6": None, "mac": None}, "and those one says"


def test_the_jump_user_may_go_to_the_inside_and_nowhere_else(told: dict[str, Any]) -> None:
    inside = {str(one) for one in ip_network("10.20.0.0/24").hosts()} - {"10.20.0.1"}
    four = {place.removesuffix(":22") for place in places(told["four"])}
    assert {place for place in four if re.fullmatch("[0-9.]+", place)} == inside
    assert {"web", "web.internal", "app", "[fd20::a]"} <= four and not any("free" in place for place in four)
    # A network that is too large to be listed: the machines, what DHCP gives, and what machines give themselves.
    assert places(told["both"]) == {
        *(f"10.20.{one}:22" for one in ("4.1", "4.2", "0.10", "0.11", "0.12")),
        *(f"[fd20::be24:11ff:fe00:{letter}]:22" for letter in "abc"),
        "[fd20::a]:22", "web:22", "app:22", "ci:22", "10.20.1.9:5432",
    }  # fmt: skip
    for gateway in (told["both"], told["six"]):
        literal = [place[1 : place.index("]")] for place in places(gateway) if place.startswith("[")]
        assert literal == [str(ip_address(text)) for text in literal], "sshd compares text: it must be the shortest"
    for gateway in (told["four"], told["six"], told["both"]):
        (user,) = gateway["user"].values()
        assert user["isSystemUser"] and not user["isNormalUser"]
        assert user["keys"] == ["restrict,port-forwarding ssh-ed25519 AAAA me"], "who deploys may jump as well"
    assert told["bare"]["user"] == {} and "Match User" not in told["bare"]["sshd"]


def test_the_kernel_keeps_the_jump_user_inside_as_well(told: dict[str, Any]) -> None:
    def rules(name: str) -> list[str]:
        table = told[name]["tables"]["nixops-proxmox-gateway"]
        assert table["family"] == "inet"
        return [line.strip() for line in table["content"].splitlines()]

    assert "ip daddr 10.20.0.0/24 accept" in rules("four") and rules("four")[-2] == "reject"
    assert {"ip daddr 10.20.0.0/20 accept", "ip6 daddr fd20::/64 accept"} <= {*rules("both")}
    assert rules("both")[-3:-1] == ["ip daddr 10.20.1.9 tcp dport 5432 accept", "reject"]
    assert "skuid" in told["four"]["precheck"], "NixOS checks the rules where there is no such user"


def test_the_inside_gets_out_as_is_said_and_nothing_gets_in_unasked(told: dict[str, Any]) -> None:
    nat = {name: told[name]["nat"] for name in ("four", "six", "both")}
    assert nat["four"] == {
        "enable": True, "enableIPv6": False, "internalIPs": ["10.20.0.0/24"], "internalIPv6s": []
    }  # fmt: skip
    assert (nat["six"]["enableIPv6"], nat["six"]["internalIPv6s"]) == (True, ["fd20::/64"])
    assert not nat["both"]["enable"], "routed, both families"
    forwarding = {name: told[name]["sysctl"] for name in nat}
    assert "net.ipv6.conf.all.forwarding" not in forwarding["four"]
    for name in ("four", "both"):
        assert forwarding[name]["net.ipv4.conf.all.forwarding"] is True, "stronger than NixOS's own default"
    for name in ("six", "both"):
        assert forwarding[name]["net.ipv6.conf.all.forwarding"] is True
        assert forwarding[name]["net.ipv6.conf.all.accept_ra"] == 2, "else it loses its own way out"
        assert 'iifname "inside" accept' in told[name]["forward"]["extraForwardRules"]
    assert all(told[name]["forward"]["filterForward"] for name in nat)


def test_the_inside_is_found_by_its_mac_or_by_its_place(told: dict[str, Any]) -> None:
    matches = {name: told[name]["links"]["10-gateway-inside"]["matchConfig"] for name in ("four", "six")}
    assert matches == {"four": {"Path": "*pci-*:13.0"}, "six": {"PermanentMACAddress": "bc:24:11:00:00:01"}}


def test_dhcp_and_names_follow_the_machines(told: dict[str, Any]) -> None:
    four, six, both = (told[name]["dnsmasq"] for name in ("four", "six", "both"))
    assert four["dhcp-host"] == ["BC:24:11:00:00:0A,10.20.0.11,app", "BC:24:11:00:00:0B,10.20.0.12,ci"]
    assert "web,web.internal,10.20.0.10,fd20::a" in four["host-record"]
    assert (four["dhcp-range"], four["enable-ra"]) == (["10.20.0.100,10.20.0.199,1h"], False)
    assert (six["dhcp-range"], six["enable-ra"]) == (["fd20::,ra-stateless,ra-names,64"], True)
    assert both["dhcp-range"][0] == "10.20.4.1,10.20.4.2,1h" and both["no-resolv"] and "domain" not in both
    assert told["bare"]["dnsmasq"] is None and told["bare"]["open"]["inside"] == {}
    assert told["four"]["open"]["inside"]["inside"]["allowedUDPPorts"] == [53, 67, 547]


def test_sites_follow_the_machines(told: dict[str, Any]) -> None:
    sites = told["web"]["sites"]
    assert {name: one["locations"]["/"] for name, one in sites.items()} == {
        "www.example.org": "http://10.20.0.10:80",
        "app.example.org": "http://gateway-app-example-org",
        "key.example.org": "https://10.20.0.77:443",
        "_": "http://10.20.0.99:80",
    }
    assert told["web"]["upstreams"] == {"gateway-app-example-org": ["10.20.0.11:8080", "10.20.0.12:8080"]}
    assert sites["www.example.org"]["enableACME"] and sites["key.example.org"]["forceSSL"] and sites["_"]["default"]
    ports = {name: sorted(told[name]["open"]["allowedTCPPorts"]) for name in ("web", "four")}
    assert ports == {"web": [22, 80, 443], "four": [22]}


# ---- by a real sshd ----


class _Inside(socketserver.BaseRequestHandler):
    @override
    def handle(self) -> None:
        self.request.sendall(b"inside\n")


@contextmanager
def start_listener(host: str) -> Iterator[int]:
    with socketserver.TCPServer((host, 0), _Inside) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


HERE, THERE = "127.77.0.5", "127.99.0.5"  # an address of the inside, and one of somewhere else


@pytest.fixture(scope="module")
def block(evaluate: Evaluate) -> str:
    """What the module tells sshd of an inside 127.77.0.0/28, about the user who runs this."""
    nixos = {"nixpkgs": str(ROOT / "tests" / "nixops" / "nixpkgs")}
    search = [f"nixpkgs-lib={ROOT / 'tests' / 'nixlib'}"]
    text: str = evaluate(ROOT / "tests" / "nix" / "gateway.nix", nixos, attribute="loopback.sshd", search=search)
    refuse = shutil.which("nologin") or "/usr/sbin/nologin"
    return text.replace("User jump", f"User {getuser()}").replace("/run/current-system/sw/bin/nologin", refuse)


@pytest.fixture(params=["block", "key"])
def server(request: pytest.FixtureRequest, tmp_path: Path, block: str) -> Iterator[tuple[Sshd, int, int, bool]]:
    """An sshd with the block, or one that has only what is said with the key; a port inside, and one elsewhere."""
    whole = request.param == "block"
    with start_listener(HERE) as inside, start_listener(THERE) as outside:
        extra = block.replace(":22", f":{inside}") if whole else ""
        with start_sshd(tmp_path, extra=extra) as server:
            if not whole:
                (tmp_path / "authorized").write_text(f"restrict,port-forwarding {server.client.public}\n")
            yield server, inside, outside, whole


def ssh(server: Sshd, *words: str) -> "subprocess.CompletedProcess[str]":
    key = server.directory / "client_key"
    key.write_text(server.client.private)
    key.chmod(0o600)
    options = ["-F", "none", "-i", str(key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    argv = ["ssh", *options, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-p", str(server.port), *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=patience(30), stdin=subprocess.DEVNULL)


def test_a_real_sshd_forwards_to_the_inside_and_refuses_all_else(server: tuple[Sshd, int, int, bool]) -> None:
    gate, inside, outside, whole = server
    assert ssh(gate, "-W", f"{HERE}:{inside}", "127.0.0.1").stdout == "inside\n"

    terminal = ssh(gate, "-tt", "127.0.0.1", "echo", "in")
    assert "PTY allocation request failed" in terminal.stderr
    if not whole:
        return  # what a key can say ends here
    remote = ssh(gate, "-N", "-o", "ExitOnForwardFailure=yes", "-R", f"{inside + 1}:{HERE}:{inside}", "127.0.0.1")
    assert "remote port forwarding failed" in remote.stderr
    for words in (["echo", "in"], [], ["-s", "sftp"]):
        flags = words[:1] if words[:1] == ["-s"] else []
        refused = ssh(gate, *flags, "127.0.0.1", *words[len(flags) :])
        assert refused.returncode != 0 and refused.stdout.strip() != "in", words
        assert "not available" in refused.stdout, words
    for place in (f"{THERE}:{outside}", f"127.0.0.1:{gate.port}", f"{HERE}:{gate.port}", f"localhost:{inside}"):
        refused = ssh(gate, "-W", place, "127.0.0.1")
        assert refused.stdout == "" and "administratively prohibited" in refused.stderr, place
