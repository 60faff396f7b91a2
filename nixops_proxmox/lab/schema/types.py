"""A parameter's description, in PVE's terms."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Check = Callable[[str], str | None]  # the text of what is wrong with a value, or nothing
Kind = Literal["string", "integer", "number", "boolean", "array"]


@dataclass(frozen=True)
class Param:
    """`format` is a named format (formats.py) or a property-string grammar; `since`/`until`: first and last release."""

    kind: Kind = "string"
    optional: bool = True
    minimum: float | None = None
    maximum: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    enum: tuple[str, ...] = ()
    format: "str | Grammar | None" = None
    requires: str | None = None
    items: "Param | None" = None
    default_key: bool = False  # in a grammar: the value may stand without its key
    alias: str | None = None  # in a grammar: this key is another name of that one …
    key_alias: str | None = None  # … and the key itself is the value of this one (virtio=MAC)
    since: tuple[int, int] = (0, 0)
    until: tuple[int, int] = (99, 0)
    note: Any = None

    @property
    def required(self) -> "Param":
        return replace(self, optional=False)

    def of(self, number: tuple[int, int]) -> "Param":
        """As one release has it: its grammar without the keys of others."""
        if self.format is None or isinstance(self.format, str):
            return self
        return replace(self, format={key: param for key, param in self.format.items() if param.exists_in(number)})

    def exists_in(self, number: tuple[int, int]) -> bool:
        return self.since <= number <= self.until


Grammar = Mapping[str, Param]
Table = Mapping[str, Param]


def text(max_length: int | None = None, **more: Any) -> Param:
    return Param("string", max_length=max_length, **more)


def integer(minimum: float | None = None, maximum: float | None = None, **more: Any) -> Param:
    return Param("integer", minimum=minimum, maximum=maximum, **more)


def number(minimum: float | None = None, maximum: float | None = None, **more: Any) -> Param:
    return Param("number", minimum=minimum, maximum=maximum, **more)


def boolean(**more: Any) -> Param:
    return Param("boolean", **more)


def one_of(*values: str, **more: Any) -> Param:
    return Param("string", enum=values, **more)


def matching(pattern: str, **more: Any) -> Param:
    return Param("string", pattern=pattern, **more)


def named(format: "str | Grammar", **more: Any) -> Param:
    return Param("string", format=format, **more)


def indexed(name: str, last: int, param: Param) -> dict[str, Param]:
    """net[n] → net0 … net31"""
    return {f"{name}{index}": param for index in range(last + 1)}
