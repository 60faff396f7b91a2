"""Things refer to each other: what comes first, and what a failure stops. No thread is started here."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from typing_extensions import override

from nixops_proxmox.errors import DeployError, NotBegun, SpecError


@dataclass(frozen=True, order=True)
class Ref:
    """A thing, by kind and name."""

    kind: str
    name: str

    @override
    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"


Wants = Mapping[Ref, Collection[Ref]]  # by thing: what must be there before it
Errors = Mapping[Ref, DeployError | None]


def waves(wants: Wants) -> list[list[Ref]]:
    """What can be worked on side by side, in order: each thing comes after all that it wants. SpecError for a cycle, or
    for a thing that nothing describes."""
    for ref, wanted in wants.items():
        for other in wanted:
            if other not in wants:
                raise SpecError(f"{ref} wants {other}, which is not in the description")
    sorter = TopologicalSorter({ref: sorted(wants[ref]) for ref in sorted(wants)})
    try:
        sorter.prepare()
    except CycleError as error:
        path = " wants ".join(str(ref) for ref in reversed(error.args[1]))
        raise SpecError(f"things depend on each other in a circle: {path}") from error
    found: list[list[Ref]] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        found.append(ready)
        sorter.done(*ready)
    return found


def walk(
    wants: Wants, work: Callable[[Sequence[Ref]], Errors], after: Wants | None = None
) -> dict[Ref, DeployError | None]:
    """Work on all things, a wave at a time; `work` does one wave side by side and returns each thing's error, if any.
    What wants a thing that failed is not worked on, and its error says which one; everything else is. `after`: what
    else is worked on first, and may fail."""
    ended: dict[Ref, DeployError | None] = {}
    order = {ref: {*wanted, *((after or {}).get(ref, ()))} for ref, wanted in wants.items()}
    for wave in waves(order):
        able = []
        for ref in wave:
            failed = next((other for other in sorted(wants[ref]) if ended[other] is not None), None)
            if failed is None:
                able.append(ref)
            else:
                ended[ref] = NotBegun(
                    f"{ref}: not begun, because {failed} failed", hint=f"see what stopped {failed}, and run this again"
                )
        ended.update(work(able))
    return ended


def reverse(wants: Wants) -> dict[Ref, set[Ref]]:
    """The order of removal: a thing goes after all that want it."""
    turned: dict[Ref, set[Ref]] = {ref: set() for ref in wants}
    for ref, wanted in wants.items():
        for other in wanted:
            turned.setdefault(other, set()).add(ref)
    return turned
