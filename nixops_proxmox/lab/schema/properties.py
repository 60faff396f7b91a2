"""Property strings (`local-lvm:32,discard=on`): parsed by a grammar, and printed as PVE prints them."""

import re
from collections.abc import Mapping

from nixops_proxmox.lab.schema.types import Grammar, Param

TRUE = re.compile(r"^(1|on|yes|true)$", re.IGNORECASE)
FALSE = re.compile(r"^(0|off|no|false)$", re.IGNORECASE)


class Malformed(Exception):
    """The string is not one of this grammar at all; the text is PVE's."""


def parse(grammar: Grammar, value: str) -> dict[str, str]:
    """Keys and values, aliases resolved, booleans as 1/0; nothing is checked against the grammar's types yet."""
    found: dict[str, str] = {}
    default = next((key for key, param in grammar.items() if param.default_key), None)
    for part in value.split(","):
        if not part.strip():
            continue
        key, equals, text = part.partition("=")
        if not equals:
            if default is None:
                raise Malformed("value without key, but schema does not define a default key\n")
            key, text = default, part
        elif not key or not text:
            raise Malformed("missing key in comma-separated list property\n")
        key, text = _resolve(grammar, key, text, found)
        if key in found:
            raise Malformed(f"duplicate key in comma-separated list property: {key}\n")
        found[key] = text
    return found


def _resolve(grammar: Grammar, key: str, text: str, found: dict[str, str]) -> tuple[str, str]:
    param = grammar.get(key)
    if param is None:
        return key, text
    if param.alias:
        if param.key_alias:
            if param.key_alias in found:
                raise Malformed(f"duplicate key in comma-separated list property: {param.key_alias}\n")
            found[param.key_alias] = key
        key, param = param.alias, grammar[param.alias]
    return key, _boolean(param, text)


def _boolean(param: Param, text: str) -> str:
    if param.kind != "boolean":
        return text
    if TRUE.match(text):
        return "1"
    return "0" if FALSE.match(text) else text


def format_properties(values: Mapping[str, str], default: str) -> str:
    """The default key's value bare and first, then the others by name."""
    rest = [f"{key}={values[key]}" for key in sorted(values) if key != default]
    return ",".join([values[default], *rest] if default in values else rest)


def split(value: str, default: str = "") -> dict[str, str]:
    """A loose reading of a stored property string: what has no `=` goes under `default`."""
    found: dict[str, str] = {}
    for part in value.split(","):
        key, equals, text = part.partition("=")
        if equals:
            found[key] = text
        elif part.strip():
            found[default] = part
    return found
