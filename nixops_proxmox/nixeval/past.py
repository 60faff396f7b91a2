"""What Nix said before, where it cannot say anything else again: of flakes that are locked, evaluated purely.

In pure evaluation, Nix itself refuses what is not locked: files elsewhere, what is fetched without a hash, NIX_PATH,
the time, the environment. So a key over the locked reference, our own files, all arguments, Nix's version and its
settings is a key over everything that can matter.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nixops_proxmox.errors import EvaluationFailed
from nixops_proxmox.nixeval.answers import Answer, KeptAnswers
from nixops_proxmox.nixeval.archive import nar_hash
from nixops_proxmox.nixeval.evaluate import NetworkSource, Toplevel
from nixops_proxmox.nixeval.impure import find_doubt
from nixops_proxmox.nixeval.runner import OutOfTime, Runner
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.texts import nix_string

log = logging.getLogger(__name__)

RULES = 1  # by which something is kept. Others make other keys
Derivations = Callable[[Any], Iterable[Toplevel]]  # those that an answer names
ASKED = 60.0  # seconds for Nix to tell its settings


@dataclass(frozen=True)
class Past:
    """What was said of one network. `source`: how it is evaluated purely. `root`: the folder that `/nix/store` of its
    store is in. Empty for this computer's own."""

    source: NetworkSource
    answers: KeptAnswers
    about: str
    root: str = ""

    def find(self, argv: Sequence[str], derivations: Derivations) -> Answer | None:
        """None: evaluate. An answer whose derivations were collected is none."""
        answer = self.answers.find(self._key(argv))
        try:
            there = answer is not None and all(map(self._has, derivations(answer.said)))
        except EvaluationFailed:  # it is nothing that we kept
            return None
        return answer if there else None

    def _has(self, derivation: Toplevel) -> bool:
        return Path(f"{self.root}{derivation.drv_path}").exists()

    def keep(self, argv: Sequence[str], said: object, warnings: Iterable[str]) -> None:
        """What may hold a secret is not kept."""
        if not has_secrets(said):
            self.answers.keep(self._key(argv), Answer(said, tuple(warnings)))

    def _key(self, argv: Sequence[str]) -> str:
        return _digest([self.about, *argv])


def open_past(
    nix: Nix,
    expression: Path,
    source: NetworkSource,
    run: Runner,
    environment: Mapping[str, str] | None = None,
) -> Past | None:
    """None where Nix's answer could be another one the next time, or where it might be: then it is asked as ever.
    `source` is locked."""
    environment = os.environ if environment is None else environment
    if (
        source.past is None
        or source.tree is None
        or source.search_path
        or any(name.startswith("NIXPKGS_") for name in environment)
    ):
        return None
    settings = _settings(nix, run)
    root = _store_root(settings)
    if settings.get("eval-cache") is not True or root is None:
        return None
    answers = KeptAnswers(source.past)
    if doubt := _find_doubt(answers, f"{root}{source.tree}"):
        log.info("%s is evaluated each time: %s", source.title, doubt)
        return None
    words = _pure_words(expression, str(settings.get("system", "")))
    ours = {name: value for name, value in sorted(environment.items()) if name.startswith("NIX_")}
    about = _digest([RULES, nix.version, str(nix.directory), settings, ours, words])
    answers.sweep()
    return Past(replace(source, pure=words), answers, about, root)


def _find_doubt(answers: KeptAnswers, tree: str) -> str:
    """A path of the store is the same for ever: its files are read once."""
    key = _digest([RULES, "no doubt", tree])
    if answers.find(key) is not None:
        return ""
    doubt = find_doubt(Path(tree))
    if not doubt:
        answers.keep(key, Answer(None))
    return doubt


def has_secrets(said: object) -> bool:
    """Whether a machine has a key or a file whose text is in the description, or what cannot be judged."""
    match said:
        case {"machines": dict(machines)}:
            return any(has_secrets(one) for one in machines.values())
        case {"deployment": dict(deployment)}:
            return any(_has_text(deployment.get(option)) for option in ("keys", "files"))
        case {"deployment": _}:
            return True
        case _:
            return False


def _has_text(described: object) -> bool:
    match described:
        case None:
            return False
        case dict():
            return any(not isinstance(one, dict) or one.get("text") is not None for one in described.values())
        case _:
            return True


def _settings(nix: Nix, run: Runner) -> Mapping[str, Any]:
    """By name. Empty where Nix does not tell them."""
    try:
        done = run(nix.nix_argv("show-config", "--json"), timeout=ASKED)
        told = json.loads(done.stdout) if done.status == 0 else {}
    except (OutOfTime, ValueError, RecursionError):
        return {}
    return {name: one["value"] for name, one in _entries(told) if isinstance(one, dict) and "value" in one}


def _entries(told: object) -> Iterator[tuple[str, object]]:
    if isinstance(told, dict):
        yield from told.items()


def _store_root(settings: Mapping[str, Any]) -> str | None:
    """None for a store whose files are not on this computer."""
    store = settings.get("store", "")
    if store in ("", "auto", "daemon", "local"):
        return ""
    return store.rstrip("/") if isinstance(store, str) and store.startswith("/") and "?" not in store else None


def _pure_words(expression: Path, system: str) -> tuple[str, ...]:
    """Our own files are locked by their hash: in pure evaluation, no other file can be read."""
    ours = (
        f'{{ type = "path"; path = {nix_string(str(expression.parent))}; narHash = "{nar_hash(expression.parent)}"; }}'
    )
    which = f'import (builtins.fetchTree {ours} + "/{expression.name}")'
    return ("--pure-eval", "--arg", "searching", "false", "--argstr", "system", system, "-E", which)


def _digest(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
