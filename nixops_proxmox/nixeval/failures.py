"""Why a system could not be built: which derivation is to blame, and what its builder said last."""

import re
from collections.abc import Collection, Sequence

from nixops_proxmox.errors import BuildFailed
from nixops_proxmox.nixeval.runner import OutOfTime, Runner
from nixops_proxmox.nixeval.tools import Nix, explain_store
from nixops_proxmox.nixeval.trace import nix_message
from nixops_proxmox.texts import tail_lines

ASKED = 60.0  # seconds for a question to the store
LINES = 20  # of a builder's log


def failed_derivations(stderr: str) -> Sequence[str]:
    """The derivations whose own builder failed, in the order in which Nix named them."""
    quoted = re.findall(r"(?:builder for|Cannot build) ['‘](/[^'’]+\.drv)['’]", stderr)
    return list(dict.fromkeys(quoted))


def needed_by(nix: Nix, drv: str, run: Runner) -> Collection[str]:
    """Every derivation that this one needs, and itself."""
    return set(run(nix.argv("nix-store", "--query", "--requisites", drv), timeout=ASKED).stdout.split())


def explain_build(nix: Nix, name: str, needed: Collection[str], stderr: str, run: Runner) -> BuildFailed:
    """The machine's own failure, of what Nix said about many builds. `needed`: the derivations of its system."""
    guilty = [drv for drv in failed_derivations(stderr) if drv in needed]
    words = _lines_about(stderr, guilty) or nix_message(stderr)
    hint = f"the whole log: nix-store --read-log {guilty[0]}" if guilty else explain_store(stderr)
    if builder := next((b for b in _programs_missing(stderr) if b in (_builder(nix, drv, run) for drv in guilty)), ""):
        words += f"\nits builder {builder} does not exist in Nix's sandbox"
        hint = f"a sandboxed build sees only the store: use a builder from there, such as nixpkgs' bash, not {builder}"
    elif guilty and "log lines:" not in words:
        words += _end_of_log(nix, guilty[0], run)
    return BuildFailed(f"{name}: its system could not be built\n{words}", hint=hint)


def _end_of_log(nix: Nix, drv: str, run: Runner) -> str:
    """What its builder said last, below a heading. Empty where Nix kept nothing."""
    try:
        done = run(nix.argv("nix-store", "--read-log", drv), timeout=ASKED)
    except OutOfTime:
        return ""
    lines = done.stdout.rstrip().splitlines() if done.status == 0 else []
    if not lines:
        return ""
    return "\n".join(["", "the last lines of its log:", *(f"  {line}" for line in tail_lines(lines, LINES))])


def _builder(nix: Nix, drv: str, run: Runner) -> str:
    return run(nix.argv("nix-store", "--query", "--binding", "builder", drv), timeout=ASKED).stdout.strip()


def _programs_missing(stderr: str) -> Sequence[str]:
    """What Nix could not execute. A host's program that a sandbox does not have is the usual cause."""
    return re.findall(r"executing '(/[^']+)': No such file or directory", stderr)


def _lines_about(stderr: str, derivations: Sequence[str]) -> str:
    """Nix's error paragraphs that name one of these derivations, without the summary (`build of 'a', 'b' failed`)."""
    paragraphs = [p for p in re.split(r"(?m)^(?=error:)", stderr)[1:] if not re.match(r"error: build of ", p)]
    return "\n".join(p.strip() for p in paragraphs if any(drv in p for drv in derivations))
