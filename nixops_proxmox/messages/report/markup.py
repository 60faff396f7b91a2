"""HTML and SVG that are made of elements. All text gets in through `shown_line`, and escaped."""

from collections.abc import Mapping
from html import escape
from typing import Any

from nixops_proxmox.texts import shown_line

Values = Mapping[str, Any]  # as `--json` prints them


class Markup(str):
    """Text that is markup already. Only `element` makes it of other texts."""

    __slots__ = ()


def text(value: object) -> Markup:
    return Markup(escape(shown_line(str(value)), quote=True))


def element(name: str, *inner: object, **attributes: object) -> Markup:
    """`element("td", "1 < 2", class_="n")`. An attribute that is None is left out. `_` in its name stands for a hyphen,
    and for nothing at the end. `inner` is escaped, unless it is markup."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{given}>{joined(*inner)}</{name}>")


def joined(*parts: object) -> Markup:
    return Markup("".join(part if isinstance(part, Markup) else text(part) for part in parts))
