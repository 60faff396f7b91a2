"""A line of text for people."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from nixops_proxmox.spelling import PROGRAM

WHOLE = re.compile(rf"`[^`]*`|(?:(?<=: )|^ *)(?:{PROGRAM}|pveum) .*")  # what people copy
GLUE = "\0"  # stands in for its spaces; no text that is shown has one


@dataclass(frozen=True)
class Line:
    """A line and rich's style for it. Should it have line ends, what follows them is shown below it, indented."""

    text: str
    style: str = ""


def fitted(text: str, width: int) -> Iterator[str]:
    """The same in lines of at most `width` columns: broken between words, and continued deeper than they began. A word
    that is longer stays whole, and so does a command, so that they can be copied."""
    for line in text.split("\n"):
        if len(line) <= width:
            yield line
            continue
        indent = " " * (len(line) - len(line.lstrip(" ")) + 4)
        for part in textwrap.wrap(
            WHOLE.sub(lambda found: found[0].replace(" ", GLUE), line),
            width,
            subsequent_indent=indent,
            expand_tabs=False,
            replace_whitespace=False,
            break_long_words=False,
            break_on_hyphens=False,
        ):
            yield part.replace(GLUE, " ")
