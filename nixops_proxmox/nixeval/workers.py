"""Several workers that evaluate parts of one network within a bound of memory."""

import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nixops_proxmox.errors import EvaluationFailed
from nixops_proxmox.model import Completed
from nixops_proxmox.nixeval.batches import Bounds, StarvedNix, work_in_batches
from nixops_proxmox.nixeval.evaluate import (
    TIMEOUT,
    NetworkSource,
    Toplevel,
    expression_words,
    parse_machine_systems,
    search_words,
    source_arguments,
    system_failure,
)
from nixops_proxmox.nixeval.memory import heap_settings
from nixops_proxmox.nixeval.runner import OutOfTime, Runner, Tell
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.nixeval.trace import find_warnings, nix_message

if TYPE_CHECKING:
    from nixops_proxmox.nixeval.past import Past

log = logging.getLogger(__name__)

STARVED = ("GC Warning: Out of Memory!", "std::bad_alloc")
KILLED = (-9, 137)  # by the kernel, for want of memory


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
    past: "Past | None" = None  # what was said before
    timeout: float = TIMEOUT

    def ask(self, attribute: str, names: Sequence[str], memory: int) -> Mapping[str, Any]:
        """Evaluate an attribute of eval.nix for these machines. Raises EvaluationFailed, StarvedNix."""
        if self.past is not None:
            done = self._run(self.past.source, attribute, names, memory)
            if done.status == 0:
                found = self._told(done, names)
                for name, said in found.items():
                    self.past.keep(self._argv(self.past.source, attribute, [name]), said, find_warnings(done.stderr))
                return found
        done = self._run(self.source, attribute, names, memory)
        if done.status != 0:
            log.info("Nix's whole trace:\n%s", done.stderr)
            raise system_failure(self.source.title, self.expression, done)
        return self._told(done, names)

    def _run(self, source: NetworkSource, attribute: str, names: Sequence[str], memory: int) -> Completed:
        argv = self._argv(source, attribute, names)
        try:
            done = self.run(argv, env=heap_settings(memory), tell=lambda _: None, timeout=self.timeout)
        except OutOfTime as error:
            raise EvaluationFailed(
                f"the evaluation of {', '.join(names)} did not end within {self.timeout:g} s\n{error.stderr}".rstrip()
            ) from error
        if done.status != 0 and is_starved(done):
            raise StarvedNix(nix_message(done.stderr))
        return done

    def _argv(self, source: NetworkSource, attribute: str, names: Sequence[str]) -> list[str]:
        return part_argv(self.nix, self.expression, source, attribute, names)

    def _told(self, done: Completed, names: Sequence[str]) -> Mapping[str, Any]:
        for warning in find_warnings(done.stderr):
            self.warn(warning)
        return _parse_part(done.stdout, names)

    def ask_in_batches(self, attribute: str, names: Sequence[str]) -> dict[str, Any]:
        """By name: what Nix said, or an EvaluationFailed."""

        def tell(count: int) -> None:
            self.tell(f"evaluated {len(known) + count} of {len(names)} machines")

        known = {name: said for name in names if (said := self._known(attribute, name)) is not None}
        left = [name for name in names if name not in known]
        if not left:
            return known
        found = work_in_batches(left, partial(self.ask, attribute), self.bounds, tell=tell, cancel=self.cancel)
        return known | found

    def _known(self, attribute: str, name: str) -> object:
        """What was said before. None: nothing that counts."""
        if self.past is None:
            return None
        answer = self.past.find(
            self._argv(self.past.source, attribute, [name]), lambda said: _derivations({name: said})
        )
        if answer is None:
            return None
        for warning in answer.warnings:
            self.warn(warning)
        return answer.said


def part_argv(nix: Nix, expression: Path, source: NetworkSource, attribute: str, names: Sequence[str]) -> list[str]:
    """The `nix-instantiate` that prints a part of the network as JSON."""
    how = ["--eval", "--strict", "--json", "--read-write-mode", "--show-trace"]
    only = ["--argstr", "only", json.dumps(list(names))]
    return nix.argv(
        "nix-instantiate",
        *how,
        *search_words(source),
        *expression_words(expression, source),
        *source_arguments(source),
        *only,
        "-A",
        attribute,
    )


def is_starved(done: Completed) -> bool:
    """It was killed, or gave up, for want of memory."""
    return done.status in KILLED or any(words in done.stderr for words in STARVED)


class Once:
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


def _derivations(machines: Mapping[str, object]) -> Iterable[Toplevel]:
    toplevels, images = parse_machine_systems(machines)
    return [*toplevels.values(), *images.values()]


def _parse_part(text: str, names: Sequence[str]) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EvaluationFailed(f"Nix did not print JSON: {error}") from error
    if not isinstance(found, dict) or set(found) != set(names):
        raise EvaluationFailed(f"Nix told of other machines than {', '.join(names)}")
    return found
