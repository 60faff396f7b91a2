"""Evaluates a network of many machines: what is described first, and systems only when they are asked for, by several
workers that keep to a bound of memory."""

import json
import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from nixops_proxmox.errors import EvaluationFailed
from nixops_proxmox.model import Completed
from nixops_proxmox.nixeval.batches import Bounds, StarvedNix, work_in_batches
from nixops_proxmox.nixeval.evaluate import (
    TIMEOUT,
    EarlyCheck,
    Evaluated,
    NetworkSource,
    Toplevel,
    Toplevels,
    evaluate_first,
    lock_source,
    parse_machine_systems,
    search_words,
    source_arguments,
    system_failure,
)
from nixops_proxmox.nixeval.memory import heap_settings
from nixops_proxmox.nixeval.runner import OutOfTime, Runner, Tell
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.nixeval.trace import find_warnings, nix_message

log = logging.getLogger(__name__)

STARVED = ("GC Warning: Out of Memory!", "std::bad_alloc")
KILLED = (-9, 137)  # by the kernel, for want of memory


@dataclass(frozen=True)
class SystemOf:
    """What one machine's evaluation came to: its system and what builds its image, if it has them."""

    toplevel: Toplevel | None
    image: Toplevel | None


@dataclass(frozen=True)
class Workers:
    """What evaluates parts of one network."""

    nix: Nix
    expression: Path
    source: NetworkSource  # locked, if it is a flake
    run: Runner
    bounds: Bounds
    tell: Tell
    warn: Tell
    cancel: Callable[[], None]
    timeout: float = TIMEOUT

    def ask(self, attribute: str, names: Sequence[str], memory: int) -> Mapping[str, Any]:
        """Evaluate an attribute of eval.nix for these machines. Raises EvaluationFailed, StarvedNix."""
        argv = part_argv(self.nix, self.expression, self.source, attribute, names)
        try:
            done = self.run(argv, env=heap_settings(memory), tell=lambda _: None, timeout=self.timeout)
        except OutOfTime as error:
            raise EvaluationFailed(
                f"the evaluation of {', '.join(names)} did not end within {self.timeout:g} s\n{error.stderr}".rstrip()
            ) from error
        if done.status != 0 and is_starved(done):
            raise StarvedNix(nix_message(done.stderr))
        if done.status != 0:
            log.info("Nix's whole trace:\n%s", done.stderr)
            raise system_failure(self.source.title, self.expression, done)
        for warning in find_warnings(done.stderr):
            self.warn(warning)
        return _parse_part(done.stdout, names)

    def ask_in_batches(self, attribute: str, names: Sequence[str]) -> dict[str, Any]:
        """By name: what Nix said, or an EvaluationFailed."""

        def tell(count: int) -> None:
            self.tell(f"evaluated {count} of {len(names)} machines")

        return work_in_batches(names, partial(self.ask, attribute), self.bounds, tell=tell, cancel=self.cancel)


def part_argv(nix: Nix, expression: Path, source: NetworkSource, attribute: str, names: Sequence[str]) -> list[str]:
    """The `nix-instantiate` that prints a part of the network as JSON."""
    how = ["--eval", "--strict", "--json", "--read-write-mode", "--show-trace"]
    only = ["--argstr", "only", json.dumps(list(names))]
    return nix.argv(
        "nix-instantiate",
        *how,
        *search_words(source),
        str(expression),
        *source_arguments(source),
        *only,
        "-A",
        attribute,
    )


def is_starved(done: Completed) -> bool:
    """It was killed, or gave up, for want of memory."""
    return done.status in KILLED or any(words in done.stderr for words in STARVED)


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
    while it evaluates systems later. `cancel` ends what `run` has begun."""
    source, said = lock_source(nix, source, run=run, tell=tell)
    first = evaluate_first(nix, expression, source, run=run, check=check, tell=tell)
    first = replace(first, warnings=(*find_warnings(said), *first.warnings))
    known: dict[str, SystemOf | EvaluationFailed] = {
        name: SystemOf(first.toplevels.get(name), first.images.get(name)) for name in {*first.toplevels, *first.images}
    }
    known |= first.failures
    if not first.later and not first.undescribed:
        return first, Evaluations(known)
    workers = Workers(nix, expression, source, run, bounds(), tell, _Once(warn), cancel)
    if first.undescribed:
        first = replace(first, data=_with_descriptions(first, workers))
    return first, Evaluations(known, first.later, partial(_evaluate_systems, workers))


class _Once:
    """Tells each text once. Several machines warn of the same."""

    def __init__(self, warn: Tell) -> None:
        self._warn, self._told = warn, set[str]()
        self._lock = threading.Lock()

    def __call__(self, text: str) -> None:
        with self._lock:
            new = text not in self._told
            self._told.add(text)
        if new:
            self._warn(text)


def _with_descriptions(first: Evaluated, workers: Workers) -> Mapping[str, Any]:
    """A description that is wrong is nothing to work with, whichever machine's it is."""
    found = workers.ask_in_batches("descriptions", sorted(first.undescribed))
    for failure in found.values():
        if isinstance(failure, EvaluationFailed):
            raise failure
    return {**first.data, "machines": {**first.data["machines"], **found}}


def _evaluate_systems(workers: Workers, names: Sequence[str]) -> Mapping[str, SystemOf | EvaluationFailed]:
    found = workers.ask_in_batches("systems", names)
    return {name: one if isinstance(one, EvaluationFailed) else _system_of(name, one) for name, one in found.items()}


def _system_of(name: str, said: object) -> SystemOf | EvaluationFailed:
    try:
        toplevels, images = parse_machine_systems({name: said})
    except EvaluationFailed as error:
        return error
    return SystemOf(toplevels.get(name), images.get(name))


def _parse_part(text: str, names: Sequence[str]) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EvaluationFailed(f"Nix did not print JSON: {error}") from error
    if not isinstance(found, dict) or set(found) != set(names):
        raise EvaluationFailed(f"Nix told of other machines than {', '.join(names)}")
    return found
