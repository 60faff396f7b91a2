"""A line of text for people."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """A line and rich's style for it. Should it have line ends, what follows them is shown below it, indented."""

    text: str
    style: str = ""
