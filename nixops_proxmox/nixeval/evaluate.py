"""Turns a network file or a flake into data: what `nix/eval.nix` makes of it, as JSON."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from nixops_proxmox.errors import ConfigError, EvaluationFailed
from nixops_proxmox.model import Completed
from nixops_proxmox.nixeval.flakes import lock_flake, split_reference
from nixops_proxmox.nixeval.runner import OutOfTime, Runner, Tell
from nixops_proxmox.nixeval.tools import Nix, explain_store
from nixops_proxmox.nixeval.trace import UntilError, explain_failure, find_warnings
from nixops_proxmox.paths import expanded
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.texts import nix_string

log = logging.getLogger(__name__)

ANNOUNCED = "trace: nixops-proxmox-description "  # and JSON: what eval.nix tells before the first system
TIMEOUT = 3600.0  # seconds; a network of a hundred NixOS machines takes many minutes
# A second process costs more than it saves for few machines. 16 descriptions of NixOS machines take 1.3 GiB.
TOGETHER, DESCRIBED_TOGETHER = 4, 16


@dataclass(frozen=True)
class NetworkSource:
    """Where a network is described: a file (a folder means its default.nix), or a flake reference."""

    file: Path | None = None
    flake: str = ""
    flake_name: str = ""  # what stood after `#`, once the reference is read
    called: str = ""  # what the user called a flake that is pinned
    past: Path | None = None  # the folder of what Nix said before; None: it is always asked
    tree: Path | None = None  # where the store has the files of a flake whose content can never be another one
    pure: tuple[str, ...] = ()  # instead of the file of our expression: words that let nothing count but what is locked
    search_path: tuple[str, ...] = ()  # as -I takes them: nixpkgs=/path
    arguments: Mapping[str, str] = field(default_factory=dict)  # Nix expressions
    string_arguments: Mapping[str, str] = field(default_factory=dict)
    deployment: str = ""  # its name, for modules that want to know
    client_keys: tuple[str, ...] = ()  # public SSH keys that the machines' systems shall let in
    taken: str = ""  # JSON: what NICs have taken from lists of MACs, by machine and slot
    serials: str = ""  # JSON: what the serials of recorded machines' disks follow from
    resource_options: tuple[str, ...] = ()  # what of `resources` is described to us; empty: what eval.nix has by itself

    @property
    def title(self) -> str:
        return self.called or self.flake or str(self.file)


@dataclass(frozen=True)
class Toplevel:
    """A machine's system, or the image it is made of, not built yet."""

    drv_path: str
    out_path: str


class Toplevels(Protocol):
    """Those of several machines."""

    def get(self, name: str, /) -> Toplevel | None:
        """None for a machine that has none. Raises EvaluationFailed."""
        ...

    def __iter__(self) -> Iterator[str]: ...


@dataclass(frozen=True)
class Evaluated:
    """What Nix said: `data` as `spec.parse_network` takes it, and the systems of those machines that have one."""

    data: Mapping[str, Any]
    toplevels: Mapping[str, Toplevel]
    images: Mapping[str, Toplevel] = field(default_factory=dict)  # what builds those that machines are made of
    warnings: tuple[str, ...] = ()  # of Nix, of nixpkgs, and of the network itself
    later: frozenset[str] = frozenset()  # machines whose system was not evaluated with the rest
    undescribed: frozenset[str] = frozenset()  # those that were only counted
    failures: Mapping[str, EvaluationFailed] = field(default_factory=dict)  # of single machines' systems


EarlyCheck = Callable[
    [Mapping[str, Any]], object
]  # sees an evaluation without its systems, and raises what is wrong in it


class _Announced:
    """Has what eval.nix announces checked, and passes on every other line."""

    def __init__(self, check: EarlyCheck, tell: Tell) -> None:
        self._check, self._tell = check, tell
        self.seen: Evaluated | None = None  # what was announced, and found right

    def __call__(self, line: str) -> None:
        if line.startswith(ANNOUNCED):
            seen = parse_evaluation(line.removeprefix(ANNOUNCED))
            self._check(seen.data)
            self.seen = seen
        else:
            self._tell(line)


def _ignore(_: object) -> None:
    pass


def parse_source(reference: str, *, base: Path | None = None, is_flake: bool = False) -> NetworkSource:
    """`is_flake`: the words stand where only a flake can be meant. Otherwise a path that exists is a file, and
    `flake:…`, `github:…`, `…#name` and folders with only a flake.nix are flakes."""
    if is_flake:
        return NetworkSource(flake=reference)
    path = (base or Path.cwd()) / expanded(reference)
    if path.is_dir() and not (path / "default.nix").exists() and (path / "flake.nix").exists():
        return NetworkSource(flake=str(path.resolve()))
    if path.exists():
        return NetworkSource(file=path.resolve())
    if "#" in reference or re.match(r"[a-z][a-z0-9+.-]*:", reference):
        return NetworkSource(flake=reference)
    raise ConfigError(
        f"there is no network file {path}", hint="give the path of a network file, or a flake such as .#my-network"
    )


