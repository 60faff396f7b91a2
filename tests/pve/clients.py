"""Clients of stub servers; they never really sleep."""

from collections.abc import Callable
from typing import Any

from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.api.connection import connect
from nixops_proxmox.pve.wire.calls import CallDone
from nixops_proxmox.pve.wire.profiles import parse_profile
from nixops_proxmox.pve.wire.tls import IDLE, always
from tests.pve.stub import Stub

TOKEN = "deploy@pve!ops=11111111-2222-3333-4444-555555555555"


class Clients:
    """Makes clients of stubs; remembers what they traced and how long they would have slept."""

    def __init__(self) -> None:
        self.traced: list[CallDone] = []
        self.slept: list[float] = []
        self.made: list[PveClient] = []
        self.idle = IDLE  # seconds, of those that are made from now on
        self.may_act: Callable[[], None] = always  # of those that are made from now on

    def __call__(self, *stubs: Stub, **settings: Any) -> PveClient:
        urls = [stub.url for stub in stubs]
        table: dict[str, Any] = {"endpoints": urls, "fingerprint": stubs[0].certificates.fingerprint}
        table |= settings
        if not {"password", "password_command", "token_command"} & table.keys():
            table.setdefault("token", TOKEN)
        table = {key: value for key, value in table.items() if value is not None}
        profile = parse_profile("test", table)
        client = connect(
            profile, trace=self.traced.append, sleep=self.slept.append, may_act=self.may_act, idle=self.idle
        )
        self.made.append(client)
        return client
