"""What goes over the wire, what comes back, and what happens when it does not."""

import base64
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from nixops_proxmox.errors import (
    BadParameter,
    ConfigError,
    Locked,
    NotAuthenticated,
    PermissionDenied,
    PveBusy,
    PveError,
    PveOutcomeUnknown,
    PveRefused,
    PveUnreachable,
)
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.wire.calls import Call, HttpMethod, Timeouts
from nixops_proxmox.pve.wire.login import totp_code
from nixops_proxmox.pve.wire.transport import LARGEST_ANSWER
from tests.pace import patience
from tests.ports import free_port
from tests.pve.clients import TOKEN, Clients
from tests.pve.stub import Asked, Certificates, Reply, Stub, data, make_certificates, refuse, start_stub

UPID = "UPID:pve1:0001C2A9:00A3F1E0:6750A1C0:qmcreate:101:deploy@pve!ops:"
VERSION = {"version": "9.0.3", "release": "9.0", "repoid": "x"}


def test_a_token_goes_along_with_every_call(stub: Stub, client: PveClient) -> None:
    stub.answer = lambda _: data(VERSION)
    assert str(client.get_version()) == "9.0"
    assert stub.asked[0].headers["Authorization"] == f"PVEAPIToken={TOKEN}"
    assert "CSRFPreventionToken" not in stub.asked[0].headers


def test_booleans_go_as_1_and_0_and_lists_as_repeated_keys(stub: Stub, client: PveClient) -> None:
    stub.answer = lambda _: data(UPID)
    client.create_vm("pve1", {"vmid": 101, "onboot": True, "numa": False, "pool": None, "cpulimit": 2.0})
    assert stub.asked[0].params == {"vmid": ["101"], "onboot": ["1"], "numa": ["0"], "cpulimit": ["2"]}
    stub.answer = lambda _: data({"pid": 7})
    assert client.agent_exec("pve1", 101, ["/bin/sh", "-c", "echo hello; echo you"]) == 7
    assert stub.asked[1].params["command"] == ["/bin/sh", "-c", "echo hello; echo you"]


def test_parameters_of_delete_go_into_the_query(stub: Stub, client: PveClient) -> None:
    stub.answer = lambda _: data(UPID)
    client.delete_vm("pve1", 101)
    assert stub.asked[0].params == {"purge": ["1"], "destroy-unreferenced-disks": ["1"]}
    assert stub.asked[0].body == b""


def test_path_segments_are_quoted_and_none_can_climb(stub: Stub, client: PveClient) -> None:
    stub.answer = lambda _: data(UPID)
    client.delete_volume("pve1", "local:iso/x y#1?.iso")
    assert stub.asked[0].path == "/nodes/pve1/storage/local/content/local:iso/x y#1?.iso"
    for node in ("..", "", "a/b", "."):
        with pytest.raises(BadParameter):
            client.start_vm(node, 101)
    with pytest.raises(BadParameter):
        client.delete_volume("pve1", "local:iso/../../x")
    assert len(stub.asked) == 1


def test_a_refusal_has_the_whole_text_where_pve_tells_it(stub: Stub, client: PveClient) -> None:
    stub.answer = lambda _: refuse(500, "first line", full="first line\nsecond line\n")
    with pytest.raises(PveRefused, match="first line\nsecond line"):
        client.get_version()


def test_a_refusal_falls_back_to_the_reason_phrase(stub: Stub, client: PveClient) -> None:
    stub.answer = lambda _: refuse(403, "Permission check failed (/vms/101, VM.PowerMgmt)")
    with pytest.raises(PermissionDenied) as caught:
        client.start_vm("pve1", 101)
    assert (caught.value.path, caught.value.privileges) == ("/vms/101", ("VM.PowerMgmt",))


def test_a_reason_phrase_is_read_as_utf8(stub: Stub, client: PveClient) -> None:
    stub.answer = lambda _: refuse(500, "größe".encode().decode("latin-1"))
    with pytest.raises(PveRefused, match="größe"):
        client.get_version()