def evaluate_argv(nix: Nix, expression: Path, source: NetworkSource, *, whole: bool = True) -> list[str]:
    """The `nix-instantiate` that prints a network as JSON and writes its derivations, so that they can be built. Not
    `whole`: a large network without its systems, and a very large one without its machines.

    The trace is asked for at once: only there stands whose fault an error is, and to ask later is to evaluate twice.
    """
    bounds = {} if whole else {"together": TOGETHER, "describedTogether": DESCRIBED_TOGETHER}
    words = [word for name, value in bounds.items() for word in ("--arg", name, str(value))]
    what = [*expression_words(expression, source), *source_arguments(source), *words, "-A", "info"]
    how = ["--eval", "--strict", "--json", "--read-write-mode", "--show-trace", "--arg", "announce", "true"]
    return nix.argv("nix-instantiate", *how, *search_words(source), *what)


def evaluate_network(
    nix: Nix,
    expression: Path,
    source: NetworkSource,
    *,
    run: Runner,
    check: EarlyCheck | None = None,
    tell: Tell | None = None,
    timeout: float = TIMEOUT,
) -> Evaluated:
    """Evaluate with `expression` (our eval.nix). `tell` hears Nix at work. EvaluationFailed carries its error.

    `check` sees the data before the first system is evaluated. What it raises ends the evaluation.
    """
    source, said = lock_source(nix, source, run=run, tell=tell or _ignore, timeout=timeout)
    announced = _Announced(check or _ignore, UntilError(tell or _ignore))
    done = _run(evaluate_argv(nix, expression, source), source.title, run, announced, timeout)
    if done.status != 0:
        raise system_failure(source.title, expression, done)
    return replace(parse_evaluation(done.stdout), warnings=tuple(find_warnings(said + done.stderr)))


def evaluate_first(
    nix: Nix,
    expression: Path,
    source: NetworkSource,
    *,
    run: Runner,
    check: EarlyCheck,
    tell: Tell,
    timeout: float = TIMEOUT,
) -> Evaluated:
    """Evaluate all of a small network, and of a large one what is described. A system that cannot be evaluated is only
    its machine's failure. `source` is locked."""
    announced = _Announced(check, UntilError(tell))
    done = _run(evaluate_argv(nix, expression, source, whole=False), source.title, run, announced, timeout)
    warnings = tuple(find_warnings(done.stderr))
    if done.status == 0:
        return replace(parse_evaluation(done.stdout), warnings=warnings)
    failure, seen = system_failure(source.title, expression, done), announced.seen
    machine = explain_failure(done.stderr, str(expression.parent)).machine
    if seen is None or machine not in seen.later:
        raise failure
    return replace(seen, later=seen.later - {machine}, failures={machine: failure}, warnings=warnings)


def lock_source(
    nix: Nix, source: NetworkSource, *, run: Runner, tell: Tell, timeout: float = TIMEOUT
) -> tuple[NetworkSource, str]:
    """The same source, pinned if it is a flake, and what Nix said beside."""
    if not source.flake:
        return source, ""
    flake, name = split_reference(source.flake)
    locked = lock_flake(nix, flake, run=run, tell=UntilError(tell), timeout=timeout)
    tree = locked.tree if locked.is_pinned else None
    return replace(source, flake=locked.url, flake_name=name, called=source.flake, tree=tree), locked.said


def _run(argv: Sequence[str], title: str, run: Runner, tell: Tell, timeout: float) -> Completed:
    try:
        done = run(argv, tell=tell, timeout=timeout)
    except OutOfTime as error:
        raise EvaluationFailed(
            f"the evaluation of {title} did not end within {timeout:g} s\n{_unannounced(error.stderr)}".rstrip(),
            hint="Nix may be downloading an input; run the same command again",
        ) from error
    done = replace(done, stderr=_unannounced(done.stderr))
    if done.status != 0:
        log.info("Nix's whole trace:\n%s", done.stderr)
    return done


