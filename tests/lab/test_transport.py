"""HTTP as pveproxy speaks it: credentials, tickets, limits, connections, versions."""

import asyncio
import http.client
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from nixops_proxmox.lab.access import totp
from nixops_proxmox.lab.clock import SteppedClock
from nixops_proxmox.lab.latency import Latency
from nixops_proxmox.lab.machines.inert import InertDriver
from nixops_proxmox.lab.server import Lab
from nixops_proxmox.lab.testing import RunningLab, start_lab
from tests.lab.http import QEMU, Client
from tests.pace import patience


def login(lab: RunningLab, **more: str) -> dict[str, Any]:
    with Client(lab, {}) as client:
        session: dict[str, Any] = client.call(
            "POST", "/access/ticket", {"username": "root@pam", "password": lab.root_password, **more}
        ).data
    return session


def test_it_starts_quickly_with_a_certificate_that_its_ca_vouches_for() -> None:
    began = time.monotonic()
    with start_lab() as lab:
        assert time.monotonic() - began < patience(2)
        with Client(lab) as client:
            assert client.get("/version")["release"] == "8.4"
        pem = ssl.get_server_certificate((lab.host, lab.port))
        assert ssl.PEM_cert_to_DER_cert(pem)
        assert len(lab.fingerprint) == 95
        with pytest.raises(ssl.SSLCertVerificationError):
            http.client.HTTPSConnection(lab.host, lab.port, context=ssl.create_default_context()).request("GET", "/")


def test_the_message_is_in_the_reason_and_since_8_4_in_the_body() -> None:
    for version, has in (("7.4", False), ("8.4", True)):
        with start_lab(version=version) as lab, Client(lab) as client:
            answer = client.call("GET", f"{QEMU}/100/config")
            assert answer.reason == "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist"
            assert ("message" in answer.json) == has


def test_errors_close_the_connection_and_a_hundred_requests_do(lab: RunningLab, api: Client) -> None:
    assert api.call("GET", "/version").headers.get("Connection") != "close"
    assert api.call("GET", "/nope").headers["Connection"] == "close"
    closed = [api.call("GET", "/version").headers.get("Connection") == "close" for _ in range(100)]
    assert closed.index(True) == 99


def test_a_401_is_late() -> None:
    with (
        start_lab(latency=Latency(refused_login=0.3)) as lab,
        Client(lab, {"Authorization": "PVEAPIToken=a@pve!b=c"}) as client,
    ):
        began = time.monotonic()
        answer = client.call("GET", "/version")
        assert (answer.status, answer.body) == (401, b"")
        assert time.monotonic() - began >= 0.3


def test_a_ticket_lasts_two_hours_and_is_renewed_with_itself() -> None:
    clock = SteppedClock()
    with start_lab(clock=clock, latency=Latency(refused_login=0, statistics=0)) as lab:
        session = login(lab)
        clock.advance(7000)
        renewed = login(lab, password=session["ticket"])
        clock.advance(300)
        for ticket, status in ((session["ticket"], 401), (renewed["ticket"], 200)):
            with Client(lab, {"Cookie": f"PVEAuthCookie={ticket}"}) as client:
                assert client.call("GET", "/version").status == status


def test_the_second_factor_takes_two_steps(lab: RunningLab) -> None:
    secret = "JBSWY3DPEHPK3PXP"
    lab.cluster.access.users["root@pam"].totp = secret
    half = login(lab)
    assert half["NeedTFA"] == 1
    assert half["ticket"].startswith('PVE:!tfa!{"totp"%3Atrue}')
    with Client(lab, {"Cookie": f"PVEAuthCookie={half['ticket']}"}) as client:
        assert client.call("GET", "/version").status == 401
    code = totp(secret, lab.cluster.clock.time())
    whole = login(lab, **{"password": f"totp:{code}", "tfa-challenge": half["ticket"]})
    with Client(lab, {"Cookie": f"PVEAuthCookie={whole['ticket']}"}) as client:
        assert client.call("GET", "/version").status == 200
    assert "NeedTFA" not in login(lab, otp=f"totp:{code}")


def test_tokens_are_refused_at_the_login(api: Client, lab: RunningLab) -> None:
    answer = api.call("POST", "/access/ticket", {"username": "root@pam", "password": lab.root_password})
    assert answer.status == 403
    assert "not available with API token" in answer.reason


def test_what_pveproxy_does_not_read_is_a_501(api: Client, lab: RunningLab) -> None:
    assert api.send("GET", "/api2/json/version", b"x=1").reason == "Unexpected content for method 'GET'"
    assert api.send("PATCH", "/api2/json/version").reason == "method 'PATCH' not available"
    big = b"x=" + b"a" * (600 * 1024)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert api.send("POST", f"/api2/json{QEMU}", big, form).reason == "for data too large"
    chunked = {"Transfer-Encoding": "chunked", **form}
    assert (
        api.send("POST", f"/api2/json{QEMU}", b"5\r\nvmid=\r\n0\r\n\r\n", chunked).reason
        == "chunked transfer encoding not supported"
    )


def test_semicolons_separate_and_repeated_keys_are_lists(api: Client) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = api.send("POST", f"/api2/json{QEMU}", b"vmid=100;bogus=1&bogus=2", form)
    assert list(answer.json["errors"]) == ["bogus"]
    answer = api.send("POST", f"/api2/json{QEMU}", b"vmid=100&memory=1&memory=2", form)
    assert (
        answer.json["errors"]["memory"] == "type check ('string') failed - got 'ARRAY'"
        or "ARRAY" in answer.json["errors"]["memory"]
    )


def test_any_node_serves_any_path_but_a_lost_one_is_unreachable(lab: RunningLab, api: Client) -> None:
    assert api.call("GET", "/nodes/pve3/status").status == 200
    lab.cluster.nodes["pve3"].online = False
    answer = api.call("GET", "/nodes/pve3/status")
    assert (answer.status, answer.reason) == (595, "No route to host")
    assert {node["node"]: node["status"] for node in api.get("/nodes")}["pve3"] == "offline"


def test_every_node_can_have_an_api_of_its_own() -> None:
    with start_lab(every_node=True) as lab:
        assert list(lab.urls) == ["pve1", "pve2", "pve3"]
        with Client(lab, url=lab.urls["pve2"]) as client:
            assert [node["name"] for node in client.get("/cluster/status") if node.get("local")] == ["pve2"]
            lab.cluster.nodes["pve2"].online = False
            with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError, ssl.SSLError)):
                client.call("GET", "/version")


def test_it_serves_on_a_socket_that_somebody_else_has_bound(tmp_path: Path) -> None:
    async def serve() -> int:
        bound = socket.create_server(("127.0.0.1", 0))
        lab = Lab(tmp_path, InertDriver())
        await lab.start(sockets=[bound])
        try:
            context = ssl.create_default_context(cafile=str(lab.ca_file))
            async with aiohttp.ClientSession(headers={"Authorization": f"PVEAPIToken={lab.token}"}) as session:
                assert lab.url == f"https://127.0.0.1:{bound.getsockname()[1]}"
                async with session.get(f"{lab.url}/api2/json/version", ssl=context) as answer:
                    return answer.status
        finally:
            await lab.stop()

    assert asyncio.run(serve()) == 200
