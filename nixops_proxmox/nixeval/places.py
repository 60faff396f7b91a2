"""Where the description says an option: the file and the line, as far as Nix can tell."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from nixops_proxmox.errors import EvaluationFailed
from nixops_proxmox.nixeval.evaluate import NetworkSource, search_words, source_arguments
from nixops_proxmox.nixeval.flakes import lock_flake, split_reference
from nixops_proxmox.nixeval.runner import OutOfTime, Runner
from nixops_proxmox.nixeval.tools import Nix

TIMEOUT = 600.0  # seconds, for one machine
_IN_STORE = re.compile(r"/nix/store/[0-9a-z]{32}-source/")
_OPTION = re.compile(r"[A-Za-z0-9_.-]{1,200}")


def places_argv(nix: Nix, expression: Path, source: NetworkSource, machine: str) -> list[str]:
    """The `nix-instantiate` that prints where a machine's options are said."""
    how = ["--eval", "--strict", "--json", *search_words(source)]
    return nix.argv("nix-instantiate", *how, str(expression), *source_arguments(source), "-A", f'places."{machine}"')


def find_places(nix: Nix, expression: Path, source: NetworkSource, machine: str, *, run: Runner) -> Mapping[str, str]:
    """`network.nix:12` by the option below `deployment.proxmox`. EvaluationFailed if Nix does not tell."""
    folder = source.file.parent if source.file is not None else None
    if source.flake:
        flake, name = split_reference(source.flake)
        locked = lock_flake(nix, flake, run=run, tell=lambda _: None, timeout=TIMEOUT)
        source = replace(source, flake=locked.url, flake_name=name)
    try:
        done = run(places_argv(nix, expression, source, machine), tell=lambda _: None, timeout=TIMEOUT)
    except OutOfTime as error:
        raise EvaluationFailed(f"{machine}: Nix did not tell within {TIMEOUT:g} s where its options are") from error
    if done.status != 0:
        raise EvaluationFailed(f"{machine}: Nix did not tell where its options are")
    return parse_places(done.stdout, folder)


def parse_places(text: str, folder: Path | None) -> Mapping[str, str]:
    """Files below `folder`, and those of a flake's copy in the store, are named from there."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EvaluationFailed(f"Nix did not print JSON: {error}") from error
    if not isinstance(found, dict):
        raise EvaluationFailed("Nix told no places of options")
    return {
        str(option): _short(place, folder)
        for option, place in found.items()
        if isinstance(place, str) and place.isprintable() and _OPTION.fullmatch(str(option))
    }


def _short(place: str, folder: Path | None) -> str:
    inside = _IN_STORE.match(place)
    if inside:
        return place[inside.end() :]
    return place.removeprefix(f"{folder}/") if folder is not None else place
