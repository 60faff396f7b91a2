"""A runner that runs nothing: it answers from a list, and remembers what it was asked."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nixops_proxmox.model import Completed
from nixops_proxmox.nixeval.runner import Tell


@dataclass
class ScriptedRunner:
    """Answers calls in turn from a list, and remembers what it was asked."""

    answers: list[Completed]
    calls: list[Sequence[str]] = field(default_factory=list)
    environments: list[Mapping[str, str]] = field(default_factory=list)

    def __call__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        tell: Tell | None = None,
        timeout: float | None = None,
    ) -> Completed:
        self.calls.append(argv)
        self.environments.append(env or {})
        done = self.answers.pop(0)
        for line in io.StringIO(done.stderr, newline="\n") if tell else ():
            assert tell is not None
            tell(line.rstrip("\r\n"))
        return done
