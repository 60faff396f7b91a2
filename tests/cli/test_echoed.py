"""Whatever the cluster repeats or makes up: no secret of ours, and nothing that steers a terminal, is shown or kept."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.pace import patience
from tests.pve.stub import Asked, Reply, Stub, data, refuse

if TYPE_CHECKING:
    pass

SECRET = "11111111-2222-3333-4444-555555555555"
PASSWORD = "correct horse battery"
TICKET = "PVE:root@pam:6650A1B2::dGhpcyBpcyBub3QgYSByZWFsIHNpZ25hdHVyZQ=="
UUID = "5e0b9a44-8d0e-4f1e-9a3e-3f0a2c1b7d55"
CSRF = "6650A1B2:c29tZXRoaW5nIHRoYXQgbG9va3MgbGlrZSBhIHRva2Vu"


@dataclass
class Seat:
    """A user with one recorded machine, on a cluster that is the stub."""

    home: Path

    def run(self, *words: str) -> "subprocess.CompletedProcess[bytes]":
        folders = {f"XDG_{kind}_HOME": str(self.home / kind.lower()) for kind in ("STATE", "CONFIG", "CACHE")}
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PROXMOX_VE_")}
        return subprocess.run(
            [sys.executable, "-m", "nixops_proxmox", *words],
            env=environment | folders | {"PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            check=False,
            timeout=patience(60),
            cwd=self.home,
        )

    def kept(self) -> bytes:
        return b"".join(path.read_bytes() for path in (self.home / "state").rglob("state.sqlite*"))


@pytest.fixture
def seat(tmp_path: Path, stub: Stub) -> Seat:
    from nixops_proxmox.model import Facts, Machine, Phase
    from nixops_proxmox.state import open_state

    with open_state(str(tmp_path / "state" / "nixops-proxmox" / "state.sqlite")) as state:
        facts = Facts(uuid=UUID, profile="default", vmid=101, node="pve1")
        machine: Machine = Machine("default", "web", Phase.READY, facts)
        state.deployment("default").journal().record(machine, "Found")
    return Seat(tmp_path)


def write_profile(seat: Seat, stub: Stub, **settings: str) -> None:
    values = {"endpoints": stub.url, "fingerprint": stub.certificates.fingerprint, **settings}
    (seat.home / "config" / "nixops-proxmox").mkdir(parents=True)
    file = seat.home / "config" / "nixops-proxmox" / "profiles.toml"
    file.write_text("[default]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    file.chmod(0o600)


def standing(asked: Asked) -> Reply | None:
    """One running VM, as far as is asked of it."""
    vm = {"vmid": 101, "name": "web", "status": "running", "qmpstatus": "running", "type": "qemu", "node": "pve1"}
    config = {"smbios1": f"uuid={UUID}", "name": "web", "memory": "1024", "digest": "0" * 40}
    match asked.method, asked.path.rpartition("/")[2]:
        case "POST", "ticket":
            return data({"ticket": TICKET, "CSRFPreventionToken": CSRF, "username": "root@pam"})
        case "GET", "resources":
            return data([vm, {"type": "node", "node": "pve1", "status": "online"}])
        case "GET", "config":
            return data(config)
        case "GET", "pending":
            return data([{"key": key, "value": value} for key, value in config.items()])
        case "GET", "current":
            return data(vm)
        case "GET", "version":
            return data({"version": "8.4.1", "release": "8.4"})
    return None


def echo(asked: Asked) -> Reply:
    """As a proxy with its debugging left on."""
    told = "; ".join(f"{name}: {value}" for name, value in asked.headers.items())
    return standing(asked) or refuse(500, f"upstream said no to [{told}]", errors={"all": told}, full=f"{told}\n{told}")


@pytest.mark.parametrize("login", ["token", "password"])
def test_an_echoed_secret_is_neither_shown_nor_kept(seat: Seat, stub: Stub, login: str) -> None:
    credentials = {"token": f"deploy@pve!ops={SECRET}"} if login == "token" else {}
    write_profile(seat, stub, **(credentials or {"username": "root@pam", "password": PASSWORD}))
    stub.answer = echo
    told = [seat.run(*words) for words in (["stop", "web", "-vv"], ["history", "web", "-v"], ["history", "--json"])]
    assert [done.returncode for done in told] == [4, 0, 0], told
    for place in (*(done.stdout + done.stderr for done in told), seat.kept()):
        assert b"***" in place, "it was told, and blanked"
        for secret in (SECRET, PASSWORD, TICKET.partition("::")[2], CSRF.partition(":")[2]):
            assert secret.encode() not in place, secret
