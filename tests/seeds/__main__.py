"""`scripts/seed_bugs`: which bugs does no test notice? Exit status 1 if there is one, or one that cannot be tried."""

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue

from tests.pace import VARIABLE, measure_pace
from tests.seeds.catalogue import Bug, choose, read_catalogue
from tests.seeds.trial import Tried, Verdict, copy_code, run_tests, try_bug

ROOT = Path(__file__).resolve().parents[2]
FINE = (Verdict.CAUGHT, Verdict.EQUIVALENT)


def try_all(
    bugs: Sequence[Bug], root: Path, *, jobs: int, baseline: bool, tell: Callable[[Tried], None] = lambda _: None
) -> list[Tried]:
    """In the order of the catalogue. `baseline`: see first that the tests pass without any bug."""
    with ExitStack() as stack:
        copies: SimpleQueue[Path] = SimpleQueue()
        for _ in range(jobs):
            copy = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nixops-proxmox-seeds.")))
            copy_code(root, copy)
            copies.put(copy)
        pool = stack.enter_context(ThreadPoolExecutor(jobs))
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)  # after Ctrl-C, only what runs is waited for

        def fails_anyway(words: tuple[str, ...]) -> str:
            copy = copies.get()
            try:
                ran = run_tests(copy, words)
            finally:
                copies.put(copy)
            return ran.first_failure or f"status {ran.status}" if ran.status else ""

        def work(bug: Bug) -> Tried:
            if broken.get(bug.words):
                tried = Tried(bug, Verdict.BROKEN, f"fails without the bug, too: {broken[bug.words]}")
            else:
                copy = copies.get()
                try:
                    tried = try_bug(bug, copy)
                finally:
                    copies.put(copy)
            tell(tried)
            return tried

        words = sorted({bug.words for bug in bugs if not bug.equivalent}) if baseline else []
        broken = dict(zip(words, pool.map(fails_anyway, words), strict=True))
        return list(pool.map(work, bugs))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/seed_bugs", description=__doc__)
    parser.add_argument(
        "--only", action="append", default=[], metavar="WORD", help="bugs with this word in their name or file"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="so many at once, each in a copy of its own")
    parser.add_argument("--no-baseline", action="store_true", help="do not see first that the tests pass without a bug")
    parser.add_argument("--list", action="store_true", help="name the bugs, and try none")
    told = parser.parse_args(argv)
    bugs = choose(read_catalogue(), told.only)
    if not bugs:
        parser.error("no bug has such a name: see --list")
    if told.list:
        sys.stdout.write("".join(f"{bug.name:<60} {bug.file}\n" for bug in bugs))
        return 0
    os.environ.setdefault(VARIABLE, str(measure_pace()))  # once: every run of pytest would measure it again
    tried = try_all(bugs, ROOT, jobs=max(1, told.jobs), baseline=not told.no_baseline, tell=_say)
    counted = Counter(one.verdict for one in tried)
    bad = [one for one in tried if one.verdict not in FINE]
    sys.stdout.write("\n" + "".join(f"{one}\n" for one in bad))
    sys.stdout.write(", ".join(f"{counted[verdict]} {verdict.lower()}" for verdict in Verdict) + "\n")
    return 1 if bad else 0


def _say(tried: Tried) -> None:
    sys.stdout.write(f"{tried}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
