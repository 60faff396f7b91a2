"""One API call, and the table of operations that calls are looked up in."""

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.container import Container
from nixops_proxmox.lab.refusals import no_permission
from nixops_proxmox.lab.schema.firewall import NAME, NAME_LENGTH
from nixops_proxmox.lab.schema.types import Param, Table, integer, matching, named, text
from nixops_proxmox.lab.schema.vm import MEMORY_7
from nixops_proxmox.lab.vm import Vm


@dataclass
class Call:
    """`uri` are the path's placeholders, `params` the checked parameters (URI's included)."""

    cluster: Cluster
    auth: Auth
    method: str
    path: str
    uri: dict[str, str]
    params: dict[str, Any]
    entry: str  # the node whose API was asked
    extra: dict[str, Any] = field(default_factory=dict)  # keys beside `data` in the answer: total
    request: Any = None  # aiohttp's, for uploads and websockets

    @property
    def node(self) -> str:
        return self.entry if self.uri["node"] == "localhost" else self.uri["node"]

    @property
    def vmid(self) -> int:
        return int(self.uri["vmid"])

    @property
    def vm(self) -> Vm:
        return self.cluster.get_vm(self.node, self.vmid)

    @property
    def container(self) -> Container:
        return self.cluster.get_container(self.node, self.vmid)

    def get(self, name: str, default: Any = None) -> Any:
        return self.params.get(name, default)

    def allows(self, path: str, *names: str, any_of: bool = False) -> bool:
        return self.cluster.allows(self.auth, path, *names, any_of=any_of)

    def require(self, path: str, *names: str, any_of: bool = False) -> None:
        self.cluster.require(self.auth, path, *names, any_of=any_of)


Handler = Callable[[Call], Awaitable[Any]]
Permission = Callable[[Call], None]


# Permission specifications: run before parameters are checked, as PVE does.


def anyone(call: Call) -> None:
    """Any user who is logged in; the handler filters."""


def needs(path: str, *names: str, any_of: bool = False) -> Permission:
    """Privileges on a path with placeholders of the call's parameters."""

    def check(call: Call) -> None:
        call.require(fill(path, call.params), *names, any_of=any_of)

    return check


def either(*checks: Permission) -> Permission:
    """One of them is enough; the refusal then has no detail."""

    def check(call: Call) -> None:
        from nixops_proxmox.lab.refusals import Refused

        for one in checks:
            try:
                one(call)
            except Refused:
                continue
            return
        raise no_permission()

    return check


def fill(path: str, values: Mapping[str, Any]) -> str:
    filled = re.sub(r"\{(\w[\w-]*)\}", lambda found: str(values.get(found[1], "")), path)
    return filled if re.fullmatch(r"[A-Za-z0-9.\-_/@!]*", filled) else ""


# The table.

URI_PARAMS: Table = {
    "node": named("pve-node", optional=False),
    "vmid": integer(100, 999999999, format="pve-vmid", optional=False),
    "storage": named("pve-storage-id", optional=False),
    "volume": text(optional=False),
    "upid": text(optional=False),
    "snapname": named("pve-configid", max_length=40, optional=False),
    "userid": text(optional=False),
    "tokenid": named("pve-tokenid", optional=False),
    "roleid": named("pve-roleid", optional=False),
    "poolid": named("pve-poolid", optional=False),
    "iface": named("pve-iface", optional=False),
    "sid": text(optional=False),
    "id": text(optional=False),
    "rule": text(optional=False),
    "group": matching(NAME, min_length=2, max_length=18, optional=False),  # a security group of the firewall
    "name": matching(NAME, min_length=2, max_length=NAME_LENGTH, optional=False),  # an alias or an IP set of it
    "cidr": text(optional=False),
    "hagroup": named("pve-configid", optional=False),
    "groupid": text(optional=False),
    "pos": integer(0, optional=False),
    "zone": text(optional=False),
    "vnet": matching(r"[a-zA-Z][a-zA-Z0-9]*[a-zA-Z0-9]", min_length=2, max_length=8, optional=False),
    "subnet": text(optional=False),
    "ipam": text(optional=False),
}


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    handler: Handler
    params: Table
    permission: Permission | None  # None: world, no login needed
    allow_token: bool = True
    since: tuple[int, int] = (0, 0)
    until: tuple[int, int] = (99, 0)
    reads_body: bool = False  # the handler reads the body itself (upload)

    def table(self, number: tuple[int, int]) -> dict[str, Param]:
        """The parameters of one release, the path's own included."""
        uri = {name: URI_PARAMS[name] for name in re.findall(r"\{(\w+)\}", self.path)}
        older = {"memory": MEMORY_7} if number < (8, 0) and "memory" in self.params else {}
        return {**self.params, **older, **uri}


