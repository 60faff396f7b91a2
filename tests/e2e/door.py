"""The lab's own door beside its API: faults, state, calls; the same for every test end to end."""

import json
import ssl
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.pace import patience


@dataclass(frozen=True)
class Door:
    running: Any  # nixops_proxmox.lab.service.Running

    def control(self, method: str, what: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.running.control_token}", "Content-Type": "application/json"}
        return self._ask(f"/lab/{what}", method, headers, None if body is None else json.dumps(body).encode())

    def api(self, method: str, path: str, **params: Any) -> Any:
        """A call of somebody else's: by the same token, but not through our client."""
        query = urllib.parse.urlencode(params, doseq=True)
        body = query.encode() if method in ("POST", "PUT") else None
        path = f"{path}?{query}" if query and body is None else path
        headers = {"Authorization": f"PVEAPIToken={self.running.token}"}
        return self._ask(f"/api2/json{path}", method, headers, body)["data"]

    def _ask(self, path: str, method: str, headers: Mapping[str, str], body: bytes | None) -> Any:
        request = urllib.request.Request(f"{self.running.url}{path}", method=method, data=body, headers=dict(headers))
        trust = ssl.create_default_context(cafile=self.running.ca_file)
        with urllib.request.urlopen(request, context=trust, timeout=patience(10)) as answer:
            return json.load(answer)

    def fault(self, action: str, **how: Any) -> None:
        self.control("POST", "faults", {"action": action, **how})

    def calls(self) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = self.control("GET", "calls")
        return calls

    def forget_calls(self) -> None:
        self.control("DELETE", "calls")

    def forget_faults(self) -> None:
        self.control("DELETE", "faults")

    def reset(self) -> None:
        self.control("POST", "reset")

    def vms(self) -> Mapping[str, Mapping[str, Any]]:
        vms: Mapping[str, Mapping[str, Any]] = self.control("GET", "state")["vms"]
        return vms

    def images(self) -> list[str]:
        """Every volume that belongs to a VM, by volume ID."""
        return [one["volid"] for one in self.control("GET", "state")["volumes"] if one["content"] == "images"]

    def tasks(self, kind: str) -> list[dict[str, Any]]:
        return [task for task in self.control("GET", "state")["tasks"] if task["type"] == kind]
