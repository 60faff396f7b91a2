"""Evaluates a network of many machines: what is described first, and systems only when they are asked for, by several
workers that keep to a bound of memory."""

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nixops_proxmox.errors import EvaluationFailed
from nixops_proxmox.nixeval.batches import Bounds
from nixops_proxmox.nixeval.evaluate import (
    EarlyCheck,
    Evaluated,
    NetworkSource,
    Toplevel,
    Toplevels,
    evaluate_argv,
    evaluate_first,
    lock_source,
    parse_machine_systems,
    read_evaluation,
)
from nixops_proxmox.nixeval.runner import OutOfTime, Runner, Tell
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.nixeval.trace import find_warnings

if TYPE_CHECKING:  # most verbs evaluate nothing
    from nixops_proxmox.nixeval.past import Past
    from nixops_proxmox.nixeval.workers import Workers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SystemOf:
    """What one machine's evaluation came to: its system and what builds its image, if it has them."""

    toplevel: Toplevel | None
    image: Toplevel | None


class Evaluations:
    """The systems of a network. Those that were not evaluated with the description are when they are asked for: all
    that were said to be needed at once, any other by itself."""

    def __init__(
        self,
        known: Mapping[str, SystemOf | EvaluationFailed],
        later: Collection[str] = (),
        evaluate: Callable[[Sequence[str]], Mapping[str, SystemOf | EvaluationFailed]] = lambda _: {},
    ) -> None:
        self._known, self._later, self._evaluate = dict(known), set(later), evaluate
        self._lock = threading.Lock()

    def ensure(self, names: Collection[str]) -> None:
        """Evaluate those of them that are not yet. What fails is told to those who ask for it."""
        with self._lock:
            wanted = sorted(self._later.intersection(names))
            if wanted:
                found = self._evaluate(wanted)
                self._known.update(found)
                self._later.difference_update(wanted)

    def find(self, name: str) -> SystemOf | None:
        """Raises the machine's own EvaluationFailed."""
        self.ensure([name])
        found = self._known.get(name)
        if isinstance(found, EvaluationFailed):
            raise found
        return found

    def toplevels(self) -> Toplevels:
        return _View(self, (*self._known, *self._later), lambda found: found.toplevel)

    def images(self) -> Toplevels:
        return _View(self, (*self._known, *self._later), lambda found: found.image)


class _View:
    """The systems, or what builds the images. Lists all machines, also those that have none."""

    def __init__(self, found: Evaluations, names: Collection[str], of: Callable[[SystemOf], Toplevel | None]) -> None:
        self._found, self._names, self._of = found, names, of

    def get(self, name: str, /) -> Toplevel | None:
        found = self._found.find(name)
        return None if found is None else self._of(found)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)


def evaluate_fleet(
    nix: Nix,
    expression: Path,
    source: NetworkSource,
    *,
    run: Runner,
    bounds: Callable[[], Bounds],
    check: EarlyCheck,
    tell: Tell,
    warn: Tell,
    cancel: Callable[[], None] = lambda: None,
) -> tuple[Evaluated, Evaluations]:
    """What is described, whole, and the systems, which may not be evaluated yet. `check`, `tell`: of
    `evaluate_network`. `bounds` is asked where there is more than one Nix can do well. `warn` hears what Nix warns of
    while it evaluates systems later. `cancel` ends what `run` has begun. What Nix said before is not checked
    again."""
    from nixops_proxmox.nixeval.past import open_past
    from nixops_proxmox.nixeval.workers import Once, Workers

    source, said = lock_source(nix, source, run=run, tell=tell)
    before = open_past(nix, expression, source, run)
    first = _evaluate_first(nix, expression, source, before, run=run, check=check, tell=tell)
    first = replace(first, warnings=(*find_warnings(said), *first.warnings))
    known: dict[str, SystemOf | EvaluationFailed] = {
        name: SystemOf(first.toplevels.get(name), first.images.get(name)) for name in {*first.toplevels, *first.images}
    }
    known |= first.failures
    if not first.later and not first.undescribed:
        return first, Evaluations(known)
    workers = Workers(nix, expression, source, run, bounds(), tell, Once(warn), cancel, before)
    if first.undescribed:
        first = replace(first, data=_with_descriptions(first, workers))
    return first, Evaluations(known, first.later, partial(_evaluate_systems, workers))


def _evaluate_first(
    nix: Nix,
    expression: Path,
    source: NetworkSource,
    past: "Past | None",
    *,
    run: Runner,
    check: EarlyCheck,
    tell: Tell,
) -> Evaluated:
    """What was said before, or what a pure evaluation says. If it fails, an impure one says why, or does not fail."""
    ask = partial(evaluate_first, nix, expression, run=run, check=check, tell=tell)
    if past is None:
        return ask(source)
    argv = evaluate_argv(nix, expression, past.source, whole=False)
    answer = past.find(argv, _all_derivations)
    if answer is not None:
        tell(f"nothing in {source.title} has changed, so Nix is not asked again")
        return replace(read_evaluation(answer.said), warnings=answer.warnings)
    found = _unless_it_fails(lambda: ask(past.source))
    if found is None or found.failures:
        return ask(source)
    past.keep(argv, found.data, found.warnings)
    return found


def _unless_it_fails(evaluate: Callable[[], Evaluated]) -> Evaluated | None:
    try:
        return evaluate()
    except EvaluationFailed as error:
        if isinstance(error.__cause__, OutOfTime):
            raise
        return None


def _all_derivations(data: object) -> Iterable[Toplevel]:
    evaluated = read_evaluation(data)
    return [*evaluated.toplevels.values(), *evaluated.images.values()]


def _with_descriptions(first: Evaluated, workers: "Workers") -> Mapping[str, Any]:
    """A description that is wrong is nothing to work with, whichever machine's it is."""
    found = workers.ask_in_batches("descriptions", sorted(first.undescribed))
    for failure in found.values():
        if isinstance(failure, EvaluationFailed):
            raise failure
    return {**first.data, "machines": {**first.data["machines"], **found}}


def _evaluate_systems(workers: "Workers", names: Sequence[str]) -> Mapping[str, SystemOf | EvaluationFailed]:
    found = workers.ask_in_batches("systems", names)
    return {name: one if isinstance(one, EvaluationFailed) else _system_of(name, one) for name, one in found.items()}


def _system_of(name: str, said: object) -> SystemOf | EvaluationFailed:
    try:
        toplevels, images = parse_machine_systems({name: said})
    except EvaluationFailed as error:
        return error
    return SystemOf(toplevels.get(name), images.get(name))
