"""Takes out of what Nix wrote what a person needs: the error, its place, and its machine, option and file.

Nix runs with its whole trace, because only the trace names the machine and the option. Most of its lines are about our
own expression and about nixpkgs's library, and users should not have to read those.
"""

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_STEP = re.compile(r"\s*(?:…|error:)")
_PLACE = re.compile(r"\s*at (\S.*?):(?:\d+:\d+:)?\s*$")
_MACHINE = re.compile(r"while evaluating the machine ['‘]([^'’\n]+)['’]")
_OPTION = re.compile(r"… (while evaluating the option [`'‘][^'’\n]+['’])")
_FILE = re.compile(r"… (while evaluating definitions from [`'‘][^'’\n]+['’])")
_LIBRARY = re.compile(r"/lib/(?:[\w-]+/)*[\w-]+\.nix$|/nixos/(?:lib|modules)/|^«")
_WARNING = re.compile(r"(?:trace: )?(?:evaluation )?warning:|(?=trace: )")
_PROGRESS = re.compile(
    r"error:|(?:copying|building|fetching|downloading|unpacking|querying|evaluating|these|this|path) \S"
)
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Failure:
    """What became of an evaluation: in which machine (None: in none, or in several), and in which words."""

    machine: str | None
    words: str


class UntilError:
    """Passes on what Nix says as it says it, up to the error, which is told in its own place."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._failed = False

    def __call__(self, line: str) -> None:
        self._failed = self._failed or line.startswith("error:")
        if not self._failed and line.strip():
            self._tell(line.rstrip())


def find_warnings(stderr: str) -> list[str]:
    """What Nix, nixpkgs and the network warned of, each once, with the lines that belong to it."""
    found: list[list[str]] = []
    inside = False
    for line in _ESCAPE.sub("", stderr).splitlines():
        if start := _WARNING.match(line):
            found.append([line[start.end() :].strip()])
            inside = True
        elif _PROGRESS.match(line):
            inside = False
        elif inside:
            found[-1].append(line.rstrip())
    return list(dict.fromkeys("\n".join(lines).strip() for lines in found))


def nix_message(stderr: str) -> str:
    """What Nix said, from its first `error:` on, without the warnings and the progress before it."""
    lines = stderr.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("error:"):
            return "\n".join(lines[number:]).strip()
    return stderr.strip()


def explain_failure(stderr: str, ours: str) -> Failure:
    """The error of an evaluation that had `--show-trace`. `ours`: the folder of our own expressions."""
    steps = _split(nix_message(stderr))
    errors = [step for step in steps if _error(step)]
    if not errors:
        return Failure(None, nix_message(stderr))
    inner_first = [step for step in (steps if _error(steps[0]) else reversed(steps)) if step not in errors]
    words = _error(errors[0] if steps[0] in errors else errors[-1])
    place = next((place for step in (*errors, *inner_first) if (place := _place(step, ours))), "")
    met = [found[1] for pattern in (_FILE, _OPTION) if (found := _first(pattern, inner_first))]
    machines = {found[1] for step in inner_first for found in _MACHINE.finditer("\n".join(step))}
    told = [f"error: {words}", *([place] if place else []), *(f"  … {text}" for text in met)]
    return Failure(machines.pop() if len(machines) == 1 else None, "\n".join(told))


def _split(text: str) -> list[Sequence[str]]:
    """Each step with its lines: `… while …` or `error: …`, then perhaps a place with an excerpt."""
    steps: list[list[str]] = []
    for line in text.splitlines():
        if _STEP.match(line) or not steps:
            steps.append([])
        steps[-1].append(line)
    return [tuple(step) for step in steps]


def _error(step: Sequence[str]) -> str:
    """The error's own words, without its place. Empty for a step that is none."""
    if not step[0].lstrip().startswith("error:"):
        return ""
    end = next((number for number, line in enumerate(step) if number and _PLACE.match(line)), len(step))
    first = step[0].lstrip().removeprefix("error:").strip()
    rest = textwrap.dedent("\n".join(step[1:end])).strip("\n")
    return "\n".join(text for text in (first, rest.rstrip()) if text)


def _place(step: Sequence[str], ours: str) -> str:
    """`  at FILE:LINE:COLUMN:` with Nix's excerpt. Empty if that file is not the user's."""
    start = next((number for number, line in enumerate(step) if _PLACE.match(line)), None)
    if start is None:
        return ""
    found = _PLACE.match(step[start])
    file = re.sub(r"(?::\d+)+$", "", found[1]) if found else ""
    if file.startswith(ours.rstrip("/") + "/") or _LIBRARY.search(file):
        return ""
    excerpt = textwrap.dedent("\n".join(line for line in step[start + 1 :] if line.strip()))
    return textwrap.indent(f"at {step[start].strip().removeprefix('at ')}\n{excerpt}".rstrip(), "  ")


def _first(pattern: re.Pattern[str], steps: Sequence[Sequence[str]]) -> re.Match[str] | None:
    return next((found for step in steps if (found := pattern.search(step[0]))), None)
