"""In which order the machines of a group are changed, how many at a time, and when the rest is left alone.

Everything here is a matter of names. What wants what stays as it is: a batch only comes after those before it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from nixops_proxmox.core.graph import Errors, Ref, Wants, waves
from nixops_proxmox.errors import DeployError, NotBegun
from nixops_proxmox.kinds.names import MACHINE
from nixops_proxmox.spec import Strategy


@dataclass(frozen=True)
class Rollout:
    """A group of machines that is changed a batch after another. `canaries`: the first batch is of them, and none of
    them may fail. `group` empty: of all machines that name none."""

    group: str
    batches: tuple[tuple[str, ...], ...]
    max_failures: int = 0
    canaries: bool = False

    @property
    def title(self) -> str:
        return f"the group {self.group}" if self.group else "its group"

    @property
    def names(self) -> list[str]:
        return [name for batch in self.batches for name in batch]

    def find_hindrance(self, ended: Errors) -> str:
        """Why no other batch begins. Empty: it does."""
        failed = [name for name in self.names if _has_failed(ended.get(Ref(MACHINE, name)))]
        first = [name for name in failed if self.canaries and name in self.batches[0]]
        if first:
            return f"{_named(first)} failed, which {'come' if len(first) > 1 else 'comes'} first in {self.title}"
        if len(failed) > self.max_failures:
            return f"{_named(failed)} failed, and {self.title} may have {self.max_failures} failures"
        return ""


def _has_failed(error: DeployError | None) -> bool:
    return error is not None and not isinstance(error, NotBegun)


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def size_of(batch: str | None, count: int) -> int:
    """How many machines of `count`; at least one."""
    if batch is None:
        return max(count, 1)
    share = batch.removesuffix("%")
    return max(1, -(-count * int(share) // 100)) if share != batch else int(batch)


def draw_up(strategies: Mapping[str, Strategy], wants: Wants) -> list[Rollout]:
    """The groups that are not changed all at once. `strategies`: of the machines that are worked on, by name. SpecError
    if canaries and what they want stand in a circle."""
    groups: dict[str, list[str]] = {}
    for name in sorted(strategies):
        groups.setdefault(strategies[name].group or "", []).append(name)
    first = {group: _canaries(names, strategies, wants) for group, names in groups.items()}
    order = {ref: set(wanted) for ref, wanted in wants.items()}
    for group, names in groups.items():
        for name in [name for name in names if name not in first[group]]:
            order.setdefault(Ref(MACHINE, name), set()).update(Ref(MACHINE, one) for one in first[group])
    place = {ref: number for number, wave in enumerate(waves(order)) for ref in wave}
    found = []
    for group, names in groups.items():
        strategy = strategies[names[0]]
        if strategy.batch is None and not first[group]:
            continue
        sorted_names = sorted(names, key=lambda name: (place.get(Ref(MACHINE, name), 0), name))
        rest = [name for name in sorted_names if name not in first[group]]
        size = size_of(strategy.batch, len(names))
        batches = [tuple(rest[start : start + size]) for start in range(0, len(rest), size)]
        canaries = tuple(name for name in sorted_names if name in first[group])
        found.append(
            Rollout(group, (canaries, *batches) if canaries else (*batches,), strategy.max_failures, bool(canaries))
        )
    return found


def _canaries(names: Sequence[str], strategies: Mapping[str, Strategy], wants: Wants) -> set[str]:
    """With those of the group that canaries want: they come before them in any case."""
    found = {name for name in names for strategy in [strategies[name]] if strategy.canary}
    open_refs = [Ref(MACHINE, name) for name in found]
    seen = set(open_refs)
    while open_refs:
        for other in set(wants.get(open_refs.pop(), ())) - seen:
            seen.add(other)
            open_refs.append(other)
    return found | {name for name in names if Ref(MACHINE, name) in seen}


def with_batches(after: Wants, rollouts: Sequence[Rollout], wants: Wants) -> Wants:
    """`after`, and each machine after the batch before its own."""
    found = {ref: set(others) for ref, others in after.items()}
    for rollout in rollouts:
        for earlier, later in zip(rollout.batches, rollout.batches[1:], strict=False):
            for ref in [Ref(MACHINE, name) for name in later]:
                found.setdefault(ref, set()).update(other for name in earlier if (other := Ref(MACHINE, name)) in wants)
    return found


def find_held(names: Collection[str], rollouts: Sequence[Rollout], ended: Errors) -> dict[str, NotBegun]:
    """Those of the machines that are not begun any more, because of what happened to others of their groups."""
    held: dict[str, NotBegun] = {}
    for rollout in rollouts:
        mine = [name for name in rollout.names if name in names]
        why = rollout.find_hindrance(ended) if mine else ""
        for name in mine if why else ():
            held[name] = NotBegun(f"{name}: not begun, because {why}", hint="it is as it was before")
    return held
