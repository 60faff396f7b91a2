"""A line of text for people."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """A line and rich's style for it."""

    text: str
    style: str = ""