class Routes:
    """Operations, found by method and path."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def add(
        self, method: str, path: str, params: Table | None = None, permission: Permission | None = anyone, **more: Any
    ) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            self.operations.append(Operation(method, path, handler, params or {}, permission, **more))
            return handler

        return register

    def get(
        self, path: str, params: Table | None = None, permission: Permission | None = anyone, **more: Any
    ) -> Callable[[Handler], Handler]:
        return self.add("GET", path, params, permission, **more)

    def post(
        self, path: str, params: Table | None = None, permission: Permission | None = anyone, **more: Any
    ) -> Callable[[Handler], Handler]:
        return self.add("POST", path, params, permission, **more)

    def put(
        self, path: str, params: Table | None = None, permission: Permission | None = anyone, **more: Any
    ) -> Callable[[Handler], Handler]:
        return self.add("PUT", path, params, permission, **more)

    def delete(
        self, path: str, params: Table | None = None, permission: Permission | None = anyone, **more: Any
    ) -> Callable[[Handler], Handler]:
        return self.add("DELETE", path, params, permission, **more)


class Directory:
    """All routes, as a tree of path components. `{volume}` takes the rest of the path, slashes and all."""

    def __init__(self, *routes: Routes, areas: Mapping[str, Iterable[str]]) -> None:
        """`areas`: what PVE's indexes list, by the path of the index."""
        self._tables: dict[tuple[int, tuple[int, int]], dict[str, Param]] = {}
        self._patterns: list[tuple[re.Pattern[str], str, Operation]] = []
        for one in routes:
            for operation in one.operations:
                self._patterns.append((_pattern(operation.path), operation.method, operation))
        served = {part for _, _, operation in self._patterns for part in _beginnings(operation.path)}
        paths = [f"{index}/{area}" for index, names in areas.items() for area in names]
        self._beyond = [_pattern(f"{path}(/.*)?") for path in paths if path not in served]

    def table(self, operation: Operation, number: tuple[int, int]) -> dict[str, Param]:
        """An operation's parameters in one release; made once, for there are hundreds of configuration keys."""
        key = (id(operation), number)
        if key not in self._tables:
            full = operation.table(number)
            self._tables[key] = {name: param.of(number) for name, param in full.items() if param.exists_in(number)}
        return self._tables[key]

    def find(self, method: str, path: str, number: tuple[int, int]) -> tuple[Operation, dict[str, str]] | None:
        for pattern, its_method, operation in self._patterns:
            if its_method != method or not operation.since <= number <= operation.until:
                continue
            found = pattern.fullmatch(path)
            if found:
                return operation, found.groupdict()
        return None

    def is_beyond(self, path: str) -> bool:
        """Whether a path belongs to an area of PVE that the lab does not have. A path that PVE does not know either is
        answered in PVE's words alone."""
        return any(pattern.fullmatch(path) for pattern in self._beyond)


def _beginnings(path: str) -> Iterator[str]:
    """/a/b → /a, /a/b"""
    parts = path.split("/")
    return ("/".join(parts[:end]) for end in range(2, len(parts) + 1))


def _pattern(path: str) -> re.Pattern[str]:
    special = {"volume": r".+", "cidr": r".+", "storage": r"[a-zA-Z][a-zA-Z0-9\-_.]*[a-zA-Z0-9]"}
    return re.compile(re.sub(r"\{(\w+)\}", lambda found: f"(?P<{found[1]}>{special.get(found[1], '[^/]+')})", path))


# Parameters that many operations share.
DIGEST = text(40)
TIMEOUT = integer(0)
STORAGE = matching(r"[a-zA-Z][a-zA-Z0-9\-_.]*[a-zA-Z0-9]")
