"""A plain HTTPS client for the lab's tests: no retries, no decoding, reason phrases as they are."""

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from nixops_proxmox.lab.testing import RunningLab
from tests.pace import patience

QEMU = "/nodes/pve1/qemu"
DISK = {"scsi0": "local-lvm:4,discard=on", "net0": "virtio,bridge=vmbr0", "agent": "1", "memory": "1024", "name": "web"}


@dataclass(frozen=True)
class Answer:
    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        return self.json["data"]


class Client:
    """One connection at a time; made anew when the server has closed it."""

    def __init__(self, lab: RunningLab, auth: Mapping[str, str] | None = None, url: str = "") -> None:
        host, _, port = (url or lab.url).removeprefix("https://").rpartition(":")
        self.lab = lab
        self.auth = {"Authorization": f"PVEAPIToken={lab.token}"} if auth is None else dict(auth)
        self._connection = http.client.HTTPSConnection(
            host, int(port), timeout=patience(20), context=ssl.create_default_context(cafile=str(lab.ca_file))
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def send(
        self, method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        self._connection.request(method, url, body=body, headers={**self.auth, **(headers or {})})
        answer = self._connection.getresponse()
        result = Answer(answer.status, answer.reason, dict(answer.headers), answer.read())
        if answer.headers.get("Connection", "").lower() == "close":
            self._connection.close()
        return result

    def call(self, method: str, path: str, params: Mapping[str, Any] | None = None) -> Answer:
        """Form-encoded, as every client does it; DELETE and GET put parameters into the query."""
        url = "/api2/json" + quote(path, safe="/:@!%")
        coded = urlencode(params or {}, doseq=True)
        if method in ("POST", "PUT"):
            form = {"Content-Type": "application/x-www-form-urlencoded"} if coded else {}
            return self.send(method, url, coded.encode() if coded else None, form)
        return self.send(method, f"{url}?{coded}" if coded else url)

    def get(self, path: str, **params: Any) -> Any:
        return self.call("GET", path, params).data

    def task(self, method: str, path: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Start, wait for every task, and the status of the one that was started."""
        answer = self.call(method, path, params)
        assert answer.status == 200, (answer.status, answer.reason, answer.body)
        self.lab.settle()
        upid = answer.data
        status: dict[str, Any] = self.get(f"/nodes/{upid.split(':')[1]}/tasks/{upid}/status")
        return status

    def log(self, upid: str) -> list[str]:
        return [line["t"] for line in self.get(f"/nodes/{upid.split(':')[1]}/tasks/{upid}/log", limit=0)]


def ok(api: Client, method: str, path: str, **params: object) -> None:
    """The call is taken. In names of parameters, `_` stands for `-`."""
    answer = api.call(method, path, {key.replace("_", "-"): value for key, value in params.items()})
    assert answer.status == 200, (answer.reason, answer.body)
