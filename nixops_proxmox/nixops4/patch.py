"""JSON Patch (RFC 6902) on plain values: all or nothing."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from nixops_proxmox.errors import DeployError

_MISSING = object()


class BadPatch(DeployError):
    """The patch does not fit the document; nothing was changed."""

    exit_status = 2


def apply_patch(document: Any, patch: Sequence[Mapping[str, Any]]) -> Any:
    """A new document; the old one is not touched. Raises BadPatch."""
    result = copy.deepcopy(document)
    for number, operation in enumerate(patch):
        try:
            result = _apply(result, operation)
        except BadPatch as error:
            raise BadPatch(f"operation {number} of the patch: {error.message}") from error
    return result


def _apply(document: Any, operation: Mapping[str, Any]) -> Any:
    path = _pointer(operation, "path")
    match operation.get("op"):
        case "add":
            return _add(document, path, copy.deepcopy(_value(operation)))
        case "remove":
            return _remove(document, path)
        case "replace":
            _get(document, path)
            return _value(operation) if not path else _add(_remove(document, path), path, _value(operation))
        case "move":
            source = _pointer(operation, "from")
            if path[: len(source)] == source and path != source:
                raise BadPatch("a value cannot be moved into itself")
            value = _get(document, source)
            return _add(_remove(document, source), path, value)
        case "copy":
            return _add(document, path, copy.deepcopy(_get(document, _pointer(operation, "from"))))
        case "test":
            if not _same(_get(document, path), _value(operation)):
                raise BadPatch(f"the value at {operation['path']!r} is not the one that is expected")
            return document
        case other:
            raise BadPatch(f"unknown op {other!r}")


def _value(operation: Mapping[str, Any]) -> Any:
    if "value" not in operation:
        raise BadPatch("there is no value")
    return operation["value"]


def _pointer(operation: Mapping[str, Any], key: str) -> list[str]:
    """JSON Pointer (RFC 6901)."""
    text = operation.get(key)
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise BadPatch(f"{key} is not a JSON pointer: {text!r}")
    return [token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:]]


def _get(document: Any, path: Sequence[str]) -> Any:
    here = document
    for token in path:
        match here:
            case dict():
                here = here.get(token, _MISSING)
            case list():
                index = _index(here, token)
                here = here[index] if index < len(here) else _MISSING
            case _:
                here = _MISSING
        if here is _MISSING:
            raise BadPatch(f"there is nothing at /{'/'.join(path)}")
    return here


def _add(document: Any, path: Sequence[str], value: Any) -> Any:
    if not path:
        return value
    parent = _get(document, path[:-1])
    match parent:
        case dict():
            parent[path[-1]] = value
        case list():
            index = len(parent) if path[-1] == "-" else _index(parent, path[-1])
            if index > len(parent):
                raise BadPatch(f"the list ends before /{'/'.join(path)}")
            parent.insert(index, value)
        case _:
            raise BadPatch(f"what is at /{'/'.join(path[:-1])} has no members")
    return document


def _remove(document: Any, path: Sequence[str]) -> Any:
    _get(document, path)
    if not path:
        return None
    parent = _get(document, path[:-1])
    if isinstance(parent, list):
        del parent[_index(parent, path[-1])]
    else:
        del parent[path[-1]]
    return document


def _index(values: Sequence[Any], text: str) -> int:
    if not text.isascii() or not text.isdigit() or str(int(text)) != text:
        raise BadPatch(f"{text!r} is not an index of a list of {len(values)}")
    return int(text)


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 and true differ, 1 and 1.0 do not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
