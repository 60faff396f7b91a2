"""The last lines of a run: what was not tested, and why, so that a reader knows what is shown."""

from collections import Counter
from collections.abc import Iterable, Iterator


def summary(reasons: Iterable[str]) -> Iterator[str]:
    """A line for each reason, the most frequent first."""
    counted = Counter(reason.removeprefix("Skipped: ") for reason in reasons)
    for reason, count in counted.most_common():
        yield f"  {count} {'test' if count == 1 else 'tests'}: {reason}"
