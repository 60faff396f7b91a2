"""Pydantic's errors in our words: the option's path, what was expected, and what was there."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from nixops_proxmox.spec.names import option_name
from nixops_proxmox.spec.tree import below, nearest, show

_KINDS = {
    "int": "an integer",
    "string": "a string",
    "bool": "true or false",
    "float": "a number",
    "tuple": "a list",
    "list": "a list",
    "mapping": "an attribute set",
    "dict": "an attribute set",
    "model": "an attribute set",
    "finite": "a number",
    "enum": "a string",
}
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
}
_HIDDEN = ("extra", "serverUrl", "text")  # values that might hold a secret are not repeated


def explain(error: ValidationError, path: str, places: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(path, text) for each error. `places`: the paths of those fields that were written."""
    seen: set[str] = set()
    for detail in error.errors(include_url=False):
        if detail["type"] == "missing" and str(detail["loc"][0]) in places:  # it was written, and told to be wrong
            continue
        where = _path(detail["loc"], path, places)
        if where in seen:  # the other arms of a union say the same again
            continue
        seen.add(where)
        yield where, _text(dict(detail), hidden=_is_hidden(detail["loc"]))


def _is_hidden(loc: tuple[int | str, ...]) -> bool:
    return bool(loc) and option_name(str(loc[0])) in _HIDDEN


def _path(loc: tuple[int | str, ...], path: str, places: Mapping[str, str]) -> str:
    if not loc:
        return path
    first, *rest = loc
    where = places.get(str(first)) or below(path, option_name(str(first)))
    for step in rest:
        if isinstance(step, int):
            where += f"[{step}]"
        elif step in ("str", "int", "bool", "[key]"):  # the arm of a union, not a place
            break
        else:
            where = below(where, step)
    return where


def _text(detail: Mapping[str, Any], *, hidden: bool) -> str:
    kind, context = str(detail["type"]), detail.get("ctx", {})
    got = "" if hidden else f", got {show(detail['input'])}"
    if kind == "missing":
        return "must be set"
    if kind == "value_error":
        return f"{context['error']}{got}"
    if kind in ("literal_error", "enum"):
        words = str(context["expected"]).replace("'", "")
        known = words.replace(" or ", ", ").split(", ")
        return f"expected {words}{got}{nearest(str(detail['input']), known)}"
    if kind in _BOUNDS:
        word, bound = _BOUNDS[kind]
        return f"expected {word} {context[bound]}{got}"
    expected = _KINDS.get(kind.partition("_")[0])
    return f"expected {expected}{got}" if expected else f"{detail['msg']}{got}"
