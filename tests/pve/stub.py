"""An HTTPS server that answers what a test tells it to, with PVE's habits: messages in the reason phrase, own CA."""

import datetime
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from typing_extensions import override

from tests.pace import patience


@dataclass(frozen=True)
class Asked:
    """A request as it arrived; parameters of query and form together."""

    method: str
    path: str  # without /api2/json, decoded
    raw_path: str
    params: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    connection: int  # which TCP connection it came on

    def one(self, key: str) -> str:
        return self.params[key][0]


@dataclass(frozen=True)
class Reply:
    status: int = 200
    reason: str = "OK"
    body: bytes = b'{"data":null}'
    headers: dict[str, str] = field(default_factory=dict)
    hang_up: bool = False  # close instead of answering
    after: float = 0.0  # seconds to wait first
    cut: int | None = None  # send only so many bytes of the body, then close
    drip: float = 0.0  # seconds between two bytes of the answer, its head too


def data(value: Any) -> Reply:
    return Reply(body=json.dumps({"data": value}).encode())


def refuse(status: int, message: str, *, errors: dict[str, str] | None = None, full: str = "") -> Reply:
    """As PVE: the reason phrase has the first line, the body (since 8.4) the whole."""
    body: dict[str, Any] = {"data": None}
    if full:
        body["message"] = full
    if errors:
        body["errors"] = errors
    return Reply(status, message, json.dumps(body).encode(), {"Connection": "close"})


Answer = Callable[[Asked], Reply]


class Stub:
    def __init__(self, server: ThreadingHTTPServer, certificates: "Certificates") -> None:
        self.asked: list[Asked] = []
        self.answer: Answer = lambda _asked: Reply()
        self.certificates = certificates
        host, port = server.server_address[:2]
        self.host, self.port = str(host), int(port)
        self.authority = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        self.url = f"https://{self.authority}"
        self.connections = 0

    @property
    def paths(self) -> list[str]:
        return [f"{asked.method} {asked.path}" for asked in self.asked]


@dataclass(frozen=True)
class Certificates:
    ca_file: Path
    chain: Path
    key: Path
    fingerprint: str


def make_certificates(directory: Path, names: tuple[str, ...] = ("localhost",)) -> Certificates:
    """A CA as PVE's older ones (no keyUsage) and a certificate for loopback."""
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Proxmox Virtual Environment")])

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    ca = builder(ca_name, ca_key.public_key()).add_extension(x509.BasicConstraints(True, None), True)
    ca_certificate = ca.sign(ca_key, hashes.SHA256())
    addresses = [x509.IPAddress(ipaddress.ip_address(text)) for text in ("127.0.0.1", "::1")]
    alternatives = x509.SubjectAlternativeName([*(x509.DNSName(name) for name in names), *addresses])
    leaf = (
        builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pve1")]), key.public_key())
        .add_extension(alternatives, False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (directory / "ca.pem").write_bytes(ca_certificate.public_bytes(pem))
    (directory / "leaf.pem").write_bytes(leaf.public_bytes(pem))
    (directory / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    fingerprint = leaf.fingerprint(hashes.SHA256()).hex()
    return Certificates(directory / "ca.pem", directory / "leaf.pem", directory / "key.pem", fingerprint)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    stub: Stub

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the tests."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    @override
    def setup(self) -> None:
        super().setup()
        self.server.stub.connections += 1
        self.number = self.server.stub.connections

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        params = parse_qs(url.query, keep_blank_values=True)
        if "form" in self.headers.get("Content-Type", "") and "multipart" not in self.headers["Content-Type"]:
            params |= parse_qs(body.decode(), keep_blank_values=True)
        path = unquote(url.path).removeprefix("/api2/json")
        asked = Asked(self.command, path, url.path, params, dict(self.headers.items()), body, self.number)
        self.server.stub.asked.append(asked)
        self._send(self.server.stub.answer(asked))

    do_GET = do_POST = do_PUT = do_DELETE = _serve

    def _send(self, reply: Reply) -> None:
        if reply.after:
            threading.Event().wait(reply.after)
        if reply.hang_up:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        if reply.drip:
            self._drip(reply)
            return
        self.send_response_only(reply.status, reply.reason)
        self.send_header("Content-Length", str(len(reply.body)))
        for key, value in reply.headers.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(reply.body if reply.cut is None else reply.body[: reply.cut])
        if reply.cut is not None or reply.headers.get("Connection") == "close":
            self.close_connection = True

    def _drip(self, reply: Reply) -> None:
        head = f"HTTP/1.1 {reply.status} {reply.reason}\r\nContent-Length: {len(reply.body)}\r\n\r\n"
        with suppress(OSError):  # the client need not wait for it all
            for byte in head.encode() + reply.body:
                self.wfile.write(bytes([byte]))
                threading.Event().wait(reply.drip)
        self.close_connection = True


@contextmanager
def start_stub(certificates: Certificates, host: str = "127.0.0.1") -> Iterator[Stub]:
    server = (_Server6 if ":" in host else _Server)((host, 0), _Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.chain, certificates.key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.stub = Stub(server, certificates)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(patience(5))
