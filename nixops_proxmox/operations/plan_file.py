"""A plan in a file: a later deploy does what was shown, or nothing. A machine, a volume or a resource that has changed
since is left alone, with the difference told; the others are deployed."""

import json
import os
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from nixops_proxmox.core.graph import Ref, Wants
from nixops_proxmox.errors import ConfigError, StateError
from nixops_proxmox.kinds.machine.steps.hardware import DIGEST
from nixops_proxmox.kinds.names import MACHINE
from nixops_proxmox.operations.read_only import Planned
from nixops_proxmox.spelling import Verb, command

FORMAT = 2
ALLOWED = ("allow_reboot", "allow_recreate", "make_another")  # what a plan, and the deploy of it, may be allowed


@dataclass(frozen=True)
class Promise:
    """What was shown of one machine. `world`: what it was shown for, by name; long values as digests."""

    effect: str
    moves: tuple[str, ...]
    restart: tuple[str, ...]
    system: str
    changes: tuple[tuple[str, str, str], ...]  # PVE's key, what it has, what is wanted
    world: Mapping[str, str]

    @classmethod
    def of(cls, plan: Planned) -> Self:
        changes = tuple((one.key, one.have, one.want) for one in plan.changes)
        return cls(plan.effect.value, plan.moves, plan.restart, plan.system, changes, plan.world)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `asdict`; TypeError, ValueError or KeyError for anything else."""
        changes = tuple((str(key), str(have), str(want)) for key, have, want in data["changes"])
        world = _texts(data["world"])
        moves, restart = tuple(map(str, data["moves"])), tuple(map(str, data["restart"]))
        return cls(str(data["effect"]), moves, restart, str(data["system"]), changes, world)


@dataclass(frozen=True)
class SavedPlan:
    """`things`: what volumes and resources were shown as, by name of the thing. `allow_…`: what the plan was allowed to
    do, as the deploy will be. `removals`: what destroying machines that are not described any more was said to take and
    leave, a line each, by name. `removed`: the names of the resources that go."""

    deployment: str
    machines: Mapping[str, Promise]
    things: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    allow_reboot: bool = False
    allow_recreate: bool = False
    make_another: bool = False
    removals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    format: int = field(default=FORMAT)


def save_plan(path: Path, plan: SavedPlan) -> None:
    """Only its owner may read it: configurations are in it. Raises ConfigError if it cannot be written."""
    new = path.with_name(f"{path.name}.new")
    try:
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(plan), file, indent=1, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(descriptor)
        new.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write the plan to {path}: {error.strerror}") from error


def load_plan(path: Path) -> SavedPlan:
    """Raises ConfigError for a file that cannot be read, or that no plan of this version is in."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise ConfigError(f"{path}: another version of nixops-proxmox wrote this plan", hint=_again(path))
        machines = {str(name): Promise.from_json(one) for name, one in data["machines"].items()}
        allowed = {name: bool(data[name]) for name in ALLOWED}
        removals = {str(name): tuple(map(str, lines)) for name, lines in data["removals"].items()}
        things = {str(name): _texts(world) for name, world in data["things"].items()}
        removed = tuple(map(str, data["removed"]))
        return SavedPlan(str(data["deployment"]), machines, things, removed, removals=removals, **allowed)
    except OSError as error:
        raise ConfigError(f"cannot read the plan in {path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path} is no plan", hint=_again(path)) from error


def refuse_moved_world(name: str, promise: Promise, now: Planned) -> None:
    """Raises StateError if the machine or its description has changed since the plan was made."""
    differences = list(find_differences(promise, Promise.of(now)))
    if differences:
        raise StateError(
            f"{name}: it has changed since the plan was made; nothing was done to it: {'; '.join(differences)}",
            hint=f"{command(Verb.PLAN)} shows what a deploy would do now",
        )


def refuse_moved_thing(ref: Ref, then: Mapping[str, str] | None, now: Mapping[str, str]) -> None:
    """Raises StateError if the volume or resource, or its description, has changed since the plan was made. `then`
    None: the plan does not have it."""
    differences = list(_find_moved(then or {}, now))
    if differences:
        why = "; ".join(differences) if then is not None else "the plan does not have it"
        raise StateError(
            f"{ref.kind} {ref.name}: it has changed since the plan was made; nothing was done to it: {why}",
            hint=f"{command(Verb.PLAN)} shows what a deploy would do now",
        )


def without_new(wants: Wants, known: Container[str]) -> Wants:
    """The same, without things that no machine waits for and that a saved plan does not know."""
    waited = {ref for others in wants.values() for ref in others}
    return {ref: others for ref, others in wants.items() if ref.kind == MACHINE or ref in waited or str(ref) in known}


def find_differences(then: Promise, now: Promise) -> Iterator[str]:
    """What is not as it was, a line each, the cause before what follows from it."""
    yield from _find_moved(then.world, now.world)
    if then.system != now.system:
        yield f"the system was {then.system or 'to stay'}, and is {now.system or 'to stay'}"
    if then.changes != now.changes:
        gone = [one for one in then.changes if one not in now.changes]
        new = [one for one in now.changes if one not in then.changes]
        yield f"it would have changed {_keys(gone)}, and would change {_keys(new)}"
    if (then.effect, then.moves, then.restart) != (now.effect, now.moves, now.restart):
        yield f"it was to {then.effect}, and is to {now.effect}"


def _find_moved(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for key in sorted({*then, *now}):
        before, after = then.get(key, "nothing"), now.get(key, "nothing")
        if before.startswith(DIGEST) and after.startswith(DIGEST) and before != after:
            yield f"{key} has changed"
        elif before != after:
            yield f"{key} was {before}, and is {after}"


def _texts(world: Mapping[Any, Any]) -> Mapping[str, str]:
    return {str(key): str(value) for key, value in dict(world).items()}


def _keys(changes: Sequence[tuple[str, str, str]]) -> str:
    return ", ".join(f"{key} to {want or '(none)'}" for key, _, want in changes) or "nothing more"


def _again(path: Path) -> str:
    return f"{command(Verb.PLAN, f'--out {path}')} writes one"
