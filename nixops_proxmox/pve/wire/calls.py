"""One API call as data: what is asked, where, how long to wait for the answer, and how it looks in a trace."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote

from nixops_proxmox.errors import BadParameter

HttpMethod = Literal["GET", "POST", "PUT", "DELETE"]
Value = str | int | float | bool | bytes | Sequence[str] | None

SECRET_KEYS = frozenset(
    {
        "password",
        "cipassword",
        "sshkeys",
        "otp",
        "tfa-challenge",
        "input-data",
        "content",
        "value",
        "vncticket",
        "ticket",
    }
)


WITH_SLASHES = frozenset({"volume", "cidr"})  # values that are a path's end, slashes and all


@dataclass(frozen=True)
class Timeouts:
    """Seconds for the connection, for each wait on the answer, and for all of it: a server may send a byte a minute."""

    connect: float
    read: float
    whole: float


# PVE gives up on a proxied call after 30 s and says 596, so ours is a little longer and hears that.
QUICK = Timeouts(5, 35, 60)
SLOW = Timeouts(5, 75, 120)  # calls that allocate or hotplug before they answer
TRANSFER = Timeouts(10, 900, 4 * 3600)  # uploads: the read time also covers activating the storage after the last byte


@dataclass(frozen=True)
class Call:
    """`template` is the path, its {placeholders} are filled from `where`. `poll`: one of many alike, counted apart."""

    method: HttpMethod
    template: str
    where: Mapping[str, str | int] = field(default_factory=dict)
    params: Mapping[str, Value] = field(default_factory=dict)  # a mappingproxy has no hash before Python 3.12
    poll: bool = False
    patience: Timeouts = QUICK

    @property
    def name(self) -> str:
        """How calls are counted: "GET /nodes/{node}/qemu/{vmid}/config"."""
        return f"{self.method} {self.template}"

    @property
    def path(self) -> str:
        """The path below /api2/json, percent-encoded; BadParameter for a value that cannot be a path segment."""
        return self.template.format_map({key: quote_segment(key, value) for key, value in self.where.items()})

    @property
    def shown(self) -> str:
        """The call without its parameters, readable, for messages and traces."""
        return f"{self.method} {self.template.format_map({key: str(value) for key, value in self.where.items()})}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """Parameter values that must not show up in any text."""
        return tuple(
            str(value) for key, value in self.params.items() if key in SECRET_KEYS and isinstance(value, str) and value
        )


@dataclass(frozen=True)
class CallDone:
    """What a trace is told of each exchange with the server, the failed ones too."""

    call: Call
    server: str
    seconds: float
    status: int = 0  # 0: no answer
    error: str = ""


Trace = Callable[[CallDone], None]


def no_trace(_done: CallDone) -> None:
    """Ignore it."""


def quote_segment(name: str, value: str | int) -> str:
    """A value as part of a path. Only some may hold slashes. Nothing may climb out of its place."""
    text, may_slash = str(value), name in WITH_SLASHES
    parts = text.split("/") if may_slash else [text]
    if any(part in ("", ".", "..") for part in parts) or (not may_slash and "/" in text) or "\0" in text:
        raise BadParameter(f"{text!r} cannot be used as {name} in a PVE path", errors={name: "not a path segment"})
    return quote(text, safe=":/" if may_slash else ":")


def encode_params(params: Mapping[str, Value]) -> dict[str, str | bytes | list[str]]:
    """The parameters as PVE's form decoder wants them: booleans as 1 and 0, lists as repeated keys, and None left
    out."""
    return {key: _encoded(value) for key, value in params.items() if value is not None}


def _encoded(value: Value) -> str | bytes | list[str]:
    match value:
        case bool():
            return "1" if value else "0"
        case str() | bytes():
            return value
        case float() if math.isfinite(value) and value == int(value):
            return str(int(value))
        case int() | float():
            return str(value)
        case None:
            return ""
        case _:
            return [str(item) for item in value]
