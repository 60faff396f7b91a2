"""Values as Nix writes them."""

import re
from collections.abc import Iterator, Mapping, Sequence

from nixops_proxmox.texts import nix_string

WIDE = 100  # characters of a set on one line
_WORDS = frozenset({"assert", "else", "if", "in", "inherit", "let", "or", "rec", "then", "with"})


def as_nix(value: object, indent: str = "") -> str:
    """JSON-like data as a Nix expression. `indent`: of the line that it begins on."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, Mapping):
        return _set(value, indent)
    if isinstance(value, Sequence):
        return f"[ {' '.join(as_nix(item, indent) for item in value)} ]" if value else "[ ]"
    raise TypeError(f"Nix has no such value: {value!r}")


def _set(value: Mapping[object, object], indent: str) -> str:
    if not value:
        return "{ }"
    flat = f"{{ {' '.join(_entries(value, indent))} }}"
    nested = any(isinstance(item, Mapping) for item in value.values())
    if not nested and len(indent) + len(flat) <= WIDE and len(value) <= 4:
        return flat
    deeper = indent + "  "
    lines = "".join(f"{deeper}{entry}\n" for entry in _entries(value, deeper))
    return f"{{\n{lines}{indent}}}"


def _entries(value: Mapping[object, object], indent: str) -> Iterator[str]:
    for name, item in value.items():
        yield f"{_name(str(name))} = {as_nix(item, indent)};"


def _name(name: str) -> str:
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_'-]*", name) is not None and name not in _WORDS
    return name if plain else _text(name)


def _text(text: str) -> str:
    return nix_string(text).replace("\n", "\\n")
