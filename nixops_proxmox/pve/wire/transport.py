"""proxmoxer, hardened: one way to send a call, with trust, credentials, retries by class, and failover."""

import json
import logging
import math
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from proxmoxer.core import ProxmoxResource, ResourceException
from urllib3 import BaseHTTPResponse, HTTPSConnectionPool, Timeout
from urllib3.exceptions import HTTPError

from nixops_proxmox.errors import ConfigError, DeployError, NotAuthenticated, PveBusy, PveOutcomeUnknown, PveUnreachable
from nixops_proxmox.pve.wire.calls import Call, CallDone, Trace, encode_params, no_trace
from nixops_proxmox.pve.wire.login import Authentication
from nixops_proxmox.pve.wire.lost import translate_transport
from nixops_proxmox.pve.wire.refusals import Refusal, not_pve, translate_refusal
from nixops_proxmox.pve.wire.servers import ApiServer
from nixops_proxmox.pve.wire.tls import Connections, always, sending
from nixops_proxmox.pve.wire.upload import Upload, multipart
from nixops_proxmox.texts import head

# proxmoxer logs parameters (passwords too) at INFO and answers (tickets) at DEBUG.
for _name in ("proxmoxer.core", "proxmoxer.backends.https"):
    logging.getLogger(_name).disabled = True

PAUSES = (0.3, 1.0, 2.0)  # seconds between repeats of what may be repeated
STREAM_TIMEOUT = 10.0  # seconds to connect
AT_ONCE = 64  # calls; a node has three workers for them, and each of our connections costs memory
STANDARD = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
    "Connection": "keep-alive",
    "User-Agent": "nixops-proxmox",
}
FORM = "application/x-www-form-urlencoded"
LARGEST_ANSWER = 64 * 1024 * 1024  # bytes
HARMLESS = ("/access/ticket", "/nodes/{node}/qemu/{vmid}/agent/ping")  # POSTs that change nothing


class Transport:
    """Sends calls to the servers of one cluster; safe to use from many threads."""

    def __init__(
        self,
        servers: Sequence[ApiServer],
        connections: Connections,
        *,
        trace: Trace = no_trace,
        sleep: Callable[[float], None] = time.sleep,
        proxy: str = "",
        may_act: Callable[[], None] = always,
    ) -> None:
        """`may_act` is asked when the connection stands, right before a call that changes something leaves. The error
        that it raises is raised here."""
        self._may_act = may_act
        self._servers = tuple(servers)
        self._connections, self._trace, self._sleep, self._proxy = connections, trace, sleep, proxy
        self._login: Authentication | None = None
        self._room = threading.BoundedSemaphore(AT_ONCE)
        self._good = 0  # the server that answered last; a race on it costs only a try

    def use_login(self, login: Authentication) -> None:
        self._login = login

    def close(self) -> None:
        self._connections.close()

    @property
    def server(self) -> ApiServer:
        """The one that answered last."""
        return self._servers[self._good]

    @contextmanager
    def open_stream(
        self, timeout: float = STREAM_TIMEOUT
    ) -> Iterator[tuple[ssl.SSLSocket, ApiServer, Mapping[str, str]]]:
        """A verified connection to the server that answered last, and what says who we are: for websockets."""
        server = self.server
        try:
            stream = self._connections.connect(server.host, server.port, timeout)
        except OSError as error:
            raise PveUnreachable(f"{server} cannot be reached: {error}") from error
        with stream:
            yield stream, server, self._login.headers("GET") if self._login is not None else {}

    def send(self, call: Call, upload: Upload | None = None) -> Any:
        """The answer's data. Safe to repeat: GETs change nothing, and anything else is sent again only while provably
        nothing was executed."""
        renewed = False
        pauses = iter(PAUSES)
        deadline = time.monotonic() + call.patience.whole
        while True:
            headers = self._login.headers(call.method) if self._login is not None else {}
            try:
                return self._failing_over(call, headers, upload)
            except NotAuthenticated:
                # 401 means that the call was not executed, so any method may be sent again
                if renewed or self._login is None or not self._login.renew(headers):
                    raise
                renewed = True
            except DeployError as error:
                pause = next(pauses, None) if _may_repeat(call, error) else None
                if pause is None or time.monotonic() > deadline:
                    raise _final(call, error) from error
                self._sleep(pause)

    def send_unauthenticated(self, call: Call) -> Any:
        """Send a call without credentials: the login itself."""
        return self._failing_over(call, {}, None)

    def _failing_over(self, call: Call, headers: Mapping[str, str], upload: Upload | None) -> Any:
        failures: list[PveUnreachable] = []
        # Safe to repeat: the next server is only asked if nothing was sent to the one before, or if the call is a GET.
        for offset in range(len(self._servers)):
            index = (self._good + offset) % len(self._servers)
            try:
                data = self._exchange(self._servers[index], call, headers, upload)
            except PveUnreachable as error:
                failures.append(error)
                continue
            except DeployError:
                self._good = index  # it answered
                raise
            self._good = index
            return data
        if len(failures) == 1:
            raise failures[0]
        raise PveUnreachable(
            "no server of the cluster can be reached: " + "; ".join(str(failure) for failure in failures),
            hint=failures[0].hint,
        )

    def _exchange(self, server: ApiServer, call: Call, headers: Mapping[str, str], upload: Upload | None) -> Any:
        started = time.monotonic()
        wire = _Wire(self._connections.to(server, self._proxy), call, headers, upload)
        resource = ProxmoxResource(
            base_url=f"{server.url}/api2/json{call.path}", session=wire, serializer=_Serializer(call)
        )
        error = ""
        try:
            with self._room:
                sending.begun, sending.deadline = False, time.monotonic() + call.patience.whole
                sending.may = always if is_harmless(call) else self._may_act
                return getattr(resource, call.method.lower())(**encode_params(call.params))
        except ResourceException as refused:
            refusal = _refusal(refused)
            translated = translate_refusal(refusal, call)
            error = str(translated)
            raise translated from refused
        except HTTPError as lost:
            translated = _final(call, translate_transport(lost, call, server.authority, sent=sending.begun))
            error = str(translated)
            raise translated from lost
        except DeployError as ours:
            error = str(ours)
            raise
        finally:
            sending.deadline, sending.may = math.inf, always
            self._trace(CallDone(call, server.authority, time.monotonic() - started, wire.status, error))