def test_a_bad_parameter_is_named(stub: Stub, client: PveClient) -> None:
    errors = {"cores": "type check ('integer') failed - got 'x'"}
    stub.answer = lambda _: refuse(400, "Parameter verification failed.", errors=errors)
    with pytest.raises(BadParameter, match=r"cores: type check") as caught:
        client.create_vm("pve1", {"cores": "x"})
    assert caught.value.errors == errors


def test_another_fingerprint_stops_before_the_password_is_sent(stub: Stub, clients: Clients) -> None:
    client = clients(stub, fingerprint="ab" * 32, token=None, username="root@pam", password="secret")
    with pytest.raises(ConfigError, match="fingerprint"):
        client.get_version()
    assert stub.asked == []


def test_another_ca_stops_before_the_token_is_sent(stub: Stub, clients: Clients, tmp_path: Path) -> None:
    other = make_certificates(tmp_path)
    for settings in ({"ca_file": str(other.ca_file)}, {}):
        client = clients(stub, fingerprint=None, **settings)
        with pytest.raises(ConfigError, match="not trusted"):
            client.get_version()
    assert stub.asked == []


def test_a_ca_without_key_usage_is_good_enough(stub: Stub, clients: Clients) -> None:
    stub.answer = lambda _: data(VERSION)
    client = clients(stub, fingerprint=None, ca_file=str(stub.certificates.ca_file))
    assert client.get_version().major == 9


def test_a_ca_file_and_a_fingerprint_must_both_fit(stub: Stub, clients: Clients) -> None:
    client = clients(stub, fingerprint="ab" * 32, ca_file=str(stub.certificates.ca_file))
    with pytest.raises(ConfigError, match="fingerprint"):
        client.get_version()


