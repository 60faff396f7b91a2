"""VyOS's HTTP API: its answers, its release, and one caller at a time."""

import html
import json
import re
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from nixops_proxmox.errors import ConfigError, RouterError
from nixops_proxmox.routers.profile import RouterProfile
from nixops_proxmox.routers.web import Web

VERSIONS = ("1.3", "1.4", "1.5")
EMPTY = "specified path is empty"  # what showConfig says where there is nothing


class VyosApi:
    """`lock`: held from a change of the router until that is kept or taken back."""

    def __init__(self, profile: RouterProfile) -> None:
        self.profile, self.lock = profile, threading.RLock()
        self.web = Web(profile, basic=False)
        self._version = profile.setting("version")
        if self._version and self._version not in VERSIONS:
            raise ConfigError(
                f"{profile.title}: VyOS {self._version} is not known", hint=f"known: {', '.join(VERSIONS)}"
            )

    def show(self, *path: str) -> Mapping[str, Any]:
        """What is below the path; empty where there is nothing."""
        status, answer = self._ask("/retrieve", {"op": "showConfig", "path": list(path)})
        if status == 400 and EMPTY in str(answer.get("error")):
            return {}
        found = self._checked("/retrieve", status, answer)
        return found if isinstance(found, Mapping) else {}

    def release(self) -> str:
        """1.3, 1.4 or 1.5, as the profile says, or as it tells."""
        if not self._version:
            told = str(self.call("/show", {"op": "show", "path": ["version"]}))
            match = re.search(r"Version:\s+VyOS (\d+\.\d+)", told)
            self._version = match[1] if match else ""
            if self._version not in VERSIONS:
                raise ConfigError(
                    f"{self.profile.title}: we do not know its release",
                    hint=f"set `version` in routers.toml to one of {', '.join(VERSIONS)}",
                )
        return self._version

    def configure(self, operations: Sequence[Mapping[str, object]]) -> None:
        if operations:
            self.call("/configure", operations)

    def call(self, path: str, data: object) -> Any:
        return self._checked(path, *self._ask(path, data))

    def call_json(self, path: str, body: Mapping[str, object]) -> Any:
        """What stands beside a list of operations is only read from a body of JSON."""
        with self.lock:
            status, answer = self.web.call("POST", path, {"key": self._key, **body})
        return self._checked(path, status, answer if isinstance(answer, Mapping) else {})

    @cached_property
    def _key(self) -> str:
        """A password manager is asked once, and only if the router is."""
        return self.profile.get_secret()

    def _ask(self, path: str, data: object) -> tuple[int, Mapping[str, Any]]:
        form = {"data": json.dumps(data), "key": self._key}
        with self.lock:
            status, answer = self.web.call("POST", path, form=form)
        return status, answer if isinstance(answer, Mapping) else {}

    def _checked(self, path: str, status: int, answer: Mapping[str, Any]) -> Any:
        if status == 200 and answer.get("success"):
            return answer.get("data")
        told = " ".join(html.unescape(str(answer.get("error") or f"HTTP status {status}")).split())
        hint = (
            "look at secret" if status == 401 else "somebody else commits: try again later" if "locked" in told else ""
        )
        raise RouterError(f"{self.profile.title}: {path[1:]}: {told}", hint=hint)
