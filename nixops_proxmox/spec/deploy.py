"""How a deploy changes a machine: how a new system is taken into use, beside which others, and what is told before."""

from typing import Annotated, Literal

from pydantic import Field

from nixops_proxmox.spec import values as v
from nixops_proxmox.spec.frozen import Frozen


class Strategy(Frozen):
    """Which machines of a group are changed at the same time. `group` None: the group of all that name none. `batch`
    None: all at once."""

    group: v.Group | None = None
    batch: v.Batch | None = None
    canary: bool = False
    max_failures: Annotated[int, Field(ge=0, le=100_000)] = 0


class HookSpec(Frozen):
    """Commands that run here, each a program with its arguments. `timeout`: seconds for each."""

    before: Annotated[tuple[v.Argument, ...], v.NotEmpty] | None = None
    after: Annotated[tuple[v.Argument, ...], v.NotEmpty] | None = None
    timeout: Annotated[int, Field(ge=1, le=86400)] = 300


class HttpCheck(Frozen):
    """A request from here to the machine."""

    port: v.Port = 80
    path: v.HttpPath = "/"
    status: Annotated[int, Field(ge=100, le=599)] = 200


class HealthSpec(Frozen):
    """All of it must hold before a system is confirmed."""

    units: Annotated[tuple[v.UnitName, ...], v.Unique] = ()
    tcp: Annotated[tuple[v.Port, ...], v.Unique] = ()
    http: tuple[HttpCheck, ...] = ()
    command: v.Script | None = None


class CacheSpec(Frozen):
    """A binary cache: the store that we copy to, and where the machine fetches."""

    push: v.CacheStore
    url: v.CacheUrl


class CopySpec(Frozen):
    """How a system gets to the machine. `from_caches`: it fetches from its own binary caches what they have."""

    from_caches: bool = False
    compress: bool = False
    cache: CacheSpec | None = None


class DeploySpec(Frozen):
    """`probation`: seconds that the guest waits for our word before it goes back by itself; 0: none."""

    strategy: Strategy = Strategy()
    hooks: HookSpec = HookSpec()
    probation: Annotated[int, Field(ge=0, le=86400)] = 120
    failed_units: Literal["revert", "accept"] = "revert"
    health: HealthSpec = HealthSpec()
    snapshot: bool = False
    copying: CopySpec = CopySpec()
    build_on: Literal["here", "guest"] = "here"
