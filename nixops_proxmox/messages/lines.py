"""A line of text for people."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """A line and rich's style for it. Should it have line ends, what follows them is shown below it, indented."""

    text: str
    style: str = ""


def fitted(text: str, width: int) -> Iterator[str]:
    """The same in lines of at most `width` columns: broken between words, and continued deeper than they began. A word
    that is longer stays whole, so that it can be copied."""
    for line in text.split("\n"):
        if len(line) <= width:
            yield line
            continue
        indent = " " * (len(line) - len(line.lstrip(" ")) + 4)
        yield from textwrap.wrap(
            line,
            width,
            subsequent_indent=indent,
            expand_tabs=False,
            replace_whitespace=False,
            break_long_words=False,
            break_on_hyphens=False,
        )
