"""Kinds whose things a network describes under `resources`: what the doors need to know of one, and what its things
have to work with."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from typing_extensions import override

from nixops_proxmox.core.kind import Compared, Kind, Known, Presence, Thing, three_rows
from nixops_proxmox.core.ports import Clock, Reporter
from nixops_proxmox.core.table import Attempt, Lifecycle
from nixops_proxmox.errors import ConfigError, StateError
from nixops_proxmox.model import Facts, Finding, Machine
from nixops_proxmox.pve.api.versions import Release
from nixops_proxmox.pve.cluster.permissions import Need
from nixops_proxmox.spec import NetworkSpec
from nixops_proxmox.spec.marks import bears_mark, mark_of, owner_in, with_mark, without_mark
from nixops_proxmox.spec.resource import ResourceSpec

SPEC = "spec"  # the name of the recorded description among what is known
SAID = "said"  # of what a door was told, if it wants that kept

Sp = TypeVar("Sp", bound=ResourceSpec)
A = TypeVar("A")  # what the kind talks to
S = TypeVar("S")  # what a look shows


def no_router(name: str) -> Any:
    raise ConfigError(f"there is no router {name!r}")


@dataclass(frozen=True)
class KnownNic:
    """What is known of a described machine's NIC. `mac`: lower case; empty: it follows from the UUID of a machine that
    is not made yet. `host`: its name in a list of MACs. `network`: the one that it names, or empty."""

    machine: str
    slot: str
    mac: str
    host: str = ""
    addresses: tuple[str, ...] = ()
    network: str = ""


@dataclass(frozen=True)
class Setting:
    """What the things of a deployment are among. `network` None: nothing is described, as when all is destroyed."""

    deployment: str
    network: NetworkSpec | None
    machines: Callable[[], Sequence[Machine]]  # as recorded
    cluster: Callable[[str], Any]  # the PveHypervisor of a profile
    clock: Clock
    reporter: Reporter[Any]
    nics: Callable[[], Sequence[KnownNic]] = tuple  # of all described machines
    router: Callable[[str], Any] = no_router  # the Router of a profile
    only: str = ""  # the machine that comes or goes, where nothing is done for others now
    made: Callable[[], Sequence[ResourceSpec]] = tuple  # the recorded resources, as they were described last
    sources: Any = None  # the images of templates: kinds.template.ports.Sources


def _nothing_runs(facts: Known) -> str:
    del facts
    return ""


@dataclass(frozen=True)
class ResourceWorld(Generic[Sp, A]):
    """Everything outside, for one thing. `mark`: the text that says whose it is, for comments. `running`: the UPID of
    a task that the last errand of these facts began and that may still run."""

    spec: Sp
    mark: str
    api: A
    clock: Clock
    reporter: Reporter[Thing]
    wait: Callable[[str], None]
    setting: Setting | None = None
    running: Callable[[Known], str] = _nothing_runs

    def wait_for_task(self, upid: str) -> None:
        self.wait(upid)

    def find_task(self, facts: Known, kind: str) -> str:
        """Tasks are told by their UPID, unless `running` finds them."""
        del kind
        return self.running(facts)


@dataclass(frozen=True)
class Stranger:
    """What stands where a thing of ours is described, without our mark. `comment`: its own. `differences`: what a
    deploy changes once it is ours, a line each. `claim`: writes our mark into its comment, and nothing else; it is safe
    to repeat. `parts`: what gets our mark, a line each, where that is more than one."""

    comment: str
    differences: Sequence[str]
    claim: Callable[[], None]
    parts: Sequence[str] = ()

    @property
    def owner(self) -> str:
        """The mark of another deployment, or of another thing; empty: it has none."""
        return owner_in(self.comment)


@dataclass(frozen=True)
class Describable:
    """`spec`: the model of its options. `world` gets such a spec, and where it stands. `needs`: the privileges that a
    thing with this spec needs on a cluster of this release. `foresee`: what is done to it when a machine with these
    NICs is made, a line each. `examine`: what a doctor finds where it is to be; DeployError for what does not answer.
    `remarks`: why a thing that is as described has no effect, or not all of it, a line each. `outline`: what a new one
    will be, a line each. `stranger`: what stands in its place; None: nothing does, or it is ours. A kind without that
    takes over nothing.
    """

    spec: type[ResourceSpec]
    world: Callable[[Any, Setting], Any]
    needs: Callable[[Any, Release], Iterable[Need]] = lambda _spec, _release: ()
    foresee: Callable[[Any, str, Sequence[KnownNic]], Iterable[str]] = lambda _spec, _deployment, _nics: ()
    examine: Callable[[Any, Setting], Iterable[Finding]] = lambda _spec, _setting: ()
    remarks: Callable[[Any], Iterable[str]] = lambda _world: ()
    outline: Callable[[Any], Iterable[str]] = lambda _world: ()
    stranger: Callable[[Any], Stranger | None] | None = None


def stranger_at(
    comment: str | None, mark: str, differences: Callable[[str], Sequence[str]], claim: Callable[[str], None]
) -> Stranger | None:
    """The thing with this comment; None: there is none, or it is ours. `differences`, `claim`: by its comment with our
    mark."""
    if comment is None or bears_mark(comment, mark):
        return None
    marked = with_mark(comment, mark)
    return Stranger(comment, differences(marked), lambda: claim(marked))


def comment_changes(have: str, want: str, mark: str) -> list[str]:
    """How a comment that bears our mark differs from the described one."""
    have = without_mark(have, mark)
    return [] if have == want else [f"comment: {have!r} becomes {want!r}"]


def vm_facts(setting: Setting | None, machine: str) -> Facts | None:
    """None: the record has no VM of the machine."""
    machines = () if setting is None else setting.machines()
    facts = next((one.facts for one in machines if one.name == machine), None)
    return facts if facts is not None and facts.vmid else None


def pve_world(spec: Sp, setting: Setting, api: Callable[[Any], A]) -> ResourceWorld[Sp, A]:
    """The world of a thing that a cluster has. `api`: the part of the hypervisor that the kind talks to."""
    hypervisor = setting.cluster(spec.profile)
    return ResourceWorld(
        spec,
        mark_of(setting.deployment, spec.name),
        api(hypervisor),
        setting.clock,
        setting.reporter,
        hypervisor.wait_for_task,
        setting,
    )


class Remembered(Kind[ResourceWorld[Sp, A], S]):
    """A kind whose record keeps the description, so that a thing can be removed that is no longer described."""

    def __init__(self, kind: Kind[ResourceWorld[Sp, A], S]) -> None:
        self._kind = kind

    @property
    @override
    def name(self) -> str:
        return self._kind.name

    @override
    def look(self, world: ResourceWorld[Sp, A], thing: Thing, /) -> S | None:
        return self._kind.look(world, thing)

    @override
    def diff(self, world: ResourceWorld[Sp, A], found: S, /) -> Sequence[str]:
        return self._kind.diff(world, found)

    @override
    def apply(self, world: ResourceWorld[Sp, A], thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        attempt.note(with_spec(attempt.facts, world.spec))
        said = attempt.facts.values.get(SAID, "")
        return with_said(with_spec(self._kind.apply(world, thing, attempt), world.spec), said)

    @override
    def remove(self, world: ResourceWorld[Sp, A], thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        return self._kind.remove(world, thing, attempt)


def described_rows(
    kind: Kind[ResourceWorld[Sp, A], S],
) -> Lifecycle[Presence, ResourceWorld[Sp, A], Thing, Known, Compared[S]]:
    """The table of a kind of four functions whose things are described under `resources`."""
    return three_rows(Remembered(kind))


def with_spec(facts: Known, spec: ResourceSpec) -> Known:
    return replace(facts, values={**facts.values, SPEC: spec.model_dump_json(exclude_defaults=True)})


def with_said(facts: Known, said: str) -> Known:
    """With what a door was told; nothing: what is known of that stays."""
    return replace(facts, values={**facts.values, SAID: said}) if said else facts


def recorded_spec(model: type[Sp], thing: Thing) -> Sp | None:
    """The description with which the thing was made last; None: there is none. StateError if it cannot be read."""
    text = thing.facts.values.get(SPEC)
    if text is None:
        return None
    try:
        spec = model.model_validate_json(text, strict=True)
    except ValueError as error:
        raise StateError(
            f"the record of the {thing.kind} {thing.name} cannot be read: {error}",
            hint="upgrade nixops-proxmox, or restore the state from a backup",
        ) from error
    return spec
