"""A real browser without a window, driven through chromedriver's own protocol: no package is needed for that."""

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.pace import wait_until
from tests.ports import free_port

ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]


def find_obstacle() -> str:
    """Why there is no browser. Empty: there is."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{', '.join(missing)} is not installed" if missing else ""


class Browser:
    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self._url}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def command(self, name: str, **values: Any) -> Any:
        """One of Chrome's own commands."""
        return self.ask("POST", "/goog/cdp/execute", {"cmd": name, "params": values})

    def open(self, url: str, *, width: int = 1280, scheme: str = "light", media: str = "screen") -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.command("Emulation.setDeviceMetricsOverride", **size)
        dark = [{"name": "prefers-color-scheme", "value": scheme}]
        self.command("Emulation.setEmulatedMedia", media=media, features=dark)
        self.ask("POST", "/url", {"url": url})

    def run(self, script: str) -> Any:
        return self.ask("POST", "/execute/sync", {"script": script, "args": []})

    def press(self, key: str) -> None:
        keys = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self.ask("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": keys}]})

    def asked_for(self) -> list[str]:
        """The addresses that it has asked for since the last call."""
        events = [json.loads(one["message"])["message"] for one in self.ask("POST", "/se/log", {"type": "performance"})]
        return [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        return [one["message"] for one in self.ask("POST", "/se/log", {"type": "browser"})]


@contextmanager
def start_browser() -> Iterator[Browser]:
    port = free_port()
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        whole = Browser(f"http://127.0.0.1:{port}")
        wait_until(lambda: _answers(whole), 30, "chromedriver answers")
        options = {
            "goog:chromeOptions": {"args": ARGUMENTS},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        session = whole.ask("POST", "/session", {"capabilities": {"alwaysMatch": options}})["sessionId"]
        browser = Browser(f"http://127.0.0.1:{port}/session/{session}")
        yield browser
        browser.ask("DELETE", "")
    finally:
        driver.terminate()
        driver.wait()


def _answers(browser: Browser) -> bool:
    try:
        return bool(browser.ask("GET", "/status")["ready"])
    except OSError:
        return False