def parse_evaluation(text: str) -> Evaluated:
    """Raises EvaluationFailed for anything that is not the JSON object which eval.nix promises."""
    try:
        return read_evaluation(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise EvaluationFailed(f"Nix did not print JSON: {error}") from error


def read_evaluation(data: object) -> Evaluated:
    """Take apart JSON that was read. Raises EvaluationFailed."""
    if not isinstance(data, dict) or not isinstance(data.get("machines"), dict):
        raise EvaluationFailed("the network evaluates to something without machines")
    machines = data["machines"]
    later = frozenset(name for name, one in machines.items() if isinstance(one, dict) and "toplevel" not in one)
    undescribed = frozenset(name for name in later if "deployment" not in machines[name])
    toplevels, images = parse_machine_systems(machines)
    return Evaluated(data, toplevels, images | _parse_template_images(data), later=later, undescribed=undescribed)


def parse_machine_systems(machines: Mapping[str, object]) -> tuple[dict[str, Toplevel], dict[str, Toplevel]]:
    """The systems, and what builds the images, of those machines that have one. EvaluationFailed."""
    return _parse_derivations(machines, "toplevel"), _parse_derivations(machines, "image")


def _unannounced(stderr: str) -> str:
    return re.sub(rf"^{ANNOUNCED}.*\n?", "", stderr, flags=re.MULTILINE)


def expression_words(expression: Path, source: NetworkSource) -> Sequence[str]:
    """What is evaluated: `expression`, or the same where nothing else counts."""
    return source.pure or (str(expression),)


def search_words(source: NetworkSource) -> list[str]:
    return [word for entry in source.search_path for word in ("-I", entry)]


def source_arguments(source: NetworkSource) -> Sequence[str]:
    if source.flake:
        # nix-instantiate knows builtins.getFlake once the feature is on, so both kinds of source take one road.
        words = ["--option", "extra-experimental-features", "flakes nix-command", "--argstr", "flakeUri", source.flake]
        words += ["--argstr", "flakeName", source.flake_name] if source.flake_name else []
    else:
        # As a string: a Nix expression of a path has no way to spell a blank.
        words = ["--argstr", "networkExpr", str(source.file)]
    if source.deployment:
        words += ["--argstr", "deploymentName", source.deployment]
    if source.resource_options:
        words += ["--arg", "resourceOptions", f"[ {' '.join(map(nix_string, source.resource_options))} ]"]
    if source.taken:
        words += ["--argstr", "taken", source.taken]
    if source.serials:
        words += ["--argstr", "serials", source.serials]
    if source.client_keys:
        words += ["--arg", "clientKeys", f"[ {' '.join(map(nix_string, source.client_keys))} ]"]
    expressions = {**source.arguments, **{name: nix_string(text) for name, text in source.string_arguments.items()}}
    if expressions:
        words += ["--arg", "args", "{ " + " ".join(f"{name} = {value};" for name, value in expressions.items()) + " }"]
    return words


def system_failure(title: str, expression: Path, done: Completed) -> EvaluationFailed:
    failure = explain_failure(done.stderr, str(expression.parent))
    words = failure.words or f"nix-instantiate ended with status {done.status} and no message"
    where = f"{title}, machine {failure.machine}" if failure.machine else title
    hint = explain_store(words) or _explain_words(words) or "run again with -v for Nix's whole trace"
    return EvaluationFailed(f"{where}: the evaluation failed\n{words}", hint=hint)


_WORDS = {  # of an evaluation's error, and what mends it
    "there is no nixpkgs": 'in the network: `network.nixpkgs = fetchTarball "https://channels.nixos.org/nixos-25.11/'
    'nixexprs.tar.xz";`; or in the environment: NIX_PATH=nixpkgs=/path/of/nixpkgs; a flake names it as an input',
    "unable to download": "Nix could not fetch it: is this computer online, and the address right? What is here already"
    " can be named by a path: NIX_PATH=nixpkgs=/path/of/nixpkgs",
    "no network of machines": f"name the file of your network; {command(Verb.INIT)} writes one",
    "is this a network?": f"name the file of your network; {command(Verb.INIT)} writes one",
}


def _explain_words(words: str) -> str:
    return next((hint for part, hint in _WORDS.items() if part in words), "")


def _parse_template_images(data: Mapping[str, Any]) -> dict[str, Toplevel]:
    """By the place of the template (resources.templates.base) that is made of one."""
    said = data.get("templateImages")
    templates = said if isinstance(said, dict) else {}
    return _parse_derivations({name: {"image": image} for name, image in templates.items()}, "image")


def _parse_derivations(machines: Mapping[str, object], key: str) -> dict[str, Toplevel]:
    found = {name: _parse_derivation(name, machine, key) for name, machine in machines.items()}
    return {name: derivation for name, derivation in found.items() if derivation is not None}


def _parse_derivation(name: str, machine: object, key: str) -> Toplevel | None:
    said = machine.get(key) if isinstance(machine, dict) else None
    if said is None:
        return None
    match said:
        # Of a set that has an `outPath`, Nix prints only that, so eval.nix says `outputPath`.
        case {"drvPath": str(drv), "outputPath": str(out)} | {"drvPath": str(drv), "outPath": str(out)}:
            return Toplevel(drv, out)
        case _:
            raise EvaluationFailed(f"machine {name}: its {key} is not a derivation")