def is_harmless(call: Call) -> bool:
    """The call changes nothing, for any user."""
    return call.method == "GET" or call.template in HARMLESS


def _may_repeat(call: Call, error: DeployError) -> bool:
    match error:
        case PveUnreachable():
            return True
        case PveOutcomeUnknown() | PveBusy():
            return call.method == "GET"
        case _:
            return False


def _final(call: Call, error: DeployError) -> DeployError:
    """A GET has no outcome to be unknown: it may simply be asked again."""
    if call.method == "GET" and isinstance(error, PveOutcomeUnknown):
        return PveUnreachable(error.message, hint=error.hint or "the node or its network is in trouble")
    return error


@dataclass(frozen=True)
class _Answer:
    """As much of an answer as proxmoxer looks at. The body is not its `content`: proxmoxer writes that into a log."""

    status_code: int
    reason: str
    body: bytes
    content: bytes = b""


class _Wire:
    """What proxmoxer takes for its session: sends one request, hands out the answer only if it is an API's. It keeps
    nothing between two calls: no cookies, and no credentials from .netrc or proxy that the user did not ask for."""

    def __init__(
        self, pool: HTTPSConnectionPool, call: Call, headers: Mapping[str, str], upload: Upload | None
    ) -> None:
        self._pool, self._call, self._headers, self._upload = pool, call, headers, upload
        self.status = 0

    def request(self, method: str, url: str, data: Any = None, params: Any = None) -> _Answer:
        parts = urlsplit(url)
        body, headers = self._body(method, data or {})
        patience = self._call.patience
        response = self._pool.urlopen(  # follows no redirection: credentials go nowhere else
            method,
            f"{parts.path}?{urlencode(params, doseq=True)}" if params else parts.path,
            body,
            headers,
            retries=False,
            redirect=False,
            assert_same_host=False,
            timeout=Timeout(connect=patience.connect, read=patience.read),
            preload_content=False,
        )
        answer = _Answer(response.status, response.reason or "", self._read(response))
        self.status = answer.status_code
        if 300 <= self.status < 400:
            where = response.headers.get("Location", "elsewhere")
            raise ConfigError(
                f"{self._call.shown}: redirected to {head(where, 200)}", hint="give that address in the profile"
            )
        return answer

    def _body(self, method: str, data: Mapping[str, Any]) -> tuple[Any, dict[str, str]]:
        """The body, and all headers."""
        headers = {**STANDARD, **self._headers}
        if self._upload is not None:
            body, headers["Content-Type"] = multipart(self._upload, data)
            return body, headers | {"Content-Length": str(body.len)}
        if data:
            return urlencode(data, doseq=True).encode(), headers | {"Content-Type": FORM}
        return None, headers if method == "GET" else headers | {"Content-Length": "0"}

    def _read(self, response: BaseHTTPResponse) -> bytes:
        """The body, unless it is absurd: a hostile or broken server must not fill our memory."""
        parts, size = [], 0
        try:
            for part in response.stream(65536, decode_content=True):
                parts.append(part)
                size += len(part)
                if size > LARGEST_ANSWER:
                    raise not_pve(self._call, f"the answer is over {LARGEST_ANSWER >> 20} MiB")
        except BaseException:
            response.close()
            raise
        return b"".join(parts)


class _Serializer:
    """Reads answers as PVE forms them; proxmoxer's own would hide what it cannot read."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def loads(self, answer: _Answer) -> Any:
        body = _json(answer)
        if not isinstance(body, dict) or "data" not in body:
            raise not_pve(
                self._call, f"the answer is not PVE's JSON: {head(answer.body.decode(errors='replace'), 80)!r}"
            )
        return body["data"]

    def loads_errors(self, answer: _Answer) -> Mapping[str, Any]:
        body = _json(answer)
        return body if isinstance(body, dict) else {}


def _json(answer: _Answer) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return None


def _refusal(refused: ResourceException) -> Refusal:
    body: Mapping[str, Any] = refused.errors or {}
    message, errors = body.get("message"), body.get("errors")
    text = message if isinstance(message, str) and message.strip() else _unmangled(str(refused.content or ""))
    details = {str(key): str(value) for key, value in errors.items()} if isinstance(errors, dict) else {}
    return Refusal(int(refused.status_code), text.strip(), details)


def _unmangled(reason: str) -> str:
    """http.client reads the reason phrase as Latin-1. PVE writes UTF-8."""
    try:
        return reason.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return reason