def test_a_ca_file_must_be_one(stub: Stub, clients: Clients, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        clients(stub, fingerprint=None, ca_file=str(tmp_path / "none.pem"))
    (tmp_path / "bad.pem").write_text("hello")
    with pytest.raises(ConfigError, match="cannot be used"):
        clients(stub, fingerprint=None, ca_file=str(tmp_path / "bad.pem"))


def test_ipv6_endpoints_work(certificates: Certificates, clients: Clients) -> None:
    with start_stub(certificates, "::1") as stub:
        stub.answer = lambda _: data(VERSION)
        for endpoint in (f"[::1]:{stub.port}", f"https://[::1]:{stub.port}/api2/json/"):
            client = clients(stub, endpoints=[endpoint], fingerprint=None, ca_file=str(certificates.ca_file))
            assert client.get_version().major == 9
        assert stub.asked[0].headers["Host"] == f"[::1]:{stub.port}"


def test_a_get_is_repeated_when_its_answer_is_lost(stub: Stub, client: PveClient, clients: Clients) -> None:
    replies = [Reply(hang_up=True), Reply(596, "Connection timed out", b""), data(VERSION)]
    stub.answer = lambda _: replies.pop(0)
    assert client.get_version().major == 9
    assert len(stub.asked) == 3
    assert len(clients.slept) == 2


def test_a_get_without_answer_ends_as_unreachable(stub: Stub, client: PveClient) -> None:
    stub.answer = lambda _: Reply(hang_up=True)
    with pytest.raises(PveUnreachable):
        client.get_version()
    assert len(stub.asked) == 4


@pytest.mark.parametrize(
    "reply",
    [
        Reply(hang_up=True),
        Reply(596, "Connection timed out", b""),
        Reply(599, "Too many redirections", b""),
        Reply(body=b'{"data":"UPID:p', cut=10),
        Reply(body=b"<html>", headers={"Content-Type": "text/html"}),
        Reply(504, "Gateway Timeout", b"<html>"),
    ],
)
def test_a_post_whose_answer_is_lost_is_never_repeated(stub: Stub, client: PveClient, reply: Reply) -> None:
    stub.answer = lambda _: reply
    with pytest.raises(PveOutcomeUnknown):
        client.start_vm("pve1", 101)
    assert len(stub.asked) == 1


def test_a_post_that_could_not_leave_is_repeated_elsewhere(
    certificates: Certificates, stub: Stub, clients: Clients
) -> None:
    stub.answer = lambda _: data(UPID)
    dead = f"https://127.0.0.1:{free_port()}"
    client = clients(stub, endpoints=[dead, stub.url])
    assert client.start_vm("pve1", 101) == UPID
    assert client.start_vm("pve1", 101) == UPID
    assert [done.server for done in clients.traced].count(dead.removeprefix("https://")) == 1  # then left alone


def test_a_node_that_is_not_reached_by_its_neighbour_is_tried_by_another(
    certificates: Certificates, stub: Stub, clients: Clients
) -> None:
    with start_stub(certificates) as second:
        stub.answer = lambda _: Reply(595, "No route to host", b"")
        second.answer = lambda _: data(UPID)
        assert clients(stub, second).start_vm("pve2", 101) == UPID


def test_no_endpoint_at_all_names_them(clients: Clients, stub: Stub) -> None:
    dead = [f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"]
    with pytest.raises(PveUnreachable) as caught:
        clients(stub, endpoints=dead).get_version()
    assert all(name in str(caught.value) for name in dead)


def test_a_lost_answer_is_no_reason_to_ask_another_endpoint(
    certificates: Certificates, stub: Stub, clients: Clients
) -> None:
    with start_stub(certificates) as second:
        stub.answer = lambda _: Reply(hang_up=True)
        second.answer = lambda _: data(UPID)
        with pytest.raises(PveOutcomeUnknown):
            clients(stub, second).start_vm("pve1", 101)
        assert second.asked == []


def test_a_read_whose_answer_is_lost_is_asked_of_another_endpoint(
    certificates: Certificates, stub: Stub, clients: Clients
) -> None:
    with start_stub(certificates) as second:
        stub.answer = lambda _: Reply(hang_up=True)
        second.answer = lambda _: data(VERSION)
        client = clients(stub, second)
        assert client.get_version().major == 9 and client.get_version().major == 9
        assert len(stub.asked) == 1, "the one that answered is asked first from now on"


def test_idle_connections_are_not_trusted(stub: Stub, client: PveClient, clients: Clients) -> None:
    stub.answer = lambda _: data(VERSION)
    clients.idle = 0.0
    for asker in (client, clients(stub)):
        asker.get_version()
        asker.get_version()
    first, second, third, fourth = (asked.connection for asked in stub.asked)
    assert first == second
    assert third != fourth


def test_no_redirect_is_followed(stub: Stub, client: PveClient) -> None:
    stub.answer = lambda _: Reply(301, "Moved", b"", {"Location": "https://elsewhere.example/"})
    with pytest.raises(ConfigError, match=r"elsewhere\.example"):
        client.get_version()
    assert len(stub.asked) == 1


def test_cookies_of_load_balancers_are_not_kept(stub: Stub, client: PveClient) -> None:
    stub.answer = lambda _: Reply(body=b'{"data":{"version":"9.0.3"}}', headers={"Set-Cookie": "sticky=1; Path=/"})
    client.get_version()
    client.get_version()
    assert "Cookie" not in stub.asked[1].headers


def test_the_environment_says_nothing_about_proxies_or_credentials(
    stub: Stub, client: PveClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stub.answer = lambda _: data(VERSION)
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    client.get_version()
    assert stub.asked[0].headers["Authorization"].startswith("PVEAPIToken=")


def test_no_parameter_is_ever_logged(
    stub: Stub, client: PveClient, caplog: pytest.LogCaptureFixture, clients: Clients
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("proxmoxer.core", "proxmoxer.backends.https"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    stub.answer = lambda _: data(UPID)
    client.create_vm("pve1", {"vmid": 101, "cipassword": "hunter2"})
    stub.answer = lambda _: refuse(400, "Parameter verification failed.", errors={"cipassword": "bad: hunter2"})
    with pytest.raises(BadParameter) as caught:
        client.create_vm("pve1", {"vmid": 101, "cipassword": "hunter2"})
    told = caplog.text + repr(clients.traced[-1].error) + str(caught.value)
    assert "hunter2" not in told
    assert TOKEN.partition("=")[2] not in told + repr(clients.traced)


def test_a_slow_server_is_given_up(stub: Stub, client: PveClient, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.answer = lambda _: Reply(after=0.5)
    with pytest.raises(PveOutcomeUnknown, match="no answer"):
        client._sender.send(Call("POST", "/x", patience=Timeouts(1, 0.1, 5)))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_answer_that_trickles_is_given_up(stub: Stub, client: PveClient, method: HttpMethod) -> None:
    stub.answer = lambda _: Reply(body=b"x" * 10_000, drip=0.05)  # each byte comes well before a socket's time-out
    began = time.monotonic()
    with pytest.raises((PveOutcomeUnknown, PveUnreachable), match=r"took too long|timed out|no answer"):
        client._sender.send(Call(method, "/x", patience=Timeouts(1, 1, 0.6)))
    assert 0.5 < time.monotonic() - began < patience(6)
    assert len(stub.asked) == 1  # its time is over: a read is not asked again either


def test_a_proxy_hears_who_we_are_and_not_our_token(stub: Stub, clients: Clients) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        heard: list[bytes] = []

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection = proxy.accept()[0]
                    with connection:
                        heard.append(connection.recv(4096))

        threading.Thread(target=serve, daemon=True).start()
        client = clients(stub, proxy=f"http://me:p%40ss@127.0.0.1:{proxy.getsockname()[1]}")
        with pytest.raises(PveUnreachable):
            client.start_vm("pve1", 101)
        proxy.shutdown(socket.SHUT_RDWR)
    assert heard[0].startswith(f"CONNECT 127.0.0.1:{stub.port} HTTP/1.".encode())
    assert b"authorization: Basic " + base64.b64encode(b"me:p@ss") in heard[0].replace(
        b"Authorization", b"authorization"
    )
    assert b"PVEAPIToken" not in b"".join(heard)
    assert stub.asked == []


def test_a_name_that_cannot_be_one_is_said(stub: Stub, clients: Clients) -> None:
    with pytest.raises(ConfigError, match="cannot be asked"):
        clients(stub, endpoints=[f"{'a' * 64}.example.org"]).get_version()


def test_a_proxy_that_trickles_is_given_up(stub: Stub, clients: Clients) -> None:
    with start_dripping_proxy(0.05) as proxy:
        client = clients(stub, proxy=proxy)
        began = time.monotonic()
        with pytest.raises(PveUnreachable):
            client._sender.send(Call("POST", "/x", patience=Timeouts(1, 1, 0.6)))
        assert time.monotonic() - began < patience(12)


@contextmanager
def start_dripping_proxy(pause: float) -> Iterator[str]:
    """Answers CONNECT a byte at a time."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=drip, args=(server.accept()[0],), daemon=True).start()

        def drip(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000:
                    connection.sendall(bytes([byte]))
                    time.sleep(pause)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def test_an_upload_streams_in_the_order_that_pve_needs(stub: Stub, client: PveClient, tmp_path: Path) -> None:
    iso = tmp_path / "my iso.iso"
    iso.write_bytes(b"x" * 100_000)
    seen: list[tuple[int, int]] = []
    stub.answer = lambda _: data(UPID.replace("qmcreate:101", "imgcopy:"))
    client.upload("pve1", "local", iso, progress=lambda done, total: seen.append((done, total)))
    body = stub.asked[0].body
    places = [
        body.index(f'name="{name}"'.encode()) for name in ("content", "checksum-algorithm", "checksum", "filename")
    ]
    assert places == sorted(places)
    assert b'filename="my_iso.iso"' in body
    assert b"x" * 100_000 in body
    assert seen[-1][0] == seen[-1][1] > 100_000
    assert int(stub.asked[0].headers["Content-Length"]) == len(body)


class Tickets:
    """PVE's login: tickets by number, one password, perhaps a second factor."""

    def __init__(self, stub: Stub, *, factors: str = "") -> None:
        self.logins: list[Asked] = []
        self.valid: set[str] = set()
        self.factors = factors
        self.slow = 0.0
        self._lock = threading.Lock()
        stub.answer = self.answer

    def answer(self, asked: Asked) -> Reply:
        if asked.path == "/access/ticket":
            return self.log_in(asked)
        ticket = asked.headers.get("Cookie", "").removeprefix("PVEAuthCookie=")
        if ticket not in self.valid:
            return Reply(401, "Authentication failed!", b"", {"Connection": "close"})
        if asked.method != "GET" and asked.headers.get("CSRFPreventionToken") != f"csrf-{ticket}":
            return Reply(401, "Permission denied - invalid csrf token", b"", {"Connection": "close"})
        return data(VERSION if asked.method == "GET" else UPID)

    def log_in(self, asked: Asked) -> Reply:
        with self._lock:
            self.logins.append(asked)
            time.sleep(self.slow)
            password = asked.one("password")
            challenge = asked.params.get("tfa-challenge", [""])[0]
            if challenge.startswith("PVE:!tfa!") and password.startswith("totp:"):
                return self.ticket()
            if password in self.valid:
                return self.ticket()
            if password != "secret":
                return Reply(401, "authentication failure", b"", {"Connection": "close"})
            if self.factors:
                half = f"PVE:!tfa!{self.factors}:6750A1B2::x"
                return data({"username": "root@pam", "ticket": half, "CSRFPreventionToken": "half", "NeedTFA": 1})
            return self.ticket()

    def ticket(self) -> Reply:
        ticket = f"PVE:root@pam:{len(self.logins):08X}::abc+/="
        self.valid.add(ticket)
        return data({"username": "root@pam", "ticket": ticket, "CSRFPreventionToken": f"csrf-{ticket}"})


def test_a_password_logs_in_once_for_many_threads(stub: Stub, clients: Clients) -> None:
    tickets = Tickets(stub)
    tickets.slow = 0.1
    client = clients(stub, username="root@pam", password="secret")
    threads = [threading.Thread(target=client.start_vm, args=("pve1", 101)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tickets.logins) == 1
    assert tickets.logins[0].one("new-format") == "1"
    assert stub.paths.count("POST /nodes/pve1/qemu/101/status/start") == 8


def test_an_expired_ticket_is_renewed_once_and_the_call_repeated(stub: Stub, clients: Clients) -> None:
    tickets = Tickets(stub)
    client = clients(stub, username="root@pam", password="secret")
    client.get_version()
    tickets.valid.clear()
    assert client.start_vm("pve1", 101) == UPID
    assert len(tickets.logins) == 2


def test_a_ticket_that_is_refused_twice_is_an_error(stub: Stub, clients: Clients) -> None:
    stub.answer = lambda asked: (
        Tickets.ticket(Tickets(Stub.__new__(Stub)))
        if asked.path == "/access/ticket"
        else Reply(401, "No ticket", b"", {"Connection": "close"})
    )
    with pytest.raises(NotAuthenticated):
        clients(stub, username="root@pam", password="secret").get_version()


def test_a_wrong_password_is_tried_once(stub: Stub, clients: Clients) -> None:
    tickets = Tickets(stub)
    with pytest.raises(NotAuthenticated, match="authentication failure"):
        clients(stub, username="root@pam", password="wrong").get_version()
    assert len(tickets.logins) == 1


def test_a_token_that_is_refused_is_tried_once(stub: Stub, client: PveClient) -> None:
    stub.answer = lambda _: Reply(401, "Authentication failed!", b"", {"Connection": "close"})
    with pytest.raises(NotAuthenticated):
        client.get_version()
    assert len(stub.asked) == 1


def test_a_second_factor_is_given_in_a_second_step(stub: Stub, clients: Clients) -> None:
    tickets = Tickets(stub, factors='{"totp"%3Atrue}')
    client = clients(stub, username="root@pam", password="secret", otp="123456")
    assert client.get_version().major == 9
    assert tickets.logins[1].one("password") == "totp:123456"
    assert tickets.logins[1].one("tfa-challenge").startswith("PVE:!tfa!")


def test_a_totp_secret_makes_its_own_codes(stub: Stub, clients: Clients) -> None:
    tickets = Tickets(stub, factors='{"totp"%3Atrue}')
    secret = base64.b32encode(b"12345678901234567890").decode()
    clients(stub, username="root@pam", password="secret", totp_secret=secret).get_version()
    assert len(tickets.logins[1].one("password")) == len("totp:000000")


@pytest.mark.parametrize(("now", "code"), [(59, "94287082"), (1111111109, "07081804"), (20000000000, "65353130")])
def test_totp_codes_are_those_of_rfc_6238(now: int, code: str) -> None:
    assert totp_code(base64.b32encode(b"12345678901234567890").decode(), now, digits=8) == code


def test_a_missing_second_factor_is_said(stub: Stub, clients: Clients) -> None:
    Tickets(stub, factors='{"webauthn"%3Atrue}')
    with pytest.raises(NotAuthenticated, match="webauthn"):
        clients(stub, username="root@pam", password="secret").get_version()
    with pytest.raises(NotAuthenticated, match="no TOTP"):
        clients(stub, username="root@pam", password="secret", otp="1").get_version()


def test_an_endless_answer_is_cut(stub: Stub, client: PveClient) -> None:
    stub.answer = lambda _: data("x" * LARGEST_ANSWER)
    with pytest.raises(PveError, match="MiB"):
        client.get_version()


def test_busy_is_repeated_for_reads_only(stub: Stub, client: PveClient) -> None:
    replies = [refuse(500, "can't lock file '/var/lock/qemu-server/lock-101.conf' - got timeout"), data({"a": "b"})]
    stub.answer = lambda _: replies.pop(0)
    assert client.get_config("pve1", 101).values == {"a": "b"}
    stub.answer = lambda _: refuse(500, "can't lock file '/var/lock/qemu-server/lock-101.conf' - got timeout")
    with pytest.raises(PveBusy):
        client.start_vm("pve1", 101)
    assert len(stub.asked) == 3


def test_whoever_may_not_act_sends_no_change_and_may_still_look(stub: Stub, clients: Clients) -> None:
    asked: list[int] = []

    def may_act() -> None:
        asked.append(stub.connections)
        raise Locked("taken over")

    clients.may_act = may_act
    client = clients(stub)
    stub.answer = lambda _: data(UPID)
    for change in (
        lambda: client.start_vm("pve1", 101),
        lambda: client.set_config("pve1", 101, {"memory": 512}),
        lambda: client.delete_vm("pve1", 101),
        lambda: client.agent_exec("pve1", 101, ["/bin/true"]),
    ):
        with pytest.raises(Locked):
            change()
    assert stub.asked == [] and len(asked) == 4
    assert asked[0] == 1, "it was asked before the connection stood, which may take long"
    stub.answer = lambda _: data(VERSION)
    client.agent_ping("pve1", 101)
    assert str(client.get_version()) == "9.0"
    assert [one.method for one in stub.asked] == ["POST", "GET"] and len(asked) == 4
