"""Turns a network file or a flake into data: what `nix/eval.nix` makes of it, as JSON."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nixops_proxmox.errors import ConfigError, EvaluationFailed
from nixops_proxmox.model import Completed
from nixops_proxmox.nixeval.runner import OutOfTime, Runner, Tell
from nixops_proxmox.nixeval.tools import Nix

TIMEOUT = 3600.0  # seconds; a network of a hundred NixOS machines takes many minutes


@dataclass(frozen=True)
class Source:
    """Where a network is described: a file (a folder means its default.nix), or a flake reference."""

    file: Path | None = None
    flake: str = ""
    search_path: tuple[str, ...] = ()  # as -I takes them: nixpkgs=/path
    arguments: Mapping[str, str] = field(default_factory=dict)  # Nix expressions
    string_arguments: Mapping[str, str] = field(default_factory=dict)
    deployment: str = ""  # its name, for modules that want to know
    client_keys: tuple[str, ...] = ()  # public SSH keys that the machines' systems shall let in

    @property
    def title(self) -> str:
        return self.flake or str(self.file)


@dataclass(frozen=True)
class Toplevel:
    """A machine's system, not built yet."""

    drv_path: str
    out_path: str


@dataclass(frozen=True)
class Evaluated:
    """What Nix said: `data` as `spec.parse_network` takes it, and the systems of those machines that have one."""

    data: Mapping[str, Any]
    toplevels: Mapping[str, Toplevel]


def parse_source(reference: str, *, base: Path | None = None) -> Source:
    """A path that exists is a file; `flake:…`, `github:…`, `…#name` and folders with only a flake.nix are flakes."""
    path = (base or Path.cwd()) / Path(reference).expanduser()
    if path.is_dir() and not (path / "default.nix").exists() and (path / "flake.nix").exists():
        return Source(flake=str(path.resolve()))
    if path.exists():
        return Source(file=path.resolve())
    if "#" in reference or re.match(r"[a-z][a-z0-9+.-]*:", reference):
        return Source(flake=reference)
    raise ConfigError(
        f"there is no network file {path}", hint="give the path of a network file, or a flake such as .#my-network"
    )


def evaluate_argv(nix: Nix, expression: Path, source: Source) -> list[str]:
    """The `nix-instantiate` that prints a network as JSON and writes its derivations, so that they can be built."""
    what = [str(expression), *_source_arguments(source), "-A", "info"]
    return nix.argv("nix-instantiate", "--eval", "--strict", "--json", "--read-write-mode", *_search(source), *what)


def blame_argv(nix: Nix, expression: Path, source: Source) -> list[str]:
    """The `nix-instantiate` that fails as the evaluation did, with the machine's name in its trace."""
    blaming = (
        f"{{ ... }}@given: builtins.mapAttrs (name: machine: "
        f"builtins.addErrorContext \"while evaluating machine '${{name}}'\" (builtins.deepSeq machine true)) "
        f"(import {_nix_string(str(expression))} given).info.machines"
    )
    what = ["-E", blaming, *_source_arguments(source)]
    return nix.argv("nix-instantiate", "--eval", "--strict", "--json", "--show-trace", *_search(source), *what)


def evaluate_network(
    nix: Nix, expression: Path, source: Source, *, run: Runner, tell: Tell | None = None, timeout: float = TIMEOUT
) -> Evaluated:
    """Evaluate with `expression` (our eval.nix). EvaluationFailed carries Nix's own words and the machine's name."""
    argv = evaluate_argv(nix, expression, source)
    try:
        done = run(argv, tell=tell, timeout=timeout)
    except OutOfTime as error:
        raise EvaluationFailed(
            f"the evaluation of {source.title} did not end within {timeout:g} s\n{error.stderr}".rstrip(),
            hint="Nix may be downloading an input; run the same command again",
        ) from error
    if done.status != 0:
        raise _failure(nix, expression, source, done, run, timeout)
    return parse_evaluation(done.stdout)


def parse_evaluation(text: str) -> Evaluated:
    """Raises EvaluationFailed for anything that is not the JSON object which eval.nix promises."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EvaluationFailed(f"Nix did not print JSON: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("machines"), dict):
        raise EvaluationFailed("the network evaluates to something without machines")
    toplevels = {name: _parse_toplevel(name, machine) for name, machine in data["machines"].items()}
    return Evaluated(data, {name: toplevel for name, toplevel in toplevels.items() if toplevel is not None})


def nix_message(stderr: str) -> str:
    """What Nix said, from its first `error:` on; warnings and progress before it are left out."""
    lines = stderr.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("error:"):
            return "\n".join(lines[number:]).strip()
    return stderr.strip()


def find_blamed_machine(trace: str) -> str | None:
    """The machine that a trace of `blame_argv` or of eval.nix speaks of; None if it names none or several."""
    found = set(re.findall(r"while evaluating (?:the )?machine ['‘]([\w.-]+)['’]", trace))
    return found.pop() if len(found) == 1 else None


def _search(source: Source) -> list[str]:
    return [word for entry in source.search_path for word in ("-I", entry)]


def _source_arguments(source: Source) -> Sequence[str]:
    if source.flake:
        # nix-instantiate knows builtins.getFlake once the feature is on, so both kinds of source take one road.
        uri, _, name = source.flake.partition("#")
        words = ["--option", "extra-experimental-features", "flakes nix-command", "--argstr", "flakeUri", uri]
        words += ["--argstr", "flakeName", name] if name else []
    else:
        words = ["--arg", "networkExpr", str(source.file)]
    if source.deployment:
        words += ["--argstr", "deploymentName", source.deployment]
    if source.client_keys:
        words += ["--arg", "clientKeys", f"[ {' '.join(map(_nix_string, source.client_keys))} ]"]
    expressions = {**source.arguments, **{name: _nix_string(text) for name, text in source.string_arguments.items()}}
    if expressions:
        words += ["--arg", "args", "{ " + " ".join(f"{name} = {value};" for name, value in expressions.items()) + " }"]
    return words


def _nix_string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
    return f'"{escaped}"'


def _failure(
    nix: Nix, expression: Path, source: Source, done: Completed, run: Runner, timeout: float
) -> EvaluationFailed:
    message = nix_message(done.stderr) or f"nix-instantiate ended with status {done.status} and no message"
    try:  # only a full trace has the context that says which machine it was
        traced = run(blame_argv(nix, expression, source), timeout=timeout).stderr
    except OutOfTime:
        traced = done.stderr
    machine = find_blamed_machine(traced)
    where = f"{source.title}, machine {machine}" if machine else source.title
    return EvaluationFailed(f"{where}: the evaluation failed\n{message}")


def _parse_toplevel(name: str, machine: object) -> Toplevel | None:
    toplevel = machine.get("toplevel") if isinstance(machine, dict) else None
    if toplevel is None:
        return None
    match toplevel:
        # Nix prints a set that has an `outPath` as that alone, so eval.nix says `outputPath`.
        case {"drvPath": str(drv), "outputPath": str(out)} | {"drvPath": str(drv), "outPath": str(out)}:
            return Toplevel(drv, out)
        case _:
            raise EvaluationFailed(f"machine {name}: its toplevel is not a derivation")
