"""Pure: a place for each of many, where what one gets limits what the others can have."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

PATIENCE = 2000  # choices that are tried


def assign(
    items: Sequence[str], options: Callable[[str, Mapping[str, str]], Iterable[str]], *, patience: int = PATIENCE
) -> Mapping[str, str] | None:
    """A choice for each item, in this order. `options` gives an item's choices, the best first, after those that were
    made. A choice that leaves a later item none is taken back. None: there is no solution, or it was not found within
    `patience` choices."""
    chosen: dict[str, str] = {}
    open_choices: list[Iterator[str]] = []
    while len(chosen) < len(items):
        item = items[len(chosen)]
        if len(open_choices) == len(chosen):
            open_choices.append(iter(options(item, dict(chosen))))
        choice = next(open_choices[-1], None)
        if choice is not None:
            patience -= 1
            chosen[item] = choice
        else:
            open_choices.pop()
            if not open_choices:
                return None
            del chosen[items[len(chosen) - 1]]
        if patience < 0:
            return None
    return chosen
