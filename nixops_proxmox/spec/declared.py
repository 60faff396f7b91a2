"""The options of a model as plain data, of which Nix makes declarations: for each its type and its default."""

from collections.abc import Mapping
from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from nixops_proxmox.spec.names import options_of
from nixops_proxmox.spec.parse import takes_numbers
from nixops_proxmox.spec.values import FILE

Declared = dict[str, Any]

PLAIN = {bool: "bool", int: "int", float: "float"}


def declared(model: type[BaseModel]) -> Declared:
    """By option: `type` as nix/kinds.nix reads it, and `default` where it need not be set."""
    return {name: _option(model, field) for name, field in sorted(options_of(model).items())}


def _option(model: type[BaseModel], field: str) -> Declared:
    info = model.model_fields[field]
    kind = {"either": [{"name": "int"}, {"name": "str"}]} if takes_numbers(model, field) else _type(info.annotation)
    kind = {"name": "file"} if FILE in info.metadata else kind
    if info.is_required():
        return {"type": kind}
    default = _plain(info.get_default(call_default_factory=True))
    return {"type": {"null": kind} if default is None and "null" not in kind else kind, "default": default}


def _type(annotation: Any) -> Declared:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        others = [one for one in inner if one is not NoneType]
        kind = _type(others[0]) if len(others) == 1 else {"name": "str"}  # addresses of two families
        return {"null": kind} if NoneType in inner else kind
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is tuple:
        return {"list": _type(inner[0])}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"attrs": _type(inner[1])}
    return _of_class(annotation)


def _of_class(annotation: Any) -> Declared:
    """Text, and all that is written as text: addresses, names, patterns."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {"submodule": declared(annotation)}
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return {"enum": [one.value for one in annotation]}
    return {"name": PLAIN.get(annotation, "str")}


def _plain(default: object) -> object:
    match default:
        case BaseModel():
            return {}
        case StrEnum():
            return default.value
        case tuple():
            return [_plain(one) for one in default]
        case Mapping():
            return {name: _plain(one) for name, one in default.items()}
    return default
