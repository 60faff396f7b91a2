"""From an HTTP request to an operation and back: credentials, permissions, parameters, faults, PVE's answers."""

import asyncio
import json
from collections.abc import Awaitable
from typing import Any
from urllib.parse import unquote
from weakref import WeakKeyDictionary

from aiohttp import web

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.call import Call, Directory, Operation
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.decode import decode_body, decode_form, join_lists
from nixops_proxmox.lab.faults import Fault, Faults
from nixops_proxmox.lab.refusals import Refused, bad_parameter, die
from nixops_proxmox.lab.routes import ALL, AREAS
from nixops_proxmox.lab.schema.check import check
from nixops_proxmox.lab.strike import strike_after, strike_before
from nixops_proxmox.lab.tasks import FATE

METHODS = ("GET", "POST", "PUT", "DELETE")
FORMATS = ("json", "extjs", "html", "htmljs", "spiceconfig", "png")
PER_CONNECTION = 100  # requests, then pveproxy closes it
HEADERS = {"Server": "pve-api-daemon/3.0", "Cache-Control": "max-age=0", "Pragma": "no-cache"}


class Hangup(Exception):
    """Close the connection; the client gets no answer."""


class Dispatcher:
    def __init__(self, cluster: Cluster, faults: Faults) -> None:
        self.cluster = cluster
        self.faults = faults
        self.calls: list[dict[str, Any]] = []
        self.entries: dict[int, str] = {}  # port → the node whose API it is
        self.stopping = asyncio.Event()
        self._directory = Directory(*ALL, areas=AREAS)
        self._served: WeakKeyDictionary[asyncio.Transport, int] = WeakKeyDictionary()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        record = {
            "n": len(self.calls) + 1,
            "method": request.method,
            "path": _plain_path(request),
            "status": 0,
            "time": self.cluster.clock.time(),
        }
        self.calls.append(record)
        try:
            response = await self._answer(request, record)
        except Hangup:
            record["status"] = -1
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        record["status"] = response.status
        if not response.prepared and (response.status >= 400 or self._count(request) >= PER_CONNECTION):
            response.force_close()
        return response

    async def _answer(self, request: web.Request, record: dict[str, Any]) -> web.StreamResponse:
        format = "json"
        try:
            path, format = self._split(request)
            record["path"] = path
            entry = self._entry(request)
            await self.cluster.clock.sleep(self.cluster.latency.request)
            struck = self.faults.struck(request.method, path)
            await self._before(struck, path)
            self._check_request(request)
            if request.method in ("POST", "PUT") and not _is_upload(request):
                await request.read()  # kept: a delayed call acts when the connection is long gone
            call = await self._limited(self._act(request, path, entry, struck, record), struck)
            if any(fault.action == "drop_after" for fault in struck):
                raise Hangup
        except Refused as refusal:
            return await self._refusal(refusal, format)
        if isinstance(call, web.StreamResponse):
            return call
        data, extra = call
        body = {"data": data, **extra}
        return self._render(body | {"success": 1} if format == "extjs" else body, request)

    def _count(self, request: web.Request) -> int:
        """Requests served on this connection."""
        transport = request.transport
        if transport is None:
            return PER_CONNECTION
        self._served[transport] = self._served.get(transport, 0) + 1
        return self._served[transport]

    def _entry(self, request: web.Request) -> str:
        """The node whose API was asked; one that is lost does not answer."""
        name = request.transport.get_extra_info("sockname") if request.transport else None
        entry = self.entries.get(name[1] if name else 0, next(iter(self.cluster.nodes)))
        if not self.cluster.nodes[entry].online:
            raise Hangup
        return entry

    @staticmethod
    def _split(request: web.Request) -> tuple[str, str]:
        """/api2/json/version → (/version, json)"""
        raw = request.rel_url.raw_path
        parts = [unquote(part) for part in raw.split("/") if part]
        if not parts or parts[0] != "api2" or len(parts) < 2:
            raise Refused(500, f"no such file '{unquote(raw)}'", plain=True)
        path = "/" + "/".join(parts[2:])
        if parts[1] not in FORMATS:
            raise Refused(501, f"no formatter for uri {path}, {parts[1]}", plain=True)
        return path, parts[1]

    # Faults.

    async def _before(self, struck: list[Fault], path: str) -> None:
        for fault in struck:
            match fault.action:
                case "refuse":
                    raise Refused(fault.status, fault.text or "injected fault")
                case "hang":
                    await self.stopping.wait()
                    raise Hangup
                case "drop_before":
                    raise Hangup
                case _:
                    await strike_before(self.cluster, fault, path)

    async def _limited(self, work: Awaitable[Any], struck: list[Fault]) -> Any:
        """pveproxy gives up on a proxied request after 30 s; the work goes on."""
        clock = self.cluster.clock
        task = asyncio.ensure_future(_slowed(work, struck, clock.sleep))
        if not struck and self.cluster.latency.proxied <= 0:
            return await task
        timer = asyncio.ensure_future(clock.sleep(self.cluster.latency.proxied))
        stopping = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait({task, timer, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            stopping.cancel()
        if not task.done():
            task.add_done_callback(_forget)
            if self.stopping.is_set():
                raise Hangup
            raise Refused(596, "Connection timed out", empty=True)
        return task.result()

    # Acting.

    async def _act(
        self, request: web.Request, path: str, entry: str, struck: list[Fault], record: dict[str, Any]
    ) -> Any:
        found = self._directory.find(request.method, path, self.cluster.release.number)
        auth = self._authenticate(request, found[0] if found else None)
        record["who"] = auth.who if auth else ""
        if found is None:
            reason = "\nthe lab does not do this" if self._directory.is_beyond(path) else ""
            raise Refused(501, f"Method '{request.method} {path}' not implemented{reason}")
        operation, uri = found
        params = {} if operation.reads_body else await self._parameters(request, operation)
        for name, value in params.items():
            if name in uri and str(value) != uri[name]:
                raise bad_parameter(name, "duplicate parameter (already defined in URI) with conflicting values!")
        call = Call(
            self.cluster, auth or Auth("", False), request.method, path, uri, {**params, **uri}, entry, request=request
        )
        self._check_permission(operation, call)
        await self._check_node(call)
        table = self._directory.table(operation, self.cluster.release.number)
        if not operation.reads_body:
            call.params = check(call.params, table)
        with_fate = strike_after(self.cluster, struck, call)
        token = FATE.set(with_fate)
        try:
            result = await operation.handler(call)
        finally:
            FATE.reset(token)
        return result if isinstance(result, web.StreamResponse) else (result, call.extra)

    def _check_request(self, request: web.Request) -> None:
        if request.method not in METHODS:
            raise Refused(501, f"method '{request.method}' not available", plain=True)
        if "chunked" in request.headers.get("Transfer-Encoding", "").lower():
            raise Refused(501, "chunked transfer encoding not supported", plain=True)
        if request.method in ("GET", "DELETE") and request.content_length:
            raise Refused(501, f"Unexpected content for method '{request.method}'", plain=True)
        if not _is_upload(request) and (request.content_length or 0) > self.cluster.release.body_limit:
            raise Refused(501, "for data too large", plain=True)

    def _authenticate(self, request: web.Request, operation: Operation | None) -> Auth | None:
        if operation is not None and operation.permission is None:
            return None
        access = self.cluster.access
        auth = access.authenticate(request.headers.get("Authorization"), request.cookies.get("PVEAuthCookie"))
        csrf = request.headers.get("CSRFPreventionToken", "")
        is_upload = operation is not None and operation.reads_body
        if auth.ticket and request.method != "GET" and not is_upload and not access.is_csrf(csrf, auth.user):
            raise Refused(401, "Permission denied - invalid csrf token", empty=True)
        return auth

    async def _parameters(self, request: web.Request, operation: Operation) -> dict[str, Any]:
        body = await request.read() if request.method in ("POST", "PUT") else b""
        release = self.cluster.release
        params = (
            decode_body(body, request.headers.get("Content-Type", ""), release) if body or _is_json(request) else {}
        )
        params |= decode_form(request.rel_url.raw_query_string, release)
        lists = [
            name
            for name, param in operation.params.items()
            if isinstance(param.format, str) and param.format.endswith("-list")
        ]
        return join_lists(params, lists)

    @staticmethod
    def _check_permission(operation: Operation, call: Call) -> None:
        if call.auth.token and not operation.allow_token:
            raise Refused(
                403, f"Permission check failed (URI '{call.path}' not available with API token, need proper ticket.\n)"
            )
        if operation.permission is None:
            return
        try:
            operation.permission(call)
        except Refused as refusal:
            refusal.empty = operation.reads_body  # pveproxy itself says so, before it reads the upload
            raise

    async def _check_node(self, call: Call) -> None:
        """pveproxy relays to the node of the path: it must exist and be there."""
        name = call.uri.get("node")
        if name is None or name in ("localhost", call.entry):
            return
        if name not in self.cluster.nodes:
            die(f"hostname lookup '{name}' failed - failed to get address info for: {name}: Name or service not known")
        if not self.cluster.nodes[name].online:
            raise Refused(595, "No route to host", empty=True)

    # Rendering.

    async def _refusal(self, refusal: Refused, format: str) -> web.Response:
        if refusal.status == 401:
            await self.cluster.clock.sleep(self.cluster.latency.refused_login)
        reason = " ".join(refusal.text.split("\n")[:1]) or "error"
        message = refusal.text if refusal.text.endswith("\n") or refusal.status == 501 else f"{refusal.text}\n"
        has_message = self.cluster.release.message_in_body
        if refusal.plain or refusal.empty:
            body = (
                message
                if refusal.plain and has_message and refusal.status == 500
                else refusal.text
                if refusal.plain and has_message
                else ""
            )
            return web.Response(
                status=refusal.status, reason=reason, text=body, content_type="text/html", headers=HEADERS
            )
        answer: dict[str, Any] = {"data": None}
        if refusal.errors:
            answer["errors"] = refusal.errors
        if has_message or format == "extjs":
            answer["message"] = message
        if format == "extjs":
            answer |= {"success": 0, "status": str(refusal.status) if refusal.errors else refusal.status}
            return self._render(answer, None)
        response = self._render(answer, None)
        response.set_status(refusal.status, reason)
        return response

    @staticmethod
    def _render(body: dict[str, Any], request: web.Request | None) -> web.Response:
        text = json.dumps(body, ensure_ascii=False)
        response = web.Response(text=text, headers=HEADERS)
        response.headers["Content-Type"] = "application/json;charset=UTF-8"
        if request is not None and len(text) > 1024 and "gzip" in request.headers.get("Accept-Encoding", ""):
            response.enable_compression(web.ContentCoding.gzip)
        return response


async def _slowed(work: Awaitable[Any], struck: list[Fault], sleep: Any) -> Any:
    await sleep(sum(fault.seconds for fault in struck if fault.action == "delay"))
    result = await work
    await sleep(sum(fault.seconds for fault in struck if fault.action == "slow"))
    return result


def _is_upload(request: web.Request) -> bool:
    return request.headers.get("Content-Type", "").startswith("multipart/form-data")


def _forget(task: "asyncio.Future[Any]") -> None:
    """The client has gone; what the work says to that is of no use to anybody."""
    if not task.cancelled():
        task.exception()


def _plain_path(request: web.Request) -> str:
    return unquote(request.rel_url.raw_path)


def _is_json(request: web.Request) -> bool:
    """Then PVE parses even an empty body, and fails."""
    return request.method in ("POST", "PUT") and request.content_type == "application/json"
